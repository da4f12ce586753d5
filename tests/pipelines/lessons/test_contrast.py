"""Mixed groups, step patterns and divergences against loops, planted causes and tau-bench."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.lessons.contrast import (
    DIVERGENCES,
    GROUPS,
    PATTERNS,
    PRESENCE,
    ROLLOUTS,
    STEPS,
    ContrastConfig,
    actions,
    contrast,
    mixed_groups,
)
from pipelines.lessons.patterns import extract
from pipelines.stats.contract import ContractError
from store.errors import SettingsError

Call = tuple[str, bool, str]  # name, failed, arguments


def rollouts(*rows: tuple[str, str, float | None]) -> pl.DataFrame:
    """Rows of (trace_id, task, outcome) of one agent."""
    full = [(t, "a", task, y, None if y is None else 0.1 + 0.8 * y, 0.2) for t, task, y in rows]
    return pl.DataFrame(full, schema=ROLLOUTS, orient="row")


def steps(sequences: dict[str, list[Call]]) -> pl.DataFrame:
    rows = [
        (trace_id, f"{trace_id}.{i}", i, "tool", name, "error" if failed else "ok", arguments, "out")
        for trace_id, calls in sequences.items()
        for i, (name, failed, arguments) in enumerate(calls)
    ]
    return pl.DataFrame(rows, schema=STEPS, orient="row")


def test_mixed_groups_are_ranked_by_rollouts_times_spread() -> None:
    rows = [
        *[(f"e{i}", "even", float(i % 2)) for i in range(4)],
        *[(f"r{i}", "rare", float(i == 0)) for i in range(6)],
        *[(f"n{i}", "never", 0.0) for i in range(5)],
        *[(f"h{i}", "half", 0.5) for i in range(5)],
        ("s0", "single", 1.0),
        ("u0", "unobserved", None),
        ("u1", "unobserved", 1.0),
    ]
    groups = mixed_groups(rollouts(*rows))
    assert groups.schema == GROUPS
    assert groups["task"].to_list() == ["rare", "even"]
    rare = groups.row(0, named=True)
    outcomes = np.array([1, 0, 0, 0, 0, 0])
    assert rare["mean_outcome"] == pytest.approx(1 / 6)
    assert rare["value"] == pytest.approx(6 * outcomes.std())
    assert rare["standard_error"] == pytest.approx(outcomes.std(ddof=1) / np.sqrt(6))
    assert (rare["best_trace_id"], rare["worst_trace_id"]) == ("r0", "r1")


def by_loop(kind: str, tool: str, other: str | None, calls: list[Call]) -> tuple[bool, bool]:
    """(present, defined) of a pattern by its definition."""
    names = [name for name, _, _ in calls]
    if kind == "used":
        return tool in names, True
    if kind == "order":
        assert other is not None
        both = tool in names and other in names
        return both and names.index(tool) < names.index(other), both
    if kind == "repeated":
        made = [arguments for name, _, arguments in calls if name == tool]
        return len(set(made)) < len(made), True
    failures = [i for i, (name, failed, _) in enumerate(calls) if name == tool and failed]
    if not failures:
        return False, True
    after = calls[failures[-1] + 1 :]
    return bool(after) and not any(name == tool and not failed for name, failed, _ in after), True


calls = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from("xy")), max_size=6)


@settings(max_examples=60)
@given(st.lists(calls, min_size=1, max_size=6))
def test_patterns_match_their_definitions(sequences: list[list[Call]]) -> None:
    trace_ids = [f"t{i}" for i in range(len(sequences))]
    found = extract(actions(steps(dict(zip(trace_ids, sequences, strict=True)))), trace_ids, 40)
    seen = set()
    for pattern in found:
        for name in (pattern.name, *pattern.same_as):
            plain = name.removeprefix("not ")
            kind, _, tools = plain.partition(":")
            tool, _, other = tools.partition(">")
            expected = [by_loop(kind, tool, other or None, sequence) for sequence in sequences]
            if plain != name:
                expected = [(defined and not present, defined) for present, defined in expected]
            assert list(zip(pattern.present, pattern.defined, strict=True)) == expected, name
            seen.add(plain)
    tools = sorted({name for sequence in sequences for name, _, _ in sequence})
    assert len(seen) == 3 * len(tools) + len(tools) * (len(tools) - 1) // 2


def planted(seed: int, tasks: int = 30, per_task: int = 8) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rollouts where calling `book` without an earlier `check` fails more often, and `extra` changes nothing."""
    rng = np.random.default_rng(seed)
    rows, sequences = [], {}
    for task in range(tasks):
        base = rng.uniform(0.5, 0.9)
        for i in range(per_task):
            trace_id = f"{task}.{i}"
            checked_first, extra = rng.random() < 0.6, rng.random() < base  # extra goes with easy tasks
            names = ["check", "book"] if checked_first else ["book", "check"]
            sequences[trace_id] = [("search", False, "q")] + [(name, False, "") for name in names]
            if extra:
                sequences[trace_id].append(("extra", False, ""))
            rows.append((trace_id, str(task), float(rng.random() < base - 0.4 * (not checked_first))))
    return rollouts(*rows), steps(sequences)


def test_a_planted_cause_survives_and_a_decoy_does_not() -> None:
    effects, decoys, worlds = [], 0, 20
    for seed in range(worlds):
        found = contrast(*planted(seed))
        assert (found.patterns.schema, found.presence.schema) == (PATTERNS, PRESENCE)
        survivors = found.patterns.filter("survives")
        assert survivors["pattern"][0] == "order:book>check"
        decoys += survivors.height - 1
        row = survivors.row(0, named=True)
        assert row["lower"] < row["effect"] < row["upper"] < 0
        assert row["rollouts_with"] + row["rollouts_without"] <= 240
        effects.append(row["effect"])
        assert found.presence.filter(pattern="order:book>check").height == 240
    assert abs(np.mean(effects) + 0.4) < 4 * np.std(effects, ddof=1) / np.sqrt(worlds)
    assert decoys <= worlds * (0.05 + 4 * np.sqrt(0.05 * 0.95 / worlds))


def test_under_the_null_little_survives() -> None:
    false = 0
    for seed in range(60):
        frame, spans = planted(seed, tasks=20, per_task=4)
        rng = np.random.default_rng(seed)
        chance = rng.uniform(0, 1, 20)
        outcome = [float(rng.random() < chance[int(task)]) for task in frame["task"]]
        false += contrast(frame.with_columns(outcome=pl.Series(outcome)), spans).patterns["survives"].any()
    assert false / 60 <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 60)


def test_the_first_difference_is_found() -> None:
    call = {name: (name, False, name) for name in "abc"}
    cases = {
        "action": (["a", "b"], ["a", "c"], ("action", 2, "a", "b", "c")),
        "ends": (["a"], ["a", "c"], ("action", 2, "a", None, "c")),
        "starts": (["b"], [], ("action", 1, None, "b", None)),
        "same": (["a", "b"], ["a", "b"], ("none", None, None, None, None)),
    }
    rows, sequences = [], {}
    for task, (good, bad, _) in cases.items():
        rows += [(f"{task}+", task, 1.0), (f"{task}-", task, 0.0)]
        sequences |= {f"{task}+": [call[name] for name in good], f"{task}-": [call[name] for name in bad]}
    rows += [("args+", "args", 1.0), ("args-", "args", 0.0)]
    sequences |= {"args+": [("a", False, '{"x": 1}')], "args-": [("a", False, '{"x":2}')]}
    rows += [("space+", "space", 1.0), ("space-", "space", 0.0)]
    sequences |= {"space+": [("a", False, '{"x": 1}')], "space-": [("a", False, '{"x":1}')]}
    found = contrast(rollouts(*rows), steps(sequences))
    assert found.divergences.schema == DIVERGENCES
    by_task = {row["task"]: row for row in found.divergences.iter_rows(named=True)}
    for task, (_, _, expected) in cases.items():
        row = by_task[task]
        came = (row["kind"], row["step"], row["previous_action"], row["best_action"], row["worst_action"])
        assert came == expected
    assert (by_task["args"]["kind"], by_task["args"]["step"]) == ("arguments", 1)
    assert by_task["args"]["best_span_id"] == "args+.0"
    assert by_task["space"]["kind"] == "none"


def test_only_configured_kinds_are_actions() -> None:
    spans = steps({"t": [("a", False, ""), ("b", True, "")]}).with_columns(kind=pl.Series(["llm", "tool"]))
    assert actions(spans).select("step", "name", "failed").rows() == [(1, "b", True)]
    assert actions(spans, ContrastConfig(action_kinds=("llm", "tool"))).height == 2
    unnamed = spans.with_columns(name=pl.lit(None, pl.String), status=pl.lit(None, pl.String))
    assert actions(unnamed).select("name", "failed").rows() == [("tool", False)]


def test_empty_and_wrong_input() -> None:
    found = contrast(pl.DataFrame(schema=ROLLOUTS), pl.DataFrame(schema=STEPS))
    assert [frame.height for frame in (found.groups, found.patterns, found.presence, found.divergences)] == [0] * 4
    with pytest.raises(ContractError, match="column outcome must lie from 0 to 1"):
        contrast(rollouts(("t", "x", 2.0)).with_columns(reward=pl.lit(0.5)), pl.DataFrame(schema=STEPS))
    with pytest.raises(SettingsError, match="false_discovery_rate"):
        ContrastConfig(false_discovery_rate=1.0)
    with pytest.raises(SettingsError, match="action_kinds"):
        ContrastConfig(action_kinds=())


def test_tau_bench(shared_data: Path) -> None:
    runs = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text())
    rows, sequences = [], {}
    for run in runs:
        trace_id = f"{run['task_id']}.{run['trial']}"
        rows.append((trace_id, str(run["task_id"]), run["reward"]))
        asked: list[tuple[str, str]] = []
        sequences[trace_id] = []
        for message in run["traj"]:
            made = message.get("tool_calls") or []
            asked += [(call["function"]["name"], call["function"]["arguments"]) for call in made]
            if message["role"] == "tool":
                name, arguments = asked.pop(0)
                sequences[trace_id].append((name, message["content"].startswith("Error"), arguments))
    frame = rollouts(*rows)
    found = contrast(frame, steps(sequences))
    means = frame.group_by("task").agg(pl.col("outcome").mean())["outcome"]
    assert (found.groups.height, (means == 0).sum(), (means == 1).sum()) == (26, 14, 10)
    assert found.patterns["family"][0] == found.patterns.height >= 10
    assert not found.patterns["survives"].any()
    # The strongest pattern, calling search_direct_flight, has p = .023 alone and q = .33 among all.
    strongest = found.patterns.row(0, named=True)
    assert strongest["pattern"] == "used:search_direct_flight"
    assert strongest["p_value"] == pytest.approx(0.0234, abs=1e-4)
    assert strongest["q_value"] > 0.3
    assert (found.divergences["kind"] == "action").all()
