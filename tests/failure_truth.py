"""A simulated deployment in a store with rewards near the truth, for tests of what is found in it."""

from pathlib import Path

import given_rewards
import numpy as np
import polars as pl

from pipelines.ingest import load as loader
from pipelines.simulate import Deployment, SimulationConfig, simulate, write
from store import links
from store.clock import FixedClock
from store.connection import Store

REWARD_SD = 0.7  # logits: how far an estimated reward is from what is true


def simulated(folder: Path, config: SimulationConfig) -> tuple[Deployment, Store]:
    """The deployment, loaded as a customer's files would be, with rewards of the true satisfaction blurred."""
    deployment = simulate(config)
    write(deployment, folder / "files")
    store = Store.open(folder / "trimtab.duckdb", clock=FixedClock(config.until), threads=2)
    for name in ("traces.csv", "spans.jsonl.gz", "signals.csv", "clicks.csv"):
        report = loader.load(store, folder / "files" / name)
        assert report.rejected == 0, (name, report)
    links.refresh(store)
    give_rewards(store, deployment)
    return deployment, store


def give_rewards(store: Store, deployment: Deployment) -> None:
    """A reward model whose rewards are the true satisfaction with an error of `REWARD_SD` logits."""
    random = np.random.default_rng(11)
    truth = deployment.truth_traces
    theta = truth["theta"].to_numpy() + random.normal(0.0, REWARD_SD, truth.height)
    rewards = pl.DataFrame({"trace_id": truth["trace_id"], "mean": 1.0 / (1.0 + np.exp(-theta))})
    given_rewards.give(store, rewards)


def scored(labels: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Precision and recall per axis over the labelled traces, by the label each deserves (none: unknown)."""
    both = labels.filter(pl.col("rank") == 1).join(
        truth.select("trace_id", deserved=pl.col("failure").fill_null("unknown"), mistake="cause_span_id"),
        on="trace_id",
    )
    rows = []
    for axis in sorted({*both["axis"], *both["deserved"]}):
        said, true = both["axis"] == axis, both["deserved"] == axis
        hit = int((said & true).sum())
        rows.append(
            {
                "axis": axis, "said": int(said.sum()), "true": int(true.sum()),
                "precision": hit / max(int(said.sum()), 1), "recall": hit / max(int(true.sum()), 1),
            }
        )  # fmt: skip
    return pl.DataFrame(rows)
