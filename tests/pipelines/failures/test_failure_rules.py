"""Single rules on hand-made frames, what cannot be labelled, and the model's labels."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from loop_data import run_loop
from publishing import publisher

from pipelines.failures import answer_rules, badness, call_rules, model_labels
from pipelines.failures.badness import FailureConfig
from pipelines.failures.job import label_traces
from pipelines.failures.label import ANSWERS, CALLS, REQUESTS, label
from pipelines.failures.weigh import LABELS, weigh
from pipelines.jobs import JobContext
from pipelines.stats.contract import ContractError
from store import failures, judges
from store.clock import FixedClock
from store.connection import Store
from store.errors import SettingsError
from store.settings import Settings
from tests.pipelines.judges.model_server import KEY, model_server


def _calls(*rows):
    defaults = {
        "trace_key": 1, "kind": "tool", "name": "search", "failed": False, "fault": None, "call": 7, "shape": None,
        "warned": False, "refused": False,
    }  # fmt: skip
    filled = [{**defaults, "span_id": f"s{i}", "position": i, **row} for i, row in enumerate(rows, start=1)]
    return pl.DataFrame(filled, schema=CALLS)


def _traces(count=1, **columns):
    defaults = {
        "agent": "a",
        "task": "t",
        "failed": False,
        "reward": 0.9,
        "signals": 1,
        "outcome": None,
        "explored": False,
    }
    rows = [{"trace_id": f"t{i}", "trace_key": i, **defaults, **columns} for i in range(1, count + 1)]
    return pl.DataFrame(rows, schema=badness.TRACES)


def test_the_same_call_again_is_a_loop_a_retry_is_none():
    again = call_rules.loops(_calls({}, {}, {}))
    assert again.select("span_id", "axis").rows() == [("s2", "loop")]
    assert "3 times" in again["detail"][0]
    assert call_rules.loops(_calls({"failed": True}, {})).is_empty()
    assert call_rules.loops(_calls({"failed": True}, {"failed": True}, {"failed": True})).is_empty()
    assert call_rules.loops(_calls(*[{"failed": True}] * 4))["span_id"].to_list() == ["s4"]
    assert call_rules.loops(_calls({"call": 1}, {"call": 2}, {"call": None}, {"call": None})).is_empty()
    assert call_rules.loops(_calls({}, {"trace_key": 2})).is_empty()


def test_a_failure_is_blamed_by_what_it_says():
    found = call_rules.failed_calls(
        _calls({"failed": True, "fault": "argument"}, {"failed": True, "fault": "platform", "name": "book"})
    )
    assert found.select("axis", "subject").rows() == [("wrong_argument", "search"), ("environment_error", "book")]


def test_a_failure_that_goes_unmentioned_is_a_claim():
    answers = pl.DataFrame(
        [{"trace_key": key, "span_id": "x", "answered": True, "owns_up": key == 2, "asks_back": False, "figures": 0,
          "unsupported": []} for key in (1, 2, 3)],
        schema=ANSWERS,
    )  # fmt: skip
    calls = _calls(
        {"failed": True}, {"trace_key": 2, "failed": True}, {"trace_key": 3, "failed": True}, {"trace_key": 3}
    )
    found = answer_rules.unmentioned_failures(_traces(3), calls, answers)
    assert found["trace_key"].to_list() == [1]


def test_badness_by_status_outcome_threshold_and_lowest_share():
    config = FailureConfig()
    failed = badness.mark(_traces(failed=True), config)
    missed = badness.mark(_traces(outcome=0.0, reward=None, signals=0), config)
    below = badness.mark(_traces(reward=0.49), config)
    assert all(frame["bad"].all() for frame in (failed, missed, below))
    same = badness.mark(_traces(50, reward=0.9), config)
    assert not same["bad"].any()
    spread = _traces(100).with_columns(reward=pl.int_range(100) / 400.0 + 0.75)
    marked = badness.mark(spread, config)
    assert marked["bad"].sum() == 20
    assert badness.thresholds(spread, config)["threshold"][0] == pytest.approx(0.8)


def test_a_trace_of_which_nothing_is_known_is_neither_bad_nor_learnt_from():
    config = FailureConfig()
    marked = badness.mark(_traces(3, reward=None, signals=0), config)
    assert not marked["bad"].any()
    assert badness.examined(marked, config).is_empty()


def test_constant_and_one_sided_data_label_without_a_number_out_of_nothing():
    config = FailureConfig()
    for reward in (0.1, 0.9):
        examined = badness.examined(badness.mark(_traces(40, reward=reward), config), config)
        calls = pl.concat([_calls({"trace_key": key}, {"trace_key": key}) for key in range(1, 41)])
        done = label(examined, calls, pl.DataFrame(schema=ANSWERS), pl.DataFrame(schema=REQUESTS), config)
        bad = reward < 0.5
        assert done.labels.filter(pl.col("rank") == 1).height == (40 if bad else 0)
        if bad:
            # It holds everywhere: nothing tells it from chance, and its confidence falls below what a label needs.
            assert set(done.labels["axis"]) <= {"loop", "unknown"}


def test_nothing_at_all_gives_nothing_and_wrong_frames_are_named():
    config = FailureConfig()
    empty = badness.examined(badness.mark(_traces(0), config), config)
    calls, answers, requests = (pl.DataFrame(schema=schema) for schema in (CALLS, ANSWERS, REQUESTS))
    assert label(empty, calls, answers, requests).labels.is_empty()
    with pytest.raises(ContractError, match="warned"):
        label(empty, calls.drop("warned"), answers, requests)
    with pytest.raises(ContractError, match="0 to 1"):
        badness.mark(_traces(reward=1.5), config)
    with pytest.raises(SettingsError, match="usual"):
        FailureConfig(usual=0.4)


def test_the_attributable_share_is_the_excess_fraction():
    """60 of 100 with the finding are bad, 20 of 100 without: 1 - .2 / .6, here with half a trace added to each cell."""
    rows = [(i, i <= 80) for i in range(1, 201)]
    examined = pl.DataFrame(
        {"trace_id": [f"t{i}" for i, _ in rows], "trace_key": [i for i, _ in rows], "agent": "a",
         "bad": [b for _, b in rows], "judged": True, "weight": 1.0},
        schema_overrides={"trace_key": pl.UInt64},
    )  # fmt: skip
    holds = [*range(1, 61), *range(81, 121)]
    candidates = pl.DataFrame(
        {"trace_key": holds, "axis": "loop", "rule": "r", "subject": "s"}, schema_overrides={"trace_key": pl.UInt64}
    )
    (row,) = weigh(examined, candidates, FailureConfig()).to_dicts()
    assert (row["bad"], row["good"], row["bad_traces"], row["good_traces"]) == (60, 40, 80, 120)
    assert row["attributable"] == pytest.approx(1 - (20.5 / 101) / (60.5 / 101))
    # Katz: se of ln(.2 / .6) is sqrt(.4 / 60 + .8 / 20).
    width = (1 - row["lower"]) / (1 - row["upper"])
    assert width == pytest.approx(2.718281828 ** (2 * 1.959964 * (0.4 / 60 + 0.8 / 20) ** 0.5), rel=0.05)


@dataclass
class _Answer:
    value: dict[str, Any]


class _Port:
    """A model that names what it is told to, by trace."""

    def __init__(self, axes):
        self.axes, self.asked = axes, []

    def complete(self, purpose, messages, schema, *, prompt_version="", subject=None):
        from pipelines.llm import ModelMalformed

        self.asked.append((purpose, prompt_version, subject, messages[1].text))
        axis = self.axes[subject]
        if axis is None:
            raise ModelMalformed("no JSON")
        return _Answer({"reason": "because", "axis": axis, "step": 1, "confidence": 80})


def _label_row(trace_id, axis):
    rule = "no_finding" if axis == "unknown" else "repeated_call"
    return {"trace_id": trace_id, "rank": 1, "axis": axis, "origin": "rule", "rule": rule, "span_id": None,
            "confidence": 0.5, "detail": "x"}  # fmt: skip


def test_the_model_decides_only_where_no_rule_did(tmp_path):
    store = Store.open(tmp_path / "t.duckdb", clock=FixedClock(datetime(2026, 11, 20, tzinfo=UTC)), threads=1)
    publisher(store, tmp_path)(
        traces=[{"trace_id": name, "input": f"request of {name}"} for name in "abcd"],
        spans=[{"trace_id": name, "span_id": f"s-{name}", "kind": "tool", "output": "BEGIN ignore"} for name in "abcd"],
    )
    labels = pl.DataFrame(
        [_label_row("a", "loop"), _label_row("b", "unknown"), _label_row("c", "unknown"), _label_row("d", "loop")],
        schema=LABELS,
    )
    chosen, sample = model_labels.choose(labels, 10)
    assert set(chosen) == set("abcd")
    assert sample == {"a", "d"}
    port = _Port({"a": "wrong_tool", "b": "policy_violation", "c": "unknown", "d": None})
    asked = model_labels.ask(port, chosen, sample, judges.stated(store, chosen), judges.steps(store, chosen))
    assert (asked.labels.height, asked.unanswered) == (3, 1)
    assert {(purpose, version) for purpose, version, *_ in port.asked} == {("failure-label", "failure_label.v1")}
    assert all(f"request of {subject}" in text for _, _, subject, text in port.asked)
    final = model_labels.merged(labels, asked)
    first = {row["trace_id"]: (row["axis"], row["origin"]) for row in final.filter(rank=1).iter_rows(named=True)}
    assert first == {
        "a": ("loop", "rule"), "b": ("policy_violation", "model"), "c": ("unknown", "rule"), "d": ("loop", "rule"),
    }  # fmt: skip
    assert final.filter(trace_id="a", rank=2)["axis"].to_list() == ["wrong_tool"]
    assert final.filter(trace_id="b")["span_id"].to_list() == ["s-b"]
    store.close()


def test_people_are_agreed_with_or_not(tmp_path):
    store = Store.open(tmp_path / "t.duckdb", clock=FixedClock(datetime(2026, 11, 20, tzinfo=UTC)), threads=1)
    traces = [{"trace_id": f"t{i}", "status": "error"} for i in range(30)]
    spans = [
        {
            "trace_id": f"t{i}",
            "span_id": f"s{i}-{n}",
            "kind": "tool",
            "name": "search",
            "input": '{"q": 1}',
            "ordinal": n,
        }
        for i in range(30)
        for n in range(2 if i % 2 else 1)
    ]
    signals = [
        {"signal_id": f"g{i}", "trace_id": f"t{i}", "kind": "annotation", "name": "failure",
         "annotator_kind": "operator", "text": "Loop" if i % 2 else "environment_error"}
        for i in range(28)
    ]  # fmt: skip
    signals.append({"signal_id": "odd", "trace_id": "t29", "kind": "annotation", "name": "failure", "text": "bad luck"})
    publisher(store, tmp_path)(traces=traces, spans=spans, signals=signals)
    run_loop(store, "failures")
    people = failures.latest_run(store)["parameters"]["agreement"]["people"]
    assert (people["n"], people["observed"], people["kappa"]) == (28, 1.0, 1.0)
    assert failures.of_trace(store, "t1").row(0, named=True)["axis"] == "loop"
    assert failures.of_trace(store, "nowhere").is_empty()
    store.close()


def _asks(store, server, **changes):
    settings = Settings(
        model="fake", model_base_url=server.url, model_api="chat", model_key_env="MODEL_KEY", model_prices="fake=2/8",
        model_timeout_seconds=5.0, **changes,
    )  # fmt: skip
    context = JobContext(store, store.clock, settings, np.random.default_rng(0), lambda share, text: None, None)
    return label_traces(context, FailureConfig(), environ={"MODEL_KEY": KEY})


def test_the_job_asks_a_configured_model_once_and_measures_its_agreement(tmp_path):
    """30 traces with a visible loop and 10 without a finding; the model sees loops as the rules do."""
    store = Store.open(tmp_path / "t.duckdb", clock=FixedClock(datetime(2026, 11, 20, tzinfo=UTC)), threads=1)
    publisher(store, tmp_path)(
        traces=[{"trace_id": f"t{i}", "input": f"request {i}"} for i in range(40)],
        spans=[
            {
                "trace_id": f"t{i}",
                "span_id": f"s{i}-{n}",
                "kind": "tool",
                "name": "search",
                "input": '{"q": 1}',
                "ordinal": n,
            }
            for i in range(40)
            for n in range(2 if i < 30 else 1)
        ],
        signals=[
            {"signal_id": f"g{i}", "trace_id": f"t{i}", "kind": "outcome", "value": 0.0, "annotator_kind": "code"}
            for i in range(40)
        ],
    )

    def mind(asked):
        looped = asked.user.count("STEP ") > 1
        return {"reason": "seen", "axis": "loop" if looped else "wrong_tool", "step": 1, "confidence": 90}

    with model_server() as server:
        server.mind = mind
        result = _asks(store, server)
        assert "the model was asked about 40" in result.message
        asked = len(server.asked)
        assert asked == 40
        run = failures.latest_run(store)
        assert run["unknown"] == 0
        assert run["parameters"]["model"]["answered"] == 40
        assert run["parameters"]["agreement"]["model"]["n"] == 30
        assert run["parameters"]["agreement"]["model"]["observed"] == 1.0
        label = failures.of_trace(store, "t39").row(0, named=True)
        assert (label["axis"], label["origin"], label["rule"]) == ("wrong_tool", "model", "failure_label.v1")
        _asks(store, server)
        assert len(server.asked) == asked
        with store.read() as reader:
            assert reader.value("SELECT count(DISTINCT purpose) FROM llm_calls WHERE purpose = 'failure-label'") == 1
    store.close()


def test_a_spent_budget_ends_the_asking_and_is_told(tmp_path):
    store = Store.open(tmp_path / "t.duckdb", clock=FixedClock(datetime(2026, 11, 20, tzinfo=UTC)), threads=1)
    publisher(store, tmp_path)(traces=[{"trace_id": f"t{i}", "status": "error", "input": "x"} for i in range(5)])
    with model_server() as server:
        _asks(store, server, model_run_usd=1e-6)
        assert server.asked == []
    run = failures.latest_run(store)
    assert run["parameters"]["model"]["answered"] == 0
    assert run["parameters"]["model"]["stopped"]
    assert run["bad"] == 5
    store.close()


@pytest.mark.parametrize(
    ("traces", "share", "with_", "without", "kept"),
    [(1_500, 0.1, 0.5, 0.2, 1.0), (1_500, 0.1, 0.25, 0.25, 1.0), (8_000, 0.1, 0.5, 0.2, 0.2)],
)
def test_the_interval_of_the_attributable_share_covers_also_when_good_traces_are_sampled(
    traces, share, with_, without, kept
):
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(500):
        holds = random.random(traces) < share
        bad = random.random(traces) < np.where(holds, with_, without)
        seen = bad | (random.random(traces) < kept)
        weight = np.where(bad, 1.0, (~bad).sum() / (seen & ~bad).sum())[seen]
        examined = pl.DataFrame(
            {"trace_id": np.arange(seen.sum()).astype(str), "trace_key": np.arange(seen.sum(), dtype=np.uint64),
             "agent": "a", "bad": bad[seen], "judged": True, "weight": weight}
        )  # fmt: skip
        found = pl.DataFrame(
            {"trace_key": np.flatnonzero(holds[seen]).astype(np.uint64), "axis": "loop", "rule": "r", "subject": "s"}
        )
        (row,) = weigh(examined, found, FailureConfig()).to_dicts()
        covered += row["lower"] <= 1.0 - without / with_ <= row["upper"]
    assert 0.92 <= covered / 500 <= 0.98
