"""Grouping inputs into tasks: stable, deterministic, conserving, and right about paraphrases."""

import json
import re
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, homogeneity_score

from pipelines.stats.contract import ContractError
from pipelines.tasks import ASSIGNMENTS, GROUPS, TRACES, UNGROUPED, GroupResult, TaskConfig, group, normalise
from store.errors import SettingsError

NONE = pl.DataFrame(schema=GROUPS)
REQUESTS = {
    "refund": [
        "Hi, I want a refund for order {}, the blender arrived broken.",
        "Please refund my broken blender, order {}.",
        "refund for order {}? The blender arrived broken!",
    ],
    "address": [
        "Can you change the delivery address of order {}?",
        "I need to change my delivery address for {} please",
        "change delivery address of my order {}",
    ],
    "password": ["I forgot my password", "forgot password, please help", "Hello, I forgot the password!"],
}


def traces(inputs: list[str | None], agent: str | None = "desk", prefix: str = "t") -> pl.DataFrame:
    rows = [(f"{prefix}{i:05d}", agent, text) for i, text in enumerate(inputs)]
    return pl.DataFrame(rows, schema=TRACES, orient="row")


def tasks(result: GroupResult) -> dict[str, str]:
    return dict(result.assignments.select("trace_id", "task").iter_rows())


def test_paraphrases_with_different_numbers_are_one_task() -> None:
    inputs = [(key, text.format(f"#A{i}77-{i}")) for i in range(4) for key, texts in REQUESTS.items() for text in texts]
    result = group(traces([text for _, text in inputs]), NONE)
    found = list(tasks(result).values())
    assert adjusted_rand_score([key for key, _ in inputs], found) == 1.0
    assert result.new_groups.height == 3
    for name in result.new_groups["task"]:
        assert re.fullmatch(r"desk/[a-z]+(-[a-z]+){0,2}-[0-9a-f]{4}", name)
    assert any(name.startswith("desk/") and "password" in name for name in result.new_groups["task"])


def test_known_groups_are_joined_and_never_changed() -> None:
    first = group(traces(["Please refund my broken blender, order 12."]), NONE)
    second = group(traces(["refund my broken blender of order 99", "forgot my password"], prefix="s"), first.new_groups)
    assert tasks(second)["s00000"] == first.new_groups["task"][0]
    assert second.new_groups.height == 1
    assert not set(second.new_groups["task"]) & set(first.new_groups["task"])
    assert second.assignments["similarity"].is_between(0.4, 1.0).all()
    assert second.assignments.filter(trace_id="s00001")["similarity"][0] == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.text(max_size=20), st.sampled_from([t for texts in REQUESTS.values() for t in texts])),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_conservation_and_order_of_rows(inputs: list[str | None], random: object) -> None:
    frame = traces(inputs)
    result = group(frame, NONE)
    assert (result.assignments.schema, result.new_groups.schema) == (ASSIGNMENTS, GROUPS)
    assert result.ungrouped.schema == UNGROUPED
    placed = result.assignments["trace_id"].to_list() + result.ungrouped["trace_id"].to_list()
    assert sorted(placed) == frame["trace_id"].to_list()
    assert set(result.assignments["task"]) == set(result.new_groups["task"])
    again = group(frame.reverse(), NONE)
    assert again.assignments.equals(result.assignments)
    assert again.new_groups.equals(result.new_groups)
    # The traces grouped before stay where they were when they come again, and open nothing.
    third = group(frame, result.new_groups)
    assert third.new_groups.height == 0
    assert tasks(third) == tasks(result)


def test_assignment_is_the_nearest_representative() -> None:
    inputs = ["change delivery address", "change delivery address and date", "change delivery date"]
    groups = group(traces(inputs), NONE, TaskConfig(threshold=0.95)).new_groups
    assert groups.height == 3
    for batch, block in ((1, 1), (2, 2), (20_000, 512)):
        result = group(traces(inputs, prefix="x"), groups, TaskConfig(batch=batch, block=block))
        assert result.assignments["similarity"].to_list() == pytest.approx([1.0] * 3, abs=1e-6)
        assert len(set(tasks(result).values())) == 3


def test_agents_are_grouped_apart_and_an_unnamed_one_is_unknown() -> None:
    both = pl.concat([traces(["forgot my password"]), traces(["forgot my password"], agent=None, prefix="n")])
    result = group(both, NONE)
    assert result.new_groups["agent"].to_list() == ["desk", "unknown"]
    assert result.assignments.filter(trace_id="n00000").row(0, named=True)["agent"] is None


def test_inputs_without_words_are_named() -> None:
    result = group(traces([None, "", "  \n\t", "ok"]), NONE)
    assert result.ungrouped["trace_id"].to_list() == ["t00000", "t00001", "t00002"]
    assert set(result.ungrouped["reason"]) == {"the input has no words"}
    assert result.assignments.height == 1


def test_clashing_names_grow() -> None:
    name = group(traces(["forgot my password"]), NONE).new_groups["task"][0]
    taken = pl.DataFrame([(name, "other", "x")], schema=GROUPS, orient="row")
    grown = group(traces(["forgot my password"]), taken).new_groups["task"][0]
    assert grown.startswith(name)
    assert len(grown) == len(name) + 4


def test_other_scripts_are_grouped_too() -> None:
    result = group(traces(["我想退款 订单 1234", "我想退款 订单 88", "パスワードを忘れました"]), NONE)
    found = tasks(result)
    assert found["t00000"] == found["t00001"] != found["t00002"]


def test_normalise_hides_what_varies() -> None:
    text = normalise("  Mail ann@example.com about https://x.y/z, order AB-1234 of 2026-11-20:\n$1,250.00! ", 500)
    assert text == "mail @mail about @link order ab-0 of 0: $0!"
    assert normalise("x" * 900, 500) == "x" * 500
    assert normalise(None, 500) == ""


def test_twenty_thousand_traces_in_seconds() -> None:
    rng = np.random.default_rng(1)
    words = np.array(["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(3000)])
    topics = rng.choice(words, (150, 12))
    truth = rng.integers(0, 150, 20_000)
    chosen = np.where(rng.random((20_000, 12)) < 0.1, rng.choice(words, (20_000, 12)), topics[truth])
    frame = traces([" ".join(row) for row in chosen])
    started = time.process_time()
    result = group(frame, NONE)
    assert time.process_time() - started < 20
    found = list(tasks(result).values())
    assert homogeneity_score(truth, found) > 0.999
    assert result.new_groups.height < 400


def test_tau_bench_first_messages(shared_data: Path) -> None:
    runs = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text())
    result = group(traces([run["traj"][1]["content"] for run in runs]), NONE)
    found = list(tasks(result).values())
    truth = [run["task_id"] for run in runs]
    assert len(found) == 200
    # Many of the 50 tasks open with the same words, so text alone cannot tell them all apart.
    assert adjusted_rand_score(truth, found) > 0.25
    assert homogeneity_score(truth, found) > 0.7


def test_refuses_wrong_input() -> None:
    with pytest.raises(SettingsError, match="threshold"):
        TaskConfig(threshold=0.0)
    with pytest.raises(SettingsError, match="block"):
        TaskConfig(block=0)
    with pytest.raises(ContractError, match="trace_id must be unique"):
        group(pl.concat([traces(["a"]), traces(["a"])]), NONE)
    with pytest.raises(ContractError, match="representative may not be null"):
        group(traces(["a"]), pl.DataFrame([("x", "desk", None)], schema=GROUPS, orient="row"))
