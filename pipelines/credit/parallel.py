"""Spans that ran at once: their joint credit, divided among them without regard to which happened to end first.

Children of one parent that overlap in time are the members of a game. A coalition is worth the value of the state in
which the trace would be had only its members' steps been taken (in their order); nobody is worth the value before the
first of them, all together what the trace was worth after the last. Members' shares are Shapley values, exact for up
to eight members, so they sum to the credit of all their steps.
"""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.credit import shapley
from pipelines.credit.steps import MOST_ERRORS, Prefixes, spend_bucket, step_bucket
from store.credit import PARALLEL

if TYPE_CHECKING:
    from pipelines.credit.credits import Credited

__all__ = ["PARALLEL", "SHARES", "Coalitions", "coalitions", "extended", "shares"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SHARES = pl.Schema(
    {
        "trace_no": pl.UInt32(),
        "parent_span_id": pl.String(),
        "span_id": pl.String(),
        "members": pl.Int32(),
        "credit": pl.Float64(),
        "exact": pl.Boolean(),
    }
)
_ORDERS = 50
_MOST_MEMBERS = 40


@dataclass(frozen=True)
class _Games:
    """Games with equally many members; arrays of shape (games, members) unless said otherwise, members by last step."""

    members: int
    begins: Ints  # (games,) index of the first step
    ends: Ints  # (games,) of the last
    last: Ints  # index of each member's last step
    steps: Ints
    failed: Ints
    flags: Ints
    used: NDArray[np.uint64]
    tokens: Floats
    cost: Floats
    names: list[tuple[str, list[str]]]  # parent and members
    joined: Bools  # (coalitions, members): those that are valued
    orders: Ints | None  # sampled orders of joining; None where every coalition is valued


@dataclass(frozen=True)
class Coalitions:
    """All games, and the states of their coalitions as prefixes of steps that were never taken."""

    games: list[_Games]
    states: Prefixes | None


def coalitions(before: Prefixes, parallel: pl.DataFrame, random: np.random.Generator) -> Coalitions:
    """The games among spans that ran at once (`parallel` of columns PARALLEL), with all coalitions to be valued.

    Left out are groups whose steps are mixed with those of others, and groups of more than forty members.
    """
    if parallel.is_empty() or not len(before):
        return Coalitions([], None)
    members = _members(before, parallel)
    games = []
    for (count,), own in members.group_by("members", maintain_order=True):
        games.append(_games(before, own, int(str(count)), random))
    parts = [_states(before, game) for game in games]
    return Coalitions(games, _concatenated(parts) if parts else None)


def extended(before: Prefixes, together: Coalitions) -> Prefixes:
    """The prefixes with those of the coalitions behind them."""
    return before if together.states is None else _concatenated([before, together.states])


def shares(credited: "Credited") -> pl.DataFrame:
    """Each member's share of the joint credit (columns SHARES), for traces that have credit."""
    before, values = credited.prefixes, credited.values.value
    frames = [pl.DataFrame(schema=SHARES)]
    start = 0
    for game in credited.coalitions.games:
        count = len(game.begins)
        size = count * len(game.joined)
        inner = credited.coalition_values[start : start + size].reshape(count, len(game.joined))
        start += size
        nobody = values[game.begins]
        following = values[np.minimum(game.ends + 1, len(values) - 1)]
        everybody = np.where(before.final[game.ends], credited.outcomes.mean[before.trace[game.ends]], following)
        credit = _divided(game, nobody, inner, everybody)
        kept = credited.kept[game.begins]
        frames.append(
            pl.DataFrame(
                {
                    "trace_no": np.repeat(before.trace[game.begins], game.members),
                    "parent_span_id": [parent for parent, _ in game.names for _ in range(game.members)],
                    "span_id": [member for _, listed in game.names for member in listed],
                    "members": np.full(credit.size, game.members),
                    "credit": credit.ravel(),
                    "exact": np.full(credit.size, game.orders is None),
                }
            )
            .filter(pl.Series(np.repeat(kept, game.members)))
            .cast(SHARES)
        )
    return pl.concat(frames)


def _members(before: Prefixes, parallel: pl.DataFrame) -> pl.DataFrame:
    """One row per member with what its steps were, of groups whose steps follow one another without others."""
    index = pl.DataFrame(
        {
            "trace_no": before.trace, "span_id": before.span_id, "index": np.arange(len(before)),
            "failed": before.failed, "repeated": before.variant % 2, "odd": before.odd, "bit": before.bit,
            "tokens": before.tokens, "cost": before.cost,
        }
    ).cast({"trace_no": pl.UInt32})  # fmt: skip
    group = ["trace_no", "parent_span_id", "batch"]
    rows = parallel.join(index, on=["trace_no", "span_id"], how="inner")
    return (
        rows.group_by(*group, "member")
        .agg(
            first=pl.col("index").min(), last=pl.col("index").max(), steps=pl.len().cast(pl.Int64),
            failed=pl.col("failed").sum(), repeated=pl.col("repeated").max(), odd=pl.col("odd").max(),
            used=pl.col("bit").bitwise_or(), tokens=pl.col("tokens").sum(), cost=pl.col("cost").sum(),
        )
        .sort(*group, "last", "member")
        .with_columns(
            members=pl.len().over(group).cast(pl.Int64),
            begins=pl.col("first").min().over(group),
            ends=pl.col("last").max().over(group),
            taken=pl.col("steps").sum().over(group),
        )
        .filter(
            (pl.col("ends") - pl.col("begins") + 1 == pl.col("taken"))
            & pl.col("members").is_between(2, _MOST_MEMBERS)
        )
    )  # fmt: skip


def _games(before: Prefixes, own: pl.DataFrame, members: int, random: np.random.Generator) -> _Games:
    def matrix(name: str) -> NDArray[np.generic]:
        return own[name].to_numpy().reshape(-1, members)

    listed = own["member"].to_list()
    parents = own["parent_span_id"].to_list()
    orders = None if members <= shapley.MOST_EXACT else shapley.draw_orders(members, random, _ORDERS)
    if orders is None:
        masks = np.arange(1, (1 << members) - 1)
        joined = (masks[:, None] >> np.arange(members)) & 1 == 1
    else:
        joined = shapley.coalitions(orders)[:, 1:-1].reshape(-1, members)
    return _Games(
        members=members,
        begins=matrix("begins")[:, 0].astype(np.int64),
        ends=matrix("ends")[:, 0].astype(np.int64),
        last=matrix("last").astype(np.int64),
        steps=matrix("steps").astype(np.int64),
        failed=matrix("failed").astype(np.int64),
        flags=(matrix("repeated").astype(np.int64) + 2 * matrix("odd").astype(np.int64)),
        used=matrix("used").astype(np.uint64),
        tokens=matrix("tokens").astype(np.float64),
        cost=matrix("cost").astype(np.float64),
        names=[(parents[at], listed[at : at + members]) for at in range(0, own.height, members)],
        joined=joined,
        orders=orders,
    )


def _states(before: Prefixes, game: _Games) -> Prefixes:
    """The state after each coalition's steps: entries in order of game, then coalition."""
    base = game.begins[:, None]
    flag = game.joined[None, :, :]

    def total(values: Ints | Floats) -> Floats:
        return np.asarray((values[:, None, :] * flag).sum(axis=2), dtype=np.float64)

    used = np.broadcast_to(before.used[base], (len(game.begins), len(game.joined))).copy()
    flags = np.broadcast_to(before.flags[base], used.shape).copy()
    for member in range(game.members):
        used |= np.where(flag[:, :, member], game.used[:, member, None], np.uint64(0))
        flags |= np.where(flag[:, :, member], game.flags[:, member, None], 0)
    # Members are in the order of their last steps: the last one that joined made the coalition's last step.
    latest = game.members - 1 - np.argmax(game.joined[:, ::-1], axis=1)
    last = game.last[:, latest].ravel()
    tokens = (before.tokens_before[base] + total(game.tokens)).ravel()
    cost = (before.cost_before[base] + total(game.cost)).ravel()
    position = (before.position[base] + total(game.steps)).ravel().astype(np.int64)
    origin = np.repeat(game.begins, len(game.joined))
    size = len(origin)
    return replace(
        _taken(before, origin),
        last=before.what[last],
        last_failed=before.failed[last],
        last_variant=before.variant[last],
        position=position,
        bucket=step_bucket(position),
        errors=np.minimum(before.errors[base] + total(game.failed), MOST_ERRORS).ravel().astype(np.int64),
        flags=flags.ravel(),
        used=used.ravel(),
        tokens_before=tokens,
        cost_before=cost,
        spend=spend_bucket(tokens, cost),
        first=np.zeros(size, dtype=bool),
        final=np.zeros(size, dtype=bool),
    )


def _divided(game: _Games, nobody: Floats, inner: Floats, everybody: Floats) -> Floats:
    if game.orders is None:
        return shapley.exact(np.concatenate([nobody[:, None], inner, everybody[:, None]], axis=1))
    count = len(game.orders)
    credit = np.empty((len(nobody), game.members))
    for at in range(len(nobody)):
        between = inner[at].reshape(count, game.members - 1)
        edge = np.full((count, 1), nobody[at]), np.full((count, 1), everybody[at])
        credit[at] = shapley.from_orders(game.orders, np.concatenate([edge[0], between, edge[1]], axis=1))
    return credit


_PER_STEP = [field.name for field in fields(Prefixes) if field.name not in ("names", "shapes", "agents", "span_id")]


def _taken(before: Prefixes, rows: Ints) -> Prefixes:
    columns: dict[str, Any] = {name: getattr(before, name)[rows] for name in _PER_STEP}
    return replace(before, **columns, span_id=before.span_id.gather(rows))


def _concatenated(parts: list[Prefixes]) -> Prefixes:
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _PER_STEP}
    return replace(parts[0], **columns, span_id=pl.concat([part.span_id for part in parts]))
