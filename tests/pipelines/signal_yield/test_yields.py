"""Sources as codes, what they are held against, and yields of known channels with their reasons for silence."""

import numpy as np
import polars as pl
import pytest

from pipelines.signal_yield import sources
from pipelines.signal_yield.yields import TRACES, YIELDS, YieldConfig, measure
from pipelines.stats.contract import ContractError
from store.errors import SettingsError

CONFIG = YieldConfig(replicates=200)


def _entropy(p):
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def _traces(n, *, agent="a", users=None, tokens=500):
    return pl.DataFrame(
        {
            "trace_id": [f"{agent}{i}" for i in range(n)], "agent": agent,
            "user_id": [f"u{i % (users or n)}" for i in range(n)], "tokens": tokens,
        },
        schema=TRACES,
    )  # fmt: skip


def _said(trace_ids, source, values):
    return pl.DataFrame({"trace_id": trace_ids, "source": source, "value": values}, schema=sources.SIGNALS)


def _channel(n, error, *, seed=0, share=1.0, agent="a"):
    """Traces with a verified outcome and a judge that errs so often on a share of them."""
    random = np.random.default_rng(seed)
    traces = _traces(n, agent=agent)
    ids = np.array(traces["trace_id"].to_list())
    good = random.integers(2, size=n)
    judged = random.random(n) < share
    verdict = np.where(random.random(n) < error, 1 - good, good)
    said = pl.concat(
        [
            _said(ids.tolist(), sources.VERIFIED, good.astype(float)),
            _said(ids[judged].tolist(), "judge: x", verdict[judged].astype(float)),
        ]
    )
    return traces, said


def _row(found, source, agent=None):
    chosen = found.filter((pl.col("source") == source) & pl.col("agent").eq_missing(pl.lit(agent, dtype=pl.String)))
    return chosen.row(0, named=True)


def test_a_judge_on_a_share_of_traces_yields_that_share_of_its_channel():
    """Silence at random tells nothing: bits are the share times 1 - H(error), and twice that per 1,000 tokens."""
    traces, said = _channel(20_000, 0.1, share=0.3)
    row = _row(measure(traces, said, CONFIG, np.random.default_rng(1)), "judge: x")
    truth = 1.0 - _entropy(0.1)
    assert row["when_present"] == pytest.approx(truth, abs=0.02)
    assert row["bits"] == pytest.approx(0.3 * truth, abs=0.01)
    assert row["lower"] < 0.3 * truth < row["upper"]
    assert row["per_thousand_tokens"] == pytest.approx(2 * row["bits"])
    assert (row["thousand_lower"], row["thousand_upper"]) == pytest.approx((2 * row["lower"], 2 * row["upper"]))
    assert (row["n"], row["users"]) == (20_000, 20_000)
    assert row["share"] == pytest.approx(0.3, abs=0.01)


def test_silence_that_depends_on_how_it_went_is_information():
    """Only the unhappy speak, and all say the same: nothing when present, much in who speaks."""
    random = np.random.default_rng(2)
    traces = _traces(10_000)
    ids = np.array(traces["trace_id"].to_list())
    good = random.integers(2, size=len(ids))
    speaks = random.random(len(ids)) < np.where(good == 1, 0.0, 0.5)
    said = pl.concat(
        [
            _said(ids.tolist(), sources.VERIFIED, good.astype(float)),
            _said(ids[speaks].tolist(), "abandon", np.zeros(int(speaks.sum()))),
        ]
    )
    row = _row(measure(traces, said, CONFIG, random), "abandon")
    assert row["when_present"] == pytest.approx(0.0, abs=1e-9)
    # I(Y; speaks) = H(speaks) - H(speaks | Y), speaks with 1/4 in all and 1/2 when it went badly.
    assert row["bits"] == pytest.approx(_entropy(0.25) - 0.5, abs=0.02)


def test_a_source_without_information_shows_about_zero():
    traces, said = _channel(5_000, 0.5, seed=3)
    row = _row(measure(traces, said, CONFIG, np.random.default_rng(4)), "judge: x")
    assert abs(row["bits"]) < 0.002
    assert row["lower"] <= 0.0 <= row["upper"]


def test_agents_that_differ_are_no_information_within_them():
    one, first = _channel(3_000, 0.5, seed=5, agent="a")
    two, second = _channel(3_000, 0.5, seed=6, agent="b")
    # Agent b always succeeds more and its judge is kinder: pooled it looks informative.
    lenient = pl.Series(np.random.default_rng(12).random(second.height) < 0.8)
    kinder = second.with_columns(value=pl.when(lenient).then(pl.lit(1.0)).otherwise(pl.col("value")))
    found = measure(pl.concat([one, two]), pl.concat([first, kinder]), CONFIG, np.random.default_rng(7))
    assert abs(_row(found, "judge: x")["bits"]) < 0.01
    assert set(found["agent"].drop_nulls()) == {"a", "b"}


def test_a_source_is_never_held_against_itself():
    traces = _traces(1_000)
    ids = traces["trace_id"].to_list()
    values = np.random.default_rng(8).integers(2, size=1_000).astype(float)
    said = pl.concat([_said(ids, sources.VERIFIED, values), _said(ids, sources.SOLICITED, values)])
    found = measure(traces, said, CONFIG, np.random.default_rng(9))
    assert _row(found, sources.VERIFIED)["reference"] == sources.SOLICITED
    assert _row(found, sources.SOLICITED)["reference"] == sources.VERIFIED
    assert _row(found, sources.SOLICITED)["bits"] == pytest.approx(1.0, abs=0.01)


def test_what_cannot_be_measured_is_listed_with_its_reason():
    few, said = _channel(50, 0.1)
    assert _row(measure(few, said, CONFIG, np.random.default_rng(0)), "judge: x")["reason"] == (
        "50 of 200 traces with verified outcome"
    )
    rare, said = _channel(2_000, 0.1, share=0.004)
    assert (
        "with this source and verified outcome"
        in _row(measure(rare, said, CONFIG, np.random.default_rng(0)), "judge: x")["reason"]
    )
    traces, said = _channel(500, 0.1)
    all_good = said.with_columns(
        value=pl.when(pl.col("source") == sources.VERIFIED).then(pl.lit(1.0)).otherwise(pl.col("value"))
    )
    row = _row(measure(traces, all_good, CONFIG, np.random.default_rng(0)), "judge: x")
    assert (row["reason"], row["bits"]) == ("every verified outcome is good", None)
    one_user = traces.with_columns(user_id=pl.lit("u"))
    row = _row(measure(one_user, said, CONFIG, np.random.default_rng(0)), "judge: x")
    assert (row["lower"], row["upper"], row["reason"]) == (None, None, "one user: no interval")
    no_tokens = traces.with_columns(tokens=pl.lit(None, dtype=pl.Int64))
    row = _row(measure(no_tokens, said, CONFIG, np.random.default_rng(0)), "judge: x")
    assert row["bits"] is not None
    assert row["per_thousand_tokens"] is None


def test_nothing_gives_nothing_and_wrong_frames_are_named():
    empty = pl.DataFrame(schema=sources.SIGNALS)
    assert measure(_traces(10), empty, CONFIG, np.random.default_rng(0)).equals(pl.DataFrame(schema=YIELDS))
    with pytest.raises(ContractError, match="tokens"):
        measure(_traces(10).drop("tokens"), empty, CONFIG, np.random.default_rng(0))
    with pytest.raises(SettingsError, match="signal_yield"):
        YieldConfig(replicates=10)


def test_signals_become_sources_by_who_said_them_and_whether_asked():
    rows = [
        ("t", "thumb", None, 1.0, "user", True), ("t", "thumb", None, 0.0, "user", None),
        ("t", "rating", None, 0.5, "llm", None), ("t", "outcome", None, 1.0, "code", None),
        ("t", "outcome", None, 1.0, "user", None), ("t", "judge", "help", 0.0, "llm", None),
        ("t", "click", None, 1.0, "user", None), ("t", "click", None, 0.0, "user", None),
        ("t", "impression", None, None, "user", None), (None, "thumb", None, 1.0, "user", True),
    ]  # fmt: skip
    columns = ("trace_id", "kind", "name", "value", "annotator_kind", "solicited")
    said = sources.spoken(pl.DataFrame(rows, schema=columns, orient="row"))
    assert dict(said.select("source", "value").iter_rows()) == {
        "solicited feedback": 1.0, "volunteered thumb": 0.0, "judge: unnamed": 0.5, "verified outcome": 1.0,
        "reported outcome": 1.0, "judge: help": 0.0, "click": 0.5,
    }  # fmt: skip


def test_codes_keep_few_values_and_cut_many_into_quantiles():
    ids = [f"t{i}" for i in range(100)]
    few = sources.codes(_said(ids, "x", [float(i % 3) for i in range(100)]))
    assert sorted(few["code"].unique()) == [1, 2, 3]
    many = sources.codes(_said(ids, "y", [float(i) for i in range(100)]))
    assert many.group_by("code").len().sort("code")["len"].to_list() == [20] * sources.BINS
    mute = sources.codes(_said(ids[:3], "z", [None, None, None]))
    assert mute["code"].null_count() == 0
    assert (mute["code"] > 0).all()
