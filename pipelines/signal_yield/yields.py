"""How many bits each source tells about how a trace went, per episode and per 1,000 tokens.

Bits are the mutual information of what the source says, silence included, with what a person said who was asked at
random, or with a verified outcome. Both are noisy readings of the quality itself, so by the data processing inequality
this is a lower bound of what the source tells about it; sources are comparable where their reference is the same.
Information is taken within agents: that one agent is better and has other sources tells nothing of its single traces.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from pipelines.signal_yield import sources
from pipelines.signal_yield.information import Information, within_strata
from pipelines.signal_yield.sources import SOLICITED, VERIFIED
from pipelines.stats.contract import require
from store.errors import SettingsError
from store.signal_yield import TRACES, YIELDS

__all__ = ["ESTIMATOR", "YIELDS", "YieldConfig", "measure"]

ESTIMATOR: Final = "plug-in mutual information, Miller-Madow; users bootstrapped"


@dataclass(frozen=True)
class YieldConfig:
    """From how many traces with a reference and with the source something is said, and the size of the bootstrap."""

    min_traces: int = 200
    min_present: int = 30
    replicates: int = 400

    def __post_init__(self) -> None:
        if self.min_traces < 2 or self.min_present < 1 or self.replicates < 100:
            limits = (self.min_traces, self.min_present, self.replicates)
            raise SettingsError("signal_yield min_traces, min_present, replicates", limits, "at least 2, 1 and 100")


def measure(traces: pl.DataFrame, said: pl.DataFrame, config: YieldConfig, random: np.random.Generator) -> pl.DataFrame:
    """The yield of every source, for each agent and over all of them (columns YIELDS), most bits first.

    `traces` has the columns TRACES (tokens null where unknown), `said` those of `sources.SIGNALS`. Sources with too
    few traces are listed with the reason and no number. Raises ContractError for wrong frames.
    """
    traces = require(traces, TRACES, "traces", not_null=["trace_id"], unique="trace_id")
    gold = sources.references(said)
    coded = sources.codes(said).join(traces.select("trace_id", "agent"), on="trace_id")
    base = gold.join(traces, on="trace_id").with_columns(
        user=pl.coalesce("user_id", "trace_id").rank("dense").cast(pl.Int64),
    )
    rows: list[dict[str, Any]] = []
    agents: list[str | None] = [None, *sorted(traces["agent"].drop_nulls().unique().to_list())]
    for agent in agents:
        own = traces if agent is None else traces.filter(agent=agent)
        speaking = coded if agent is None else coded.filter(agent=agent)
        # The mean over episodes with known tokens: a ratio of totals would let long episodes without signals count.
        tokens = own["tokens"].mean()
        for source in speaking["source"].unique().sort().to_list():
            said_by = speaking.filter(source=source).select("trace_id", "code")
            reference = _reference(base, agent, source, said_by)
            held = base.filter(reference=reference)
            held = held if agent is None else held.filter(agent=agent)
            rows.append(_row(agent, source, reference, held, said_by, own.height, tokens, config, random))
    frame = pl.DataFrame(rows, schema=YIELDS)
    return frame.sort("agent", "bits", "source", descending=[False, True, False], nulls_last=[False, True, True])


def _reference(base: pl.DataFrame, agent: str | None, source: str, said_by: pl.DataFrame) -> str:
    """What the source is held against: the reference with more traces in which the source speaks, never itself."""
    if source in (SOLICITED, VERIFIED):
        return VERIFIED if source == SOLICITED else SOLICITED
    held = base if agent is None else base.filter(agent=agent)
    both = held.join(said_by, on="trace_id", how="semi").group_by("reference").len()
    found = dict(both.iter_rows())
    return SOLICITED if found.get(SOLICITED, 0) >= found.get(VERIFIED, 0) else VERIFIED


def _row(
    agent: str | None,
    source: str,
    reference: str,
    held: pl.DataFrame,
    said_by: pl.DataFrame,
    traces: int,
    tokens: Any,
    config: YieldConfig,
    random: np.random.Generator,
) -> dict[str, Any]:
    pairs = held.join(said_by, on="trace_id", how="left").with_columns(pl.col("code").fill_null(0)).sort("trace_id")
    present = int((pairs["code"] > 0).sum())
    row: dict[str, Any] = {
        "agent": agent, "source": source, "reference": reference, "share": said_by.height / max(traces, 1),
        "n": pairs.height, "present": present, "users": pairs["user"].n_unique(), "estimator": ESTIMATOR,
    }  # fmt: skip
    reason = _too_little(pairs, present, reference, config)
    if reason is not None:
        return {**row, "reason": reason}
    arrays = {
        "x": pairs["code"].to_numpy(),
        "y": pairs["good"].to_numpy(),
        "stratum": pairs["agent"].fill_null("").rank("dense").cast(pl.Int64).to_numpy() - 1,
        "user": pairs["user"].to_numpy(),
    }
    found = within_strata(**arrays, replicates=config.replicates, random=random)
    spoke = (pairs["code"] > 0).cast(pl.Int64).to_numpy()
    alone = within_strata(**arrays, replicates=0, random=random, present=spoke)
    return {**row, **_numbers(found, alone, tokens)}


def _numbers(found: Information, alone: Information, tokens: Any) -> dict[str, Any]:
    limits = (None, None) if np.isnan(found.lower) else (found.lower, found.upper)
    scale = 1000.0 / tokens if tokens else None
    return {
        "bits": found.bits,
        "lower": limits[0],
        "upper": limits[1],
        "when_present": alone.bits,
        "per_thousand_tokens": None if scale is None else found.bits * scale,
        "thousand_lower": None if scale is None or limits[0] is None else limits[0] * scale,
        "thousand_upper": None if scale is None or limits[1] is None else limits[1] * scale,
        "reason": None if limits[0] is not None else "one user: no interval",
    }


def _too_little(pairs: pl.DataFrame, present: int, reference: str, config: YieldConfig) -> str | None:
    if pairs.height < config.min_traces:
        return f"{pairs.height} of {config.min_traces} traces with {reference}"
    if present < config.min_present:
        return f"{present} of {config.min_present} traces with this source and {reference}"
    if pairs["good"].n_unique() < 2:
        return f"every {reference} is {'good' if pairs['good'][0] else 'bad'}"
    return None
