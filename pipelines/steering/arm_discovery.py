"""Arms that traces name: which there are, what they ran, and which is the usual one."""

import json
from dataclasses import dataclass

import polars as pl

from pipelines.stats.contract import require
from store.arm_rewards import RUN
from store.arms import FOUND, clean_name, unusable
from store.frames import each

__all__ = ["Discovered", "discover"]

_NAMED = 5  # spellings and refused names that a note lists


@dataclass(frozen=True)
class Discovered:
    """`arms` (columns `store.arms.FOUND`), and `notes` on names that are one arm or cannot be one."""

    arms: pl.DataFrame
    notes: tuple[str, ...]


def discover(run: pl.DataFrame) -> Discovered:
    """The arms of traces (columns `store.arm_rewards.RUN`).

    Spellings that are the same once cleaned are one arm, defined by what its newest trace ran. The usual one has the
    most traces of the agent's newest days, of equals the first by name.
    """
    run = require(run, RUN, "arms in traces")
    named = run.with_columns(each(run["arm"], clean_name, pl.String).alias("name"))
    refused = named.filter(
        pl.any_horizontal(
            each(named[column], lambda text: unusable(text) is not None, pl.Boolean) for column in ("agent", "name")
        )
    )
    usable = named.join(refused.select("agent", "arm"), on=["agent", "arm"], how="anti")
    merged = (
        usable.sort("agent", "name", "latest", "arm")
        .group_by("agent", "name", maintain_order=True)
        .agg(
            pl.col("recent", "traces").sum(),
            pl.col("model", "agent_version", "prompt_version").last(),
            spellings=pl.col("arm"),
        )
        .sort("agent", "recent", "traces", "name", descending=[False, True, True, False])
        .with_columns(usual=pl.int_range(pl.len()).over("agent") == 0)
    )
    versions = pl.coalesce("prompt_version", "agent_version")
    several = merged.with_columns(
        versions=versions.n_unique().over("agent"), models=pl.col("model").n_unique().over("agent")
    ).with_columns(
        kind=pl.when((pl.col("models") > 1) & (pl.col("versions") == 1))
        .then(pl.lit("model"))
        .when((pl.col("versions") > 1) & (pl.col("models") == 1))
        .then(pl.lit("prompt"))
        .otherwise(pl.lit("mixed"))
    )
    rows = [
        {
            "agent": row["agent"], "arm": row["name"], "kind": row["kind"], "usual": row["usual"],
            "definition": _definition(row["model"], row["agent_version"], row["prompt_version"]),
        }
        for row in several.to_dicts()
    ]  # fmt: skip
    return Discovered(pl.DataFrame(rows, schema=FOUND), (*_spellings(merged), *_refusals(refused)))


def _definition(model: str | None, agent_version: str | None, prompt_version: str | None) -> str:
    ran = {"model": model, "agent_version": agent_version, "prompt_version": prompt_version}
    return json.dumps({name: value for name, value in ran.items() if value is not None}, sort_keys=True)


def _spellings(merged: pl.DataFrame) -> list[str]:
    twice = merged.filter(pl.col("spellings").list.len() > 1)
    return [
        f"{row['agent']}: {', '.join(map(repr, row['spellings'][:_NAMED]))} are one arm, {row['name']!r}"
        for row in twice.to_dicts()
    ]


def _refusals(refused: pl.DataFrame) -> list[str]:
    if refused.is_empty():
        return []
    listed = ", ".join(repr(name[:50]) for name in refused["arm"].head(_NAMED))
    more = f" and {refused.height - _NAMED} more" if refused.height > _NAMED else ""
    return [f"names that cannot be an arm's: {listed}{more}"]
