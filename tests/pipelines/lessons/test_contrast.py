"""Groups, chosen rollouts, what is set aside, and tested patterns against planted causes and exact permutations."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_frames import Call, Rollout, calls, rollouts, steps

from pipelines.lessons.actions import ACTIONS, CALLS, actions
from pipelines.lessons.contrast import PATTERNS, PRESENCE, ROLLOUTS, USED, ContrastConfig, contrast
from pipelines.lessons.divergence import DIVERGENCES, first_differences
from pipelines.lessons.groups import GROUPS
from pipelines.stats.contract import ContractError
from store.contrasts import AGENTS
from store.errors import SettingsError


def test_groups_are_tasks_whose_outcomes_differ() -> None:
    rows = [
        *[Rollout(f"e{i}", "even", float(i % 2)) for i in range(4)],
        *[Rollout(f"r{i}", "rare", float(i == 0)) for i in range(6)],
        *[Rollout(f"n{i}", "never", 0.0) for i in range(5)],
        *[Rollout(f"h{i}", "half", 0.5) for i in range(5)],
        Rollout("s0", "single", 1.0),
        Rollout("u0", "unobserved", None),
        Rollout("u1", "unobserved", 1.0),
    ]
    found = contrast(rollouts(rows), calls({}))
    assert found.groups.schema == GROUPS
    assert found.groups["task"].to_list() == ["even", "rare"]
    rare = found.groups.row(1, named=True)
    outcomes = np.array([1, 0, 0, 0, 0, 0])
    assert rare["mean_outcome"] == pytest.approx(1 / 6)
    assert rare["sd_outcome"] == pytest.approx(outcomes.std())
    assert rare["standard_error"] == pytest.approx(outcomes.std(ddof=1) / np.sqrt(6))
    assert (rare["best_trace_id"], rare["worst_trace_id"]) == ("r0", "r1")
    assert rare["traces_per_day"] == pytest.approx(6.0)  # 23 rollouts an hour apart: less than a day counts as one


def test_the_noise_of_outcomes_is_no_spread() -> None:
    rng = np.random.default_rng(2)
    noisy = [Rollout(str(i), "t", float(0.5 + 0.3 * rng.normal())) for i in range(2_000)]
    frame = rollouts(noisy).with_columns(outcome_sd=pl.lit(0.3))
    assert contrast(frame, calls({})).groups["sd_outcome"][0] < 0.06
    spread = frame.with_columns(outcome=pl.col("outcome") + pl.Series(rng.integers(0, 2, 2_000) * 0.8))
    assert contrast(spread, calls({})).groups["sd_outcome"][0] == pytest.approx(0.4, abs=0.02)


def test_chosen_rollouts_are_clear_and_took_different_steps() -> None:
    good, bad = [Call("a"), Call("b")], [Call("a"), Call("c")]
    rows = [Rollout("g0", "t", 1.0), Rollout("g1", "t", 0.95), Rollout("g2", "t", 0.9), Rollout("b0", "t", 0.0),
            Rollout("b1", "t", 0.05), Rollout("b2", "t", 0.1)]  # fmt: skip
    sequences = {"g0": good, "g1": good, "g2": [Call("d")], "b0": bad, "b1": [Call("a"), Call("c", "other")], "b2": bad}
    group = contrast(rollouts(rows), calls(sequences)).groups.row(0, named=True)
    assert group["good_trace_ids"] == ["g0", "g2"]  # g1 took the very same steps
    assert group["bad_trace_ids"] == ["b0", "b1"]
    alike = contrast(rollouts(rows), calls(dict.fromkeys(sequences, good))).groups.row(0, named=True)
    assert (alike["good_trace_ids"], alike["bad_trace_ids"]) == (["g0"], ["b0"])


def test_what_the_environment_did_is_set_aside_good_or_bad() -> None:
    down = [Call("search", "platform"), Call("search", "platform")]
    slow = [Call("search", "platform"), Call("search")]
    rows = [
        Rollout("down", "t", 0.0, axis="environment_error"),
        Rollout("slow bad", "t", 0.2, axis="environment_error"),
        Rollout("slow good", "t", 1.0),
        Rollout("own fault", "t", 0.0, axis="wrong_argument"),
        Rollout("refused", "t", 1.0),
        Rollout("vague", "t", 0.0, axis="underspecified_request"),
        Rollout("tried", "t", 0.0, axis="deliberate_exploration"),
        Rollout("dead", "t", 0.0, axis="environment_error", failed=True),
        Rollout("plain", "t", 1.0),
        Rollout("silent", "t", None),
    ]
    refused = [Call("search", "argument")]
    sequences = {"down": down, "slow bad": slow, "slow good": slow, "own fault": refused, "refused": refused}
    found = contrast(rollouts(rows), calls(sequences))
    aside = dict(found.used.select("trace_id", "aside").iter_rows())
    assert {name for name, reason in aside.items() if reason == "environment"} == {
        "down", "slow bad", "slow good", "dead"
    }  # fmt: skip
    assert {name: reason for name, reason in aside.items() if reason not in (None, "environment")} == {
        "vague": "request", "tried": "exploration"
    }  # fmt: skip
    group = found.groups.row(0, named=True)
    assert (group["traces"], group["rollouts"], group["set_aside"], group["without_outcome"]) == (10, 3, 6, 1)
    assert group["worst_trace_id"] == "own fault"
    counts = found.agents.row(0, named=True)
    reasons = ("environment", "request", "exploration")
    assert (counts["used"], *(counts[f"set_aside_{reason}"] for reason in reasons)) == (3, 4, 1, 1)


def test_failures_that_are_mostly_the_agents_doing_are_not_set_aside() -> None:
    ignored = [Call("book", "platform")]
    rows = [Rollout(f"i{i}", "t", 0.0, axis="ungrounded_claim") for i in range(3)]
    rows += [Rollout("e", "t", 0.0, axis="environment_error"), Rollout("g", "t", 1.0)]
    found = contrast(rollouts(rows), calls({row.trace_id: ignored for row in rows}))
    assert dict(found.used.select("trace_id", "aside").iter_rows())["g"] is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["x", "y", None]),
            st.sampled_from(["s", "t", None]),
            st.sampled_from([0.0, 0.5, 1.0, None, float("nan")]),
            st.sampled_from([None, "environment_error", "unknown", "underspecified_request", "deliberate_exploration"]),
            st.sampled_from([(), (Call("a", "platform"),), (Call("a"), Call("b"))]),
        ),
        max_size=25,
    )
)
def test_every_rollout_is_used_set_aside_or_without_outcome(
    drawn: list[tuple[str | None, str | None, float | None, str | None, tuple[Call, ...]]],
) -> None:
    rows = [Rollout(str(i), task, y, agent, axis) for i, (agent, task, y, axis, _) in enumerate(drawn)]  # type: ignore[arg-type]
    found = contrast(rollouts(rows), calls({str(i): made for i, (*_, made) in enumerate(drawn)}))
    assert (found.agents.schema, found.groups.schema, found.patterns.schema) == (AGENTS, GROUPS, PATTERNS)
    assert (found.presence.schema, found.used.schema) == (PRESENCE, USED)
    whole = [row for row in rows if row.agent is not None and row.task is not None]
    assert found.agents["traces"].sum() == len(whole)
    for row in found.agents.iter_rows(named=True):
        assert row["traces"] == sum(one.agent == row["agent"] for one in whole)
        parts = ("used", "set_aside_environment", "set_aside_request", "set_aside_exploration", "without_outcome")
        assert row["traces"] == sum(row[name] for name in parts)
        assert all(row[name] >= 0 for name in parts)
    for group in found.groups.iter_rows(named=True):
        assert group["traces"] == group["rollouts"] + group["set_aside"] + group["without_outcome"]
        assert group["best_trace_id"] != group["worst_trace_id"]


def planted(seed: int, *, tasks: int = 30, per_task: int = 8, cost: float = 0.4) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rollouts where calling `book` without an earlier `check` fails more often, and `extra` changes nothing."""
    rng = np.random.default_rng(seed)
    rows, sequences = [], {}
    for task in range(tasks):
        base = rng.uniform(0.5, 0.9)
        for i in range(per_task):
            trace_id = f"{task}.{i}"
            checked_first, extra = rng.random() < 0.6, rng.random() < base  # extra goes with easy tasks
            names = ["check", "book"] if checked_first else ["book", "check"]
            sequences[trace_id] = [Call("search")] + [Call(name) for name in names]
            if extra:
                sequences[trace_id].append(Call("extra"))
            rows.append(Rollout(trace_id, str(task), float(rng.random() < base - cost * (not checked_first))))
    return rollouts(rows), calls(sequences)


def test_a_planted_cause_is_the_finding_and_a_decoy_is_not() -> None:
    effects, covered, decoys, worlds = [], 0, 0, 40
    for seed in range(worlds):
        found = contrast(*planted(seed))
        own = found.patterns.filter(pl.col("survives") & pl.col("explained_by").is_null())
        first = own.row(0, named=True)
        said = {first["pattern"], *first["same_as"]}
        assert "precedes:check>book" in said or "not precedes:check>book" in said
        decoys += own.height - 1
        better = 1 if first["pattern"] == "precedes:check>book" or "precedes:check>book" in first["same_as"] else -1
        low, high = sorted((better * first["lower"], better * first["upper"]))
        covered += low <= 0.4 <= high
        effects.append(better * first["effect"])
        assert found.presence.filter(pattern=first["pattern"]).height == 240
    assert abs(np.mean(effects) - 0.4) < 4 * np.std(effects, ddof=1) / np.sqrt(worlds)
    assert covered >= worlds * 0.95 - 4 * np.sqrt(worlds * 0.95 * 0.05)
    assert decoys <= worlds * (0.05 + 4 * np.sqrt(0.05 * 0.95 / worlds))


def test_under_the_null_little_survives() -> None:
    false = 0
    for seed in range(60):
        frame, made = planted(seed, tasks=20, per_task=4)
        rng = np.random.default_rng(seed)
        chance = rng.uniform(0, 1, 20)
        outcome = [float(rng.random() < chance[int(task)]) for task in frame["task"]]
        false += contrast(frame.with_columns(outcome=pl.Series(outcome)), made).patterns["survives"].any()
    assert false / 60 <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 60)


def test_p_is_the_share_of_permutations_no_more_likely() -> None:
    """All ways to give each task's outcomes to its rollouts, counted one by one."""
    tasks = {
        "s": ([1.0, 1.0, 0.0, 0.0], [1, 1, 0, 0]),
        "t": ([1.0, 0.0, 0.0], [1, 0, 0]),
        "u": ([1.0, 1.0, 0.0], [1, 0, 0]),
    }
    rows, sequences = [], {}
    for task, (outcome, has) in tasks.items():
        for i, (y, x) in enumerate(zip(outcome, has, strict=True)):
            rows.append(Rollout(f"{task}{i}", task, y))
            sequences[f"{task}{i}"] = [Call("a"), Call("b")] if x else [Call("b"), Call("a")]
    config = ContrastConfig(min_rollouts=1)
    row = contrast(rollouts(rows), calls(sequences), config).patterns.row(0, named=True)
    totals = [
        sum(
            sum(y * x for y, x in zip(order, has, strict=True))
            for order, (_, has) in zip(orders, tasks.values(), strict=True)
        )
        for orders in itertools.product(*(itertools.permutations(outcome) for outcome, _ in tasks.values()))
    ]
    observed = sum(y * x for outcome, has in tasks.values() for y, x in zip(outcome, has, strict=True))
    likely = {total: totals.count(total) for total in set(totals)}
    expected = sum(n for n in likely.values() if n <= likely[observed]) / len(totals)
    assert row["exact"]
    assert row["p_value"] == pytest.approx(expected)


def test_what_only_goes_with_a_finding_is_explained_by_it() -> None:
    """Leaving out `check` decides; `note` is written mostly after a check, and `late` follows where there was none."""
    rng = np.random.default_rng(4)
    rows, sequences = [], {}
    for task in range(40):
        for i in range(10):
            trace_id, checked = f"{task}.{i}", rng.random() < 0.75
            note = rng.random() < (0.8 if checked else 0.3)
            made = (
                [Call("check")] * checked
                + [Call("act")]
                + [Call("note")] * note
                + [Call("late")] * (not checked and i % 2)
            )
            sequences[trace_id] = made
            rows.append(Rollout(trace_id, str(task), float(rng.random() < (0.8 if checked else 0.3))))
    patterns = contrast(rollouts(rows), calls(sequences)).patterns.filter("survives")
    own = patterns.filter(pl.col("explained_by").is_null())
    (finding,) = own["pattern"].to_list()
    assert finding in ("missing:check", "precedes:check>act")
    assert patterns.height > 3
    assert set(patterns["explained_by"].drop_nulls()) == {finding}


def test_two_causes_are_two_findings_however_clear_they_are() -> None:
    """Both have p-values near nothing: the weaker one is fewer rollouts without the other, and clear all the same."""
    rng = np.random.default_rng(9)
    rows, sequences = [], {}
    for task in range(50):
        for i in range(40):
            trace_id, checked, worded = f"{task}.{i}", rng.random() < 0.8, rng.random() < 0.2
            search = Call("search", None, {"limit": "ten" if worded else 10})
            sequences[trace_id] = [search] + [Call("check")] * checked
            rows.append(Rollout(trace_id, str(task), float(rng.random() < 0.9 - 0.4 * (not checked) - 0.3 * worded)))
    patterns = contrast(rollouts(rows), calls(sequences)).patterns.filter("survives")
    assert patterns["p_value"].max() < 1e-20
    assert patterns["explained_by"].null_count() == patterns.height == 2


def test_a_tool_means_another_thing_where_it_is_usual() -> None:
    """`look` is needed in one kind of task and a mistake in the other: pooled, the two would hide each other."""
    rng = np.random.default_rng(8)
    rows, sequences = [], {}
    for task in range(40):
        needed = task % 2 == 0
        for i in range(10):
            trace_id, mistake = f"{task}.{i}", rng.random() < 0.25
            sequences[trace_id] = [Call("look")] if needed != mistake else [Call("other")]
            rows.append(Rollout(trace_id, str(task), float(rng.random() < (0.3 if mistake else 0.8))))
    patterns = contrast(rollouts(rows), calls(sequences)).patterns.filter("survives")
    names = {
        name: row["effect"] for row in patterns.iter_rows(named=True) for name in (row["pattern"], *row["same_as"])
    }
    assert names["missing:look"] < 0
    assert names["used:look"] < 0


def test_the_first_difference_is_found() -> None:
    cases = {
        "action": ("ab", "ac", ("action", 2, "a", "b", "c")),
        "ends": ("a", "ac", ("action", 2, "a", None, "c")),
        "starts": ("b", "", ("action", 1, None, "b", None)),
        "same": ("ab", "ab", ("none", None, None, None, None)),
    }
    rows, sequences = [], {}
    for task, (good, bad, _) in cases.items():
        rows += [Rollout(f"{task}+", task, 1.0), Rollout(f"{task}-", task, 0.0)]
        sequences |= {f"{task}+": [Call(name) for name in good], f"{task}-": [Call(name) for name in bad]}
    rows += [Rollout("args+", "args", 1.0), Rollout("args-", "args", 0.0)]
    sequences |= {"args+": [Call("a", None, {"x": 1})], "args-": [Call("a", None, {"x": 2})]}
    found = contrast(rollouts(rows), calls(sequences))
    differences = first_differences(found.groups, calls(sequences, spans=True))
    assert differences.schema == DIVERGENCES
    by_task = {row["task"]: row for row in differences.iter_rows(named=True)}
    for task, (_, _, expected) in cases.items():
        row = by_task[task]
        assert (row["kind"], row["step"], row["previous_action"], row["best_action"], row["worst_action"]) == expected
    args = by_task["args"]
    assert (args["kind"], args["step"], args["best_span_id"], args["worst_span_id"]) == (
        "arguments",
        1,
        "args+.1",
        "args-.1",
    )


def test_only_actions_are_actions() -> None:
    spans = steps({"t": [Call("a", kind="llm"), Call("b", "other")]})
    assert actions(spans).schema == ACTIONS
    assert actions(spans).select("step", "name", "failed").rows() == [(1, "b", True)]
    unnamed = spans.with_columns(name=pl.lit(None, pl.String), status=pl.lit(None, pl.String))
    assert actions(unnamed).select("name", "failed").rows() == [("tool", False)]


def test_empty_and_wrong_input() -> None:
    found = contrast(pl.DataFrame(schema=ROLLOUTS), pl.DataFrame(schema=CALLS))
    assert [frame.height for frame in (found.agents, found.groups, found.patterns, found.presence, found.used)] == [
        0
    ] * 5
    twice = rollouts([Rollout("t", "x", 1.0)] * 2)
    with pytest.raises(ContractError, match="trace_id"):
        contrast(twice, calls({}))
    with pytest.raises(SettingsError, match="false_discovery_rate"):
        ContrastConfig(false_discovery_rate=1.0)
    with pytest.raises(SettingsError, match="action_kinds"):
        ContrastConfig(action_kinds=())


@pytest.mark.parametrize("case", ["one each", "all equal", "no steps", "no outcomes", "ten thousand tools"])
def test_rollouts_with_nothing_to_contrast(case: str) -> None:
    tasks, each = (10, 1) if case == "one each" else (5, 6)
    rng = np.random.default_rng(1)
    rows = [
        Rollout(
            f"{task}.{i}", str(task),
            {"all equal": 0.5, "no outcomes": None}.get(case, float(rng.random() < 0.5)),
        )
        for task in range(tasks)
        for i in range(each)
    ]  # fmt: skip
    names = 400 if case == "ten thousand tools" else 2
    sequences = {
        row.trace_id: [Call(f"tool-{rng.integers(10_000)}") for _ in range(names)] if case != "no steps" else []
        for row in rows
    }
    found = contrast(rollouts(rows), calls(sequences))
    mixed = case in ("no steps", "ten thousand tools")
    assert (found.groups.height > 0) == mixed
    assert not found.patterns["survives"].any()
    assert found.patterns.filter(pl.col("p_value").is_null() | pl.col("effect").is_nan()).is_empty()
    counts = found.agents.row(0, named=True)
    assert counts["used"] == (0 if case == "no outcomes" else len(rows))
    assert counts["without_outcome"] == (len(rows) if case == "no outcomes" else 0)
