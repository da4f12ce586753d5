"""Which state of the model an abstract step is: its own, or a coarser one that it shares with other rare steps.

An abstract step has a line of ever coarser labels: with arguments and retries, without arguments, without retries,
any step of its kind, any other step. A state with fewer than `rare` visits folds into the next coarser one, until
every state has enough or nothing coarser is left, and then until an agent has at most `most` states.
"""

import json
from dataclasses import dataclass

import polars as pl

__all__ = ["LEVELS", "AbstractionConfig", "Folded", "action_of", "fold", "labels"]

LEVELS = 5
_RETRIES = {0: "", 1: ", again", 2: ", again and again"}
_ENDS = {"success": "SUCCESS", "failure": "FAILURE", "ended": "ENDED"}


@dataclass(frozen=True)
class AbstractionConfig:
    """States with fewer than `rare` visits are folded; an agent has at most `most` states beside start and ends."""

    rare: int = 20
    most: int = 500

    def __post_init__(self) -> None:
        if self.rare < 1 or self.most < 1:
            raise ValueError(f"rare and most must be at least 1, came {self.rare} and {self.most}")


@dataclass(frozen=True)
class Folded:
    """The states of one agent.

    `states` has place (from 1), label, action (the label without status, arguments and retries), kind, failed, again
    (Booleans that hold for all steps of the state) and visits; `of` maps each abstract step `state` to its `place`.
    """

    states: pl.DataFrame
    of: pl.DataFrame


def labels(states: pl.DataFrame) -> pl.DataFrame:
    """One row per abstract step of `states` (columns state, kind, name, failed, arguments, retries): its labels.

    Columns level0 (finest) to level4 (coarsest), action, kind, failed, again and state.
    """
    rows = [
        (state, *_line(kind, name, failed, arguments, retries), action_of(kind, name), kind, failed, retries > 0)
        for state, kind, name, failed, arguments, retries in states.select(
            "state", "kind", "name", "failed", "arguments", "retries"
        ).iter_rows()
    ]
    schema = {
        "state": pl.UInt64(),
        **{f"level{level}": pl.String() for level in range(LEVELS)},
        "action": pl.String(),
        "kind": pl.String(),
        "failed": pl.Boolean(),
        "again": pl.Boolean(),
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def action_of(kind: str, name: str | None) -> str:
    """What an agent chose to do: "model call", the tool's name, or the kind of span with its name."""
    if kind == "llm":
        return "model call"
    if kind == "tool":
        return name or "unnamed tool"
    return f"{kind} {name}" if name else kind


def fold(visits: pl.DataFrame, labelled: pl.DataFrame, config: AbstractionConfig | None = None) -> Folded:
    """The states of one agent from `visits` (state, n) and the labels of its abstract steps (see `labels`).

    Steps that `labelled` does not name are left out. States are ordered by visits, then by label.
    """
    config = config or AbstractionConfig()
    frame = labelled.join(visits.select("state", "n"), on="state", how="inner").with_columns(
        level=pl.lit(0, dtype=pl.Int32)
    )
    rare = config.rare
    while True:
        frame = _at_level(frame)
        total = pl.col("n").sum().over("label")
        frame = frame.with_columns(low=(total < rare) & (pl.col("level") < LEVELS - 1))
        if frame["low"].any():
            frame = frame.with_columns(level=pl.col("level") + pl.col("low").cast(pl.Int32))
        elif frame["label"].n_unique() <= config.most or bool((frame["level"] == LEVELS - 1).all()):
            break
        else:
            rare *= 2
    states = (
        frame.group_by("label")
        .agg(
            visits=pl.col("n").sum(),
            action=pl.when(pl.col("action").n_unique() == 1).then(pl.col("action").first()),
            kind=pl.when(pl.col("kind").n_unique() == 1).then(pl.col("kind").first()),
            failed=pl.col("failed").all(),
            again=pl.col("again").all(),
        )
        .sort(["visits", "label"], descending=[True, False])
        .with_columns(
            place=pl.int_range(1, pl.len() + 1, dtype=pl.Int32),
            action=pl.coalesce("action", pl.format("any other {}", pl.coalesce("kind", pl.lit("step")))),
        )
    )
    return Folded(
        states, frame.join(states.select("label", "place"), on="label").select("state", "place").sort("state")
    )


def _at_level(frame: pl.DataFrame) -> pl.DataFrame:
    chosen = pl.col("level0")
    for level in range(1, LEVELS):
        chosen = pl.when(pl.col("level") == level).then(pl.col(f"level{level}")).otherwise(chosen)
    return frame.with_columns(label=chosen)


def _line(kind: str, name: str | None, failed: bool, arguments: str | None, retries: int) -> tuple[str, ...]:
    action = action_of(kind, name)
    status = ", failed" if failed else ""
    again = _RETRIES.get(retries, "")
    detail = "" if not arguments else f" {arguments}" if kind == "llm" else f" ({_readable(arguments)})"
    return (
        f"{action}{detail}{status}{again}",
        f"{action}{status}{again}",
        f"{action}{status}",
        f"any other {kind}{status}",
        "any other step",
    )


def _readable(arguments: str) -> str:
    """A class of arguments as people read it: city: text, nights: number."""
    try:
        shape = json.loads(arguments)
    except ValueError:
        return arguments
    if not isinstance(shape, dict):
        return shape if isinstance(shape, str) else "list"
    return ", ".join(f"{key}: {_type_name(value)}" for key, value in shape.items())


def _type_name(shape: object) -> str:
    return "object" if isinstance(shape, dict) else "list" if isinstance(shape, list) else str(shape)
