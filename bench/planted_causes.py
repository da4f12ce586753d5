"""How many planted causes of simulated deployments the contrast finds, and how much it finds that is none.

A deployment is simulated, loaded as a customer's files would be, and goes through the jobs tasks, rewards and failures.
A finding is a pattern that survives false-discovery control and that no other finding explains: what becomes a lesson.

Found: a cause is found when a finding of its agent says in terms of steps, and in the right direction, what the truth
says of it, itself or as one of the patterns that hold for exactly the same rollouts (no data can tell those apart).
`missing_before` (A before B) is also said by "A was not called", `used_instead` by either of its halves.
False: a finding that says none of the causes planted in its agent. Consequences and proxies of a planted cause that are
findings of their own count as false.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.ingest import load as loader
from pipelines.lessons.contrast import ContrastConfig
from pipelines.lessons.job import examine
from pipelines.runner import Runner
from pipelines.simulate import SimulationConfig, simulate, write
from store import links
from store.clock import FixedClock
from store.connection import Store
from store.settings import Settings

__all__ = ["FILES", "JOBS", "Recovered", "interval", "judge", "recovered", "said"]

FILES = ("traces.csv", "spans.jsonl.gz", "signals.csv", "clicks.csv")
JOBS = ("tasks", "rewards", "failures")


@dataclass(frozen=True)
class Recovered:
    """One deployment: causes planted and found, findings and false ones by name, and findings named as planted."""

    seed: int
    planted: int
    missed: tuple[str, ...]
    findings: int
    false: tuple[str, ...]


def recovered(seed: int, folder: Path, **config: Any) -> Recovered:
    """Simulate, load, label and contrast one deployment in `folder`, which is made anew and removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = SimulationConfig(seed=seed, **config)
    deployment = simulate(settings)
    write(deployment, folder / "files")
    store = Store.open(folder / "trimtab.duckdb", clock=FixedClock(settings.until))
    try:
        for name in FILES:
            loader.load(store, folder / "files" / name)
        links.refresh(store)
        runner = Runner(store, Settings(db=folder / "trimtab.duckdb"))
        for job in JOBS:
            runner.run(job, "manual")
        examined = examine(store, ContrastConfig())
    finally:
        store.close()
        shutil.rmtree(folder, ignore_errors=True)
    patterns = examined.found.patterns if examined is not None else pl.DataFrame()
    return judge(seed, patterns, deployment.truth["causes"])


def judge(seed: int, patterns: pl.DataFrame, causes: Sequence[Mapping[str, Any]]) -> Recovered:
    """Hold the findings among `patterns` (columns PATTERNS) against the truth's causes."""
    findings = patterns.filter(pl.col("survives") & pl.col("explained_by").is_null())
    says = {cause["key"]: (cause["agent"], said(cause["pattern"])) for cause in causes}
    named = [(row["agent"], row["pattern"], _statements(row)) for row in findings.iter_rows(named=True)]
    missed = [
        key
        for key, (agent, wanted) in says.items()
        if not any(agent == own and wanted & statements for own, _, statements in named)
    ]
    false = [
        f"{agent} {pattern}"
        for agent, pattern, statements in named
        if not any(agent == own and wanted & statements for own, wanted in says.values())
    ]
    return Recovered(seed, len(says), tuple(missed), findings.height, tuple(false))


def said(pattern: Mapping[str, str]) -> frozenset[tuple[str, bool]]:
    """Names of patterns that say what the truth says of a cause, each with whether it is good where it holds."""
    tool = pattern["tool"]
    return frozenset(
        {
            "repeated": [(f"repeated:{tool}", False)],
            "argument_shape": [(f"shape:{tool}.{pattern.get('argument')}={pattern.get('shape')}", False)],
            "missing": [(f"missing:{tool}", False)],
            "missing_before": [(f"precedes:{tool}>{pattern.get('before')}", True), (f"missing:{tool}", False)],
            "error_then_no_retry": [(f"unresolved:{tool}", False)],
            "used_instead": [(f"missing:{pattern.get('instead_of')}", False), (f"used:{tool}", False)],
        }[pattern["type"]]
    )


def _statements(row: Mapping[str, Any]) -> frozenset[tuple[str, bool]]:
    better = row["effect"] > 0
    same = [(name.removeprefix("not "), better != name.startswith("not ")) for name in row["same_as"]]
    return frozenset({(row["pattern"], better), *same})


def interval(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, share = 1.959964, hits / n if n else 0.0
    if not n:
        return 0.0, 1.0
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    margin = z * ((share * (1 - share) + z * z / (4 * n)) / n) ** 0.5 / (1 + z * z / n)
    return max(0.0, middle - margin), min(1.0, middle + margin)
