"""Patterns against their definitions by loops, and their tests against the same test pattern by pattern."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_frames import Call, calls, key

from pipelines.lessons.patterns import KINDS, Facts, Rows, cells, facts, present
from pipelines.lessons.tested import assess
from pipelines.stats.stratified import compare

World = list[tuple[int, list[Call]]]  # stratum and calls of each rollout

made = st.lists(
    st.builds(
        Call,
        st.sampled_from("abc"),
        st.sampled_from([None, None, "argument", "platform"]),
        st.sampled_from([None, {"x": 1}, {"x": "1 2"}, {"x": 1, "y": 2}, {"x": None}]),
    ),
    max_size=6,
)
worlds = st.lists(st.tuples(st.integers(0, 2), made), min_size=2, max_size=14)


def rows_of(world: World, outcome: np.ndarray) -> Rows:
    stratum = np.array([task for task, _ in world], dtype=np.uint32)
    means = np.array([outcome[stratum == task].mean() for task in stratum])
    keys = np.array([key(str(i)) for i in range(len(world))], dtype=np.uint64)
    zeros = np.zeros(len(world), dtype=np.uint32)
    return Rows(keys, stratum, zeros, outcome - means, outcome > outcome.min(), np.ones(len(world), dtype=bool))


def by_loop(kind: str, tool: str, other: str | None, made: list[Call]) -> tuple[bool, bool]:
    """(present, can be asked) of a pattern by its definition, tasks aside."""
    names = [call.name for call in made]
    own = [call for call in made if call.name == tool]
    if kind in ("used", "missing"):
        return (tool in names) == (kind == "used"), True
    if kind in ("order", "precedes"):
        asked = other in names and (kind == "precedes" or tool in names)
        return asked and tool in names and names.index(tool) < names.index(str(other)), asked
    if kind == "repeated":
        again = any(
            later.arguments == call.arguments and call.fault is None
            for place, call in enumerate(own)
            for later in own[place + 1 :]
        )
        return again, bool(own)
    if kind == "unresolved":
        failures = [place for place, call in enumerate(own) if call.fault]
        return bool(failures) and not any(call.fault is None for call in own[failures[-1] + 1 :]), bool(own)
    if kind.startswith("error_then"):
        failed = [place for place, call in enumerate(made) if call.name == tool and call.fault]
        if not failed:
            return False, False
        after = made[failed[0] + 1] if failed[0] + 1 < len(made) else None
        if after is None:
            action = "stop"
        elif after.name != tool:
            action = "switch"
        else:
            action = "retry" if after.arguments == made[failed[0]].arguments else "change"
        return kind == f"error_then_{action}", True
    argument, _, shape = str(other).partition("=")
    types = {
        "text" if isinstance(call.arguments[argument], str) else "a number"
        for call in own
        if call.arguments is not None and call.arguments.get(argument) is not None
    }
    if kind == "given":
        return bool(types), any(call.arguments is not None for call in own)
    return shape in types, bool(types)


def other_name(found: Facts, kind: str, other: int) -> str | None:
    if kind in ("precedes", "order"):
        return str(found.tools.filter(tool=other)["name"][0])
    if kind in ("given", "shape"):
        row = found.arguments.filter(code=other).row(0, named=True)
        return str(row["text"]) + (f"={row['type']}" if row["type"] else "")
    return None


def usual(world: World, tool: str, task: int) -> bool:
    own = [made for stratum, made in world if stratum == task]
    return 2 * sum(any(call.name == tool for call in made) for made in own) >= len(own)


@settings(max_examples=120, deadline=None)
@given(worlds, st.randoms(use_true_random=False))
def test_patterns_and_their_sums_match_the_definitions(world: World, random: "np.random.Generator") -> None:
    outcome = np.array([random.random() for _ in world])
    rows = rows_of(world, outcome)
    found = facts(calls({str(i): made for i, (_, made) in enumerate(world)}), rows, 40)
    counted = cells(found, rows)
    names = dict(found.tools.select("tool", "name").iter_rows())
    seen = set()
    for row in counted.iter_rows(named=True):
        kind, tool = KINDS[row["kind"]], names[row["tool"]]
        other = other_name(found, kind, row["other"])
        truth = [by_loop(kind, tool, other, made) for _, made in world]
        has, asked = present(found, rows, kind, row["tool"], row["other"])
        assert list(zip(has, asked, strict=True)) == truth, (kind, tool, other)
        inside = asked & (rows.stratum == row["stratum"])
        if kind in ("missing", "used"):
            assert usual(world, tool, row["stratum"]) == (kind == "missing")
        both = inside & has
        assert (row["n"], row["n1"]) == (inside.sum(), both.sum())
        assert row["y1"] == pytest.approx(rows.y[both].sum(), abs=1e-9)
        assert row["yy"] == pytest.approx((rows.y[inside] ** 2).sum(), abs=1e-9)
        assert 0 < row["n1"] < row["n"]
        assert (row["kind"], row["tool"], row["other"], row["stratum"]) not in seen
        seen.add((row["kind"], row["tool"], row["other"], row["stratum"]))


@settings(max_examples=60, deadline=None)
@given(worlds)
def test_every_pattern_that_varies_within_a_task_is_counted(world: World) -> None:
    rows = rows_of(world, np.arange(len(world), dtype=np.float64))
    found = facts(calls({str(i): made for i, (_, made) in enumerate(world)}), rows, 40)
    counted = {
        (KINDS[kind], tool, other_name(found, KINDS[kind], other), stratum)
        for kind, tool, other, stratum in counted_keys(cells(found, rows), found)
    }
    names = found.tools["name"].to_list()
    pairs = [(a, b) for a in names for b in names if a != b]
    alone = [kind for kind in KINDS if kind in ("missing", "used", "repeated", "unresolved") or "error" in kind]
    wanted = [(kind, tool, None) for kind in alone for tool in names]
    wanted += [("precedes", a, b) for a, b in pairs] + [("order", a, b) for a, b in pairs if a < b]
    wanted += [("given", tool, argument) for tool in names for argument in "xy"]
    wanted += [("shape", tool, f"x={shape}") for tool in names for shape in ("text", "a number")]
    for kind, tool, other in wanted:
        for stratum in {task for task, _ in world}:
            truth = [by_loop(kind, tool, other, made) for task, made in world if task == stratum]
            values = {has for has, asked in truth if asked}
            due = len(values) == 2 and (
                kind not in ("missing", "used") or usual(world, tool, stratum) == (kind == "missing")
            )
            assert ((kind, tool, other, stratum) in counted) == due, (kind, tool, other, stratum)


def counted_keys(counted: pl.DataFrame, found: Facts) -> list[tuple[int, str, int, int]]:
    names = dict(found.tools.select("tool", "name").iter_rows())
    return [
        (kind, names[tool], other, stratum)
        for kind, tool, other, stratum in counted.select("kind", "tool", "other", "stratum").iter_rows()
    ]


@pytest.mark.parametrize("binary", [True, False])
def test_all_tests_together_are_the_tests_one_by_one(binary: bool) -> None:
    rng = np.random.default_rng(5)
    world = []
    for _ in range(300):
        names = rng.permutation(list("abcd"))[: rng.integers(1, 5)]
        faults = rng.choice(["", "", "argument", "other"], 6)
        made = [
            Call(str(name), fault or None, {"x": int(rng.integers(2))})
            for name, fault in zip(names, faults, strict=False)
        ]
        world.append((int(rng.integers(0, 40)), made * 2))
    outcome = rng.integers(0, 2, 300).astype(float) if binary else rng.normal(size=300)
    rows = rows_of(world, outcome)
    found = facts(calls({str(i): made for i, (_, made) in enumerate(world)}), rows, 40)
    result = assess(cells(found, rows), np.full(40, binary))
    assert result.height > 20
    for row in result.iter_rows(named=True):
        kind = KINDS[row["kind"]]
        has, asked = present(found, rows, kind, row["tool"], row["other"])
        if kind in ("missing", "used"):
            used = has if kind == "used" else ~has
            shares = {task: used[rows.stratum == task].mean() for task in set(rows.stratum.tolist())}
            most = np.array([shares[task] >= 0.5 for task in rows.stratum.tolist()])
            asked &= most if kind == "missing" else ~most
        expected = compare(has[asked], outcome[asked], rows.stratum[asked].astype(np.int64))
        for name in ("effect", "lower", "upper", "p_value", "z"):
            value = np.nan if row[name] is None else row[name]
            assert value == pytest.approx(getattr(expected, name), rel=1e-6, abs=1e-9, nan_ok=True), (kind, name)
        assert (row["rollouts_with"], row["rollouts_without"]) == (expected.rows_with, expected.rows_without)
        assert (row["tasks"], row["informative_tasks"]) == (expected.strata, expected.informative)
        assert row["exact"] == expected.exact


def test_only_the_most_called_tools_are_looked_at() -> None:
    sequences = {str(i): [Call("common"), Call(f"rare-{i}")] for i in range(50)}
    rows = rows_of([(0, made) for made in sequences.values()], np.arange(50, dtype=np.float64))
    found = facts(calls(sequences), rows, 3)
    assert found.tools.height == 3
    assert "common" in found.tools["name"].to_list()


def test_nobody_calls_a_tool() -> None:
    rows = rows_of([(0, []), (0, [])], np.array([0.0, 1.0]))
    counted = cells(facts(calls({}), rows, 40), rows)
    assert counted.is_empty()
    assert assess(counted, np.array([True])).is_empty()
