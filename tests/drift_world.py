"""What runs of drift, incidents and the model watch may have found, put into a steered store, for tests of pages."""

import json
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from explore_data import AGENT, steer
from loop_data import HOSTILE, NOW, run_loop
from publishing import publisher

from store import drift, incident_runs, incidents, links, model_figures
from store.clock import FixedClock
from store.connection import Store
from store.drift_events import REWARD, STATED
from store.incident_runs import Seen

CHANGED = NOW - timedelta(days=8)
WHO = "user 0"
FOUND = 5  # findings on users
SUMMARY = drift.Summary(
    false_discovery_rate=0.05, users=90, scanned=70, flagged=2, too_few=20, min_events=20, missing_median=12.0
)  # fmt: skip


@cache
def drift_file(who: str = WHO, agent: str = AGENT, segment: str = "north", what: str = "model two") -> bytes:
    """A database file with findings on `who`, one incident and one changed model, made once."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trimtab.duckdb"
        store = Store.open(path, clock=FixedClock(NOW), threads=1)
        steer(store, Path(folder), agent=agent)
        if who != WHO:
            _live(store, Path(folder) / "more", who, agent)
        run_loop(store, "preferences")
        find(store, who, agent, segment, what)
        store.close()
        return path.read_bytes()


def hostile_file() -> bytes:
    """The same with a user, agent, segment and model that try to be markup."""
    return drift_file(HOSTILE, f"agent {HOSTILE}", HOSTILE, HOSTILE)


def find(store: Store, who: str, agent: str, segment: str, what: str) -> None:
    """Record a run of each job that looks for changes."""
    found = findings(who, agent, segment)
    drift.record(store, found, SUMMARY, measured=measured(), data_version=1, code_version="test")
    _incident(store, found, agent, segment, what)
    _models(store, what)


def findings(who: str, agent: str, segment: str) -> pl.DataFrame:
    """Findings (columns `store.drift.FOUND`): two of them flagged on `who`, one each on a segment and on everybody."""
    rows = [
        _finding("user", STATED, -0.45, flagged=True, p=1e-6, user_id=who, segment=segment, before=0.9, after=0.3),
        _finding("user", "latency", 0.5, flagged=True, p=0.001, user_id=who, segment=segment, before=2.0, after=3.4,
                 likelihood="log"),
        _finding("user", REWARD, -0.01, flagged=False, p=0.6, user_id=who, segment=segment, before=0.6, after=0.58),
        _finding("user", STATED, 0.02, flagged=False, p=0.4, user_id="user 1", segment="south", before=0.6, after=0.6),
        _finding("user", "retired metric", 0.02, flagged=False, p=0.5, user_id="user 2", segment="south", before=1.0,
                 after=1.1),
        _finding("segment", REWARD, -0.2, flagged=True, p=1e-5, agent=agent, segment=segment, before=0.7, after=0.4),
        _finding("population", "cost", 0.1, flagged=True, p=1e-4, agent=agent, before=0.01, after=0.02,
                 likelihood="log"),
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=drift.FOUND)


def measured() -> pl.DataFrame:
    """What the run measured (columns `store.drift.METRICS`)."""
    rows = [
        {"level": level, "metric": metric, "likelihood": likelihood, "reason": "By its shape.", "threshold": 0.1,
         "events": 700, "ignored": 1, "subjects": subjects, "scanned": scanned, "flagged": flagged,
         "too_few": subjects - scanned, "missing_median": 12.0, "explained": 0.1}
        for level, metric, likelihood, subjects, scanned, flagged in (
            ("user", STATED, "bernoulli", 90, 70, 1), ("user", REWARD, "gaussian", 90, 60, 0),
            ("user", "latency", "log", 90, 60, 1), ("user", "retired metric", "gaussian", 2, 1, 0),
            ("segment", REWARD, "gaussian", 2, 2, 1), ("population", "cost", "log", 1, 1, 1),
        )
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=drift.METRICS)


def _finding(level: str, metric: str, effect: float, *, flagged: bool, p: float, **more: Any) -> dict[str, Any]:
    return {
        "level": level, "user_id": None, "segment": None, "agent": None, "metric": metric, "likelihood": "bernoulli",
        "events": 40, "events_total": 44, "statistic": 12.0, "p_value": p, "q_value": p * 10, "flagged": flagged,
        "changed_at": CHANGED, "changed_from": CHANGED - timedelta(days=1), "changed_to": CHANGED + timedelta(days=1),
        "before_mean": more.pop("before"), "before_n": 20, "after_mean": more.pop("after"), "after_n": 20,
        "effect": effect, "effect_sd": 0.1, "practical": 0.97, "category": None, "psi": None, **more,
    }  # fmt: skip


def _incident(store: Store, found: pl.DataFrame, agent: str, segment: str, what: str) -> None:
    flagged = found.filter(pl.col("flagged"))
    suspect = {"cause": "model", "column": "model", "name": what, "how": "moved over", "before": "model one",
               "share": 0.8, "lower": 0.6, "upper": 0.95, "n_before": 120, "n_after": 140}  # fmt: skip
    beside = {"cause": "lesson", "name": what, "happened_at": CHANGED.isoformat(),
              "text": f"{what} was approved at that time.", "intervention_id": None}  # fmt: skip
    moved = [
        {"place": place, "metric": metric, "direction": direction, "moved_at": CHANGED + timedelta(hours=12 * place),
         "moved_from": CHANGED, "moved_to": CHANGED + timedelta(days=place), "users": 2, "before_mean": 0.7,
         "before_n": 40, "after_mean": 0.4, "after_n": 40, "effect": -0.2, "effect_sd": 0.05}
        for place, (metric, direction) in enumerate((("latency", "up"), (REWARD, "down"), (STATED, "mixed")), start=1)
    ]  # fmt: skip
    one = Seen(
        incident_id=None, kind="new", agent=agent, segment=segment, title=f"Reward fell for segment {segment}: {what}",
        text="What moved.", cause="model",
        cause_detail={"text": f"Traces moved over to model {what}.", "name": what, "metric": REWARD, "traces": 260,
                      "segments": [segment], "suspects": [suspect], "coincidences": [beside]},
        changed_at=CHANGED, changed_from=CHANGED - timedelta(days=1), changed_to=CHANGED + timedelta(days=1), users=30,
        scanned=70, findings=flagged.select(list(incidents.FINDINGS)),
        moved=pl.DataFrame(moved, schema=incidents.MOVED),
    )  # fmt: skip
    summary = incident_runs.Summary(
        drift_run_id=1, data_version=1, code_version="test", parameters={}, flagged=flagged.height, explained=0,
        grouped=flagged.height, lone=0,
    )  # fmt: skip
    incident_runs.record(store, [one], pl.DataFrame(schema=drift.EXPLAINED), {}, summary)


def _models(store: Store, what: str) -> None:
    base = dict.fromkeys(model_figures.FOUND) | {"model": what, "before_n": 900, "after_n": 400, "n": 1_300}
    detail = json.dumps({"title": "Latency", "unit": "seconds", "effect_is": "ratio"})
    found = [
        {**base, "metric": "latency", "status": "change", "changed_at": CHANGED, "before": 2.0, "after": 3.0,
         "effect": 0.5, "effect_lower": 0.4, "effect_upper": 0.6, "p_value": 1e-9, "q_value": 1e-8, "flagged": True,
         "detail": detail},
        {**base, "metric": "refusal share", "status": "not enough data", "flagged": False, "detail": "{}"},
    ]  # fmt: skip
    days = [
        {"day": date(2026, 11, day), "model": what, "agent": None, "metric": "latency", "n": 50 if day > 1 else 1,
         "mean": 2.0 + (day >= 12), "sd": 0.4, "adjusted": 0.0, "adjusted_sd": 0.1}
        for day in range(1, 20)
    ]  # fmt: skip
    model_figures.record(
        store, pl.DataFrame(found, schema=model_figures.FOUND), pl.DataFrame(days, schema=model_figures.FIGURES),
        model_figures.Summary(data_version=1, code_version="test", models=1, scanned=1, flagged=1, parameters="{}"),
        announce=lambda *_: None,
    )  # fmt: skip


def _live(store: Store, folder: Path, who: str, agent: str) -> None:
    """Traces and thumbs of a user."""
    traces, signals = [], []
    for place in range(44):
        begin: datetime = NOW - timedelta(hours=9 * (44 - place))
        traces.append(
            {"trace_id": f"w{place}", "agent": agent, "user_id": who, "session_id": f"w{place}", "started_at": begin,
             "ended_at": begin + timedelta(seconds=2), "input": who, "metadata": json.dumps({"segment": who})}
        )  # fmt: skip
        signals.append(
            {"signal_id": f"v{place}", "trace_id": f"w{place}", "kind": "thumb", "value": float(place < 22),
             "occurred_at": begin + timedelta(minutes=1)}
        )  # fmt: skip
    publisher(store, folder)(traces=traces, signals=signals)
    links.refresh(store)
