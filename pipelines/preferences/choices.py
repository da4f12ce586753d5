"""From logged impressions and clicks to lists that people chose from, corrected for where an item was shown.

A list is what was shown with one trace. An agent whose lists are hardly ever clicked more than once lets people choose
one item or none; its positions get constants of their own (a logit). Otherwise each item is taken or left by itself,
and P(click) = P(position is looked at) x P(item is wanted): the first factor comes from the click model
(`pipelines.stats.click_model`).
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.preferences import features as named
from pipelines.preferences.choice_likelihood import Choices
from pipelines.preferences.features import Dropped
from pipelines.stats import click_model
from pipelines.stats.contract import FitRefused

__all__ = ["MINIMUM_CHOSEN", "MINIMUM_LISTS", "Lists", "reconstruct"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SEVERAL: Final = 0.01  # share of an agent's chosen-from lists with two or more items chosen that makes it "pick any"
_SMALLEST_SEGMENT: Final = 100  # people; smaller segments share the prior of everyone else
_LOWEST_EXAMINATION: Final = 0.02
MINIMUM_LISTS: Final = 100
MINIMUM_CHOSEN: Final = 30


@dataclass(frozen=True)
class Lists:
    """Choices ready to fit, and what is needed to read the result.

    `choices.features` are standardised: (value - centre) / scale. `user_ids`, `lists` and `picked` are per person: how
    many lists they saw and how many items they chose; `segments` names the codes of `choices.segment`, None for
    everyone in no large segment. `mean_features` has one row a trace for the regression of ratings.
    """

    choices: Choices
    features: list[str]
    centre: Floats
    scale: Floats
    user_ids: list[str]
    lists: Ints
    picked: Ints
    segments: list[str | None]
    mean_features: pl.DataFrame
    dropped: list[Dropped]
    agents: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)


def reconstruct(
    shown: pl.DataFrame,
    available: dict[str, list[str | None]],
    segments: pl.DataFrame,
    *,
    dropped: list[Dropped] | None = None,
) -> Lists:
    """Lists from the rows of `store.preferences.shown_sets`, its `feature_<i>` in the order of `available`.

    Args: `available` features and the agents that state them; `segments` as `store.preferences.USER_SEGMENTS`.
    Raises: `FitRefused` with reason no_lists, no_features, too_few_lists, nothing_chosen, everything_chosen, one_user.
    """
    _require(shown.height > 0, "no_lists", "No list of items was shown to a known person.")
    _require(bool(available), "no_features", "No shown item states a number in its metadata.")
    notes = _notes(shown)
    kinds = _kinds(shown)
    shown = _without_double_choices(
        shown.join(kinds, on="agent", how="left", nulls_equal=True, maintain_order="left"), notes
    )
    lists = shown["trace_id"].n_unique()
    picked = int(shown["chosen"].sum())
    _require(lists >= MINIMUM_LISTS, "too_few_lists", f"{lists} lists were shown; {MINIMUM_LISTS} are needed.")
    _require(
        picked >= MINIMUM_CHOSEN, "nothing_chosen", f"{picked} items were chosen; at least {MINIMUM_CHOSEN} are needed."
    )
    _require(picked < shown.height, "everything_chosen", "Every shown item was chosen: nothing sets one apart.")
    _require(shown["user_id"].n_unique() > 1, "one_user", "All lists were shown to one person; two are needed to pool.")

    codes = _codes(shown)
    names = list(available)
    values, present = _values(shown, [available[name] for name in names])
    kept, unidentified = named.drop_unidentified(names, values, codes.cell)
    names, values, present = [names[k] for k in kept], values[:, kept], present[:, kept]
    _require(bool(names), "no_features", "No feature of the shown items differs between the items of a list.")
    kept, weak = named.keep_strongest(names, values, shown["chosen"].to_numpy(), codes.cell)
    names, values, present = [names[k] for k in kept], values[:, kept], present[:, kept]
    centre, scale = _moments(values, present)
    standardised = np.where(present, (values - centre) / scale, 0.0)

    examination, described = _examination(shown, codes, notes)
    users, segment, segment_names = _people(shown, segments)
    choices = Choices(
        features=np.column_stack([standardised, np.ones(shown.height)]),
        user=codes.user,
        shown=codes.shown,
        chosen=shown["chosen"].to_numpy(),
        any_number=shown["any_number"].to_numpy(),
        examination=examination,
        place=np.column_stack([codes.cell, codes.place]),
        places=codes.places,
        segment=segment,
    )
    return Lists(
        choices=choices,
        features=names,
        centre=centre,
        scale=scale,
        user_ids=users,
        lists=np.bincount(codes.user[_first(codes.shown)], minlength=len(users)).astype(np.int64),
        picked=np.bincount(codes.user, weights=choices.chosen, minlength=len(users)).astype(np.int64),
        segments=segment_names,
        mean_features=_per_trace(shown, names, np.where(present, values, centre)),
        dropped=[*(dropped or []), *unidentified, *weak],
        agents=described,
        notes=notes,
    )


@dataclass(frozen=True)
class _Codes:
    """Numbers for people, lists and constants: `cell` of (agent, arm), `place` of a position, -1 for none."""

    user: Ints
    shown: Ints
    cell: Ints
    place: Ints
    places: int


def _require(condition: bool, reason: str, text: str) -> None:
    if not condition:
        raise FitRefused("weights of what people value", reason, text)


def _kinds(shown: pl.DataFrame) -> pl.DataFrame:
    """Per agent: whether people choose any number of items of a list."""
    per_list = shown.group_by("agent", "trace_id").agg(pl.col("chosen").sum().alias("picked"))
    return per_list.group_by("agent").agg(
        ((pl.col("picked") > 1).sum() > _SEVERAL * (pl.col("picked") > 0).sum()).alias("any_number")
    )


def _without_double_choices(shown: pl.DataFrame, notes: list[dict[str, Any]]) -> pl.DataFrame:
    """Without the few lists in which two items were chosen although the agent's people choose one."""
    double = (pl.col("chosen").sum().over("trace_id") > 1) & ~pl.col("any_number")
    left = shown.filter(~double)
    if left.height < shown.height:
        lost = shown.filter(double)["trace_id"].n_unique()
        notes.append({"reason": "several_chosen", "n": lost, "text": "lists with two choices where one is usual"})
    return left


def _notes(shown: pl.DataFrame) -> list[dict[str, Any]]:
    """What is wrong with the log, by name: propensities that are missing or none, positions that are missing."""
    propensity = pl.col("propensity")
    counted = shown.select(
        missing_propensity=propensity.is_null().sum(),
        impossible_propensity=(~propensity.is_between(0.0, 1.0, closed="right") | propensity.is_nan()).sum(),
        missing_position=pl.col("position").is_null().sum(),
    ).row(0, named=True)
    texts = {
        "missing_propensity": "items shown without a propensity: their positions are corrected by model only",
        "impossible_propensity": "items with a propensity that is not above 0 and at most 1: taken as missing",
        "missing_position": "items shown without a position: taken as looked at for sure",
    }
    return [{"reason": reason, "n": n, "text": texts[reason]} for reason, n in counted.items() if n]


def _codes(shown: pl.DataFrame) -> _Codes:
    user = _runs(shown["user_id"])
    trace = _runs(shown["trace_id"])
    changed = np.diff(user, prepend=-1) + np.diff(trace, prepend=-1) > 0
    cell, cells = _dense(shown.select("agent", "arm"))
    competing = ~shown["any_number"].to_numpy() & (shown["position"].fill_null(1) > 1).to_numpy()
    place = np.full(shown.height, -1, dtype=np.int64)
    positions = 0
    if competing.any():
        place[competing], positions = _dense(shown.filter(pl.Series(competing)).select("agent", "position"))
        place[competing] += cells
    return _Codes(user=user, shown=np.cumsum(changed) - 1, cell=cell, place=place, places=cells + positions)


def _runs(column: pl.Series) -> Ints:
    """Numbers of the runs of equal values, from 0."""
    return column.rle_id().cast(pl.Int64).to_numpy()


def _dense(frame: pl.DataFrame) -> tuple[Ints, int]:
    """A number for each distinct row, from 0 in the order of their first occurrence, and how many there are."""
    distinct = frame.unique(maintain_order=True).with_row_index("code")
    joined = frame.join(distinct, on=frame.columns, how="left", nulls_equal=True, maintain_order="left")
    return joined["code"].cast(pl.Int64).to_numpy(), distinct.height


def _values(shown: pl.DataFrame, agents: list[list[str | None]]) -> tuple[Floats, NDArray[np.bool_]]:
    """Features of each item and where they are stated; the mean of its column stands in for one that is not."""
    columns, present = [], []
    for place, own in enumerate(agents):
        stated = pl.when(pl.col("agent").is_in(own, nulls_equal=True)).then(pl.col(f"feature_{place}"))
        column = shown.select(stated.alias("value"))["value"]
        present.append(column.is_not_null().to_numpy())
        mean = column.mean()
        columns.append(column.fill_null(mean if isinstance(mean, float) else 0.0).to_numpy())
    return np.column_stack(columns).astype(np.float64), np.column_stack(present)


def _moments(values: Floats, present: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    count = np.maximum(present.sum(axis=0), 1)
    centre = np.where(present, values, 0.0).sum(axis=0) / count
    scale = np.sqrt(np.where(present, (values - centre) ** 2, 0.0).sum(axis=0) / count)
    return centre, scale


def _examination(
    shown: pl.DataFrame, codes: _Codes, notes: list[dict[str, Any]]
) -> tuple[Floats, list[dict[str, Any]]]:
    """P(looked at) of each item of "pick any" agents, and what is known of each agent's lists."""
    examination = np.ones(shown.height)
    described: list[dict[str, Any]] = []
    numbered = shown.with_row_index("row").with_columns(user_code=pl.Series(codes.user))
    for (agent,), own in numbered.group_by("agent", maintain_order=True):
        several = bool(own["any_number"][0])
        entry: dict[str, Any] = {
            "agent": agent, "kind": "pick any" if several else "choose one", "items": own.height,
            "lists": own["trace_id"].n_unique(), "chosen": int(own["chosen"].sum()), "positions": [],
            "basis": "constants of positions" if not several else None,
        }  # fmt: skip
        described.append(entry)
        placed = own.filter(pl.col("position").is_not_null())
        if not several or placed["position"].n_unique() < 2:
            continue
        try:
            model = click_model.fit(
                placed["item"].fill_null("").rank("dense").cast(pl.Int64).to_numpy() - 1,
                placed["position"].cast(pl.Int64).to_numpy(),
                placed["chosen"].to_numpy(),
                users=placed["user_code"].to_numpy(),
                randomised=placed["propensity"].is_between(0.0, 1.0, closed="none").fill_null(False).to_numpy(),
            )
        except FitRefused as refused:
            entry["basis"] = None
            text = f"items whose positions are not corrected, since {refused.detail}"
            notes.append({"reason": f"no_click_model:{refused.reason}", "n": own.height, "text": text})
            continue
        looked = np.clip(model.examination, _LOWEST_EXAMINATION, 1.0)
        at = np.searchsorted(model.positions, placed["position"].cast(pl.Int64).to_numpy())
        examination[placed["row"].to_numpy()] = looked[np.minimum(at, len(looked) - 1)]
        entry["basis"] = model.basis
        entry["positions"] = [
            {"position": int(position), "examination": float(e), "lower": float(low), "upper": float(high)}
            for position, e, low, high in zip(model.positions, looked, model.lower, model.upper, strict=True)
        ]
    return examination, described


def _people(shown: pl.DataFrame, segments: pl.DataFrame) -> tuple[list[str], Ints, list[str | None]]:
    """The people in order, the code of each one's segment, and what the codes mean."""
    people = shown.select("user_id").unique(maintain_order=True).join(
        segments, on="user_id", how="left", maintain_order="left"
    )  # fmt: skip
    sizes = people.drop_nulls("segment").group_by("segment").len().filter(pl.col("len") >= _SMALLEST_SEGMENT)
    large: list[str | None] = sorted(sizes["segment"].to_list())
    codes = {name: code for code, name in enumerate(large)}
    own = [codes.get(name, -1) for name in people["segment"].to_list()]
    names = large
    if -1 in own:
        names = [*large, None]
        own = [len(large) if code < 0 else code for code in own]
    return people["user_id"].to_list(), np.array(own, dtype=np.int64), names


def _per_trace(shown: pl.DataFrame, names: list[str], values: Floats) -> pl.DataFrame:
    """The mean features of the items of each trace: columns trace_id and the features."""
    return (
        pl.DataFrame({"trace_id": shown["trace_id"], **{name: values[:, i] for i, name in enumerate(names)}})
        .group_by("trace_id", maintain_order=True)
        .mean()
    )


def _first(codes: Ints) -> Ints:
    return np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]])).astype(np.int64)
