"""People's examples against the agent's: known differences are found within task, others are not claimed."""

import json

import numpy as np
import polars as pl
import pytest

from pipelines.rewards import demonstrations
from pipelines.rewards.demonstrations import DemonstrationConfig
from pipelines.stats.contract import ContractError

QUICK = DemonstrationConfig(replicates=60)


def _examples(random, tasks=40, each=6, effect=1.2):
    """`looks up` differs between the sides, `length` only between tasks, `noise` not at all."""
    n = tasks * each
    task = np.repeat(np.arange(tasks), each)
    human = np.tile(np.arange(each) < each // 3, tasks)
    difficulty = random.normal(0, 3, tasks)[task]
    return pl.DataFrame(
        {
            "task": [f"task {t}" for t in task], "human": human,
            "looks up": random.normal(0, 1, n) + effect * human + difficulty,
            "length": difficulty + random.normal(0, 1, n), "noise": random.normal(0, 1, n),
        }
    )  # fmt: skip


def test_a_known_difference_is_found_and_nothing_else():
    random = np.random.default_rng(1)
    found = demonstrations.fit(_examples(random), random, QUICK)
    assert (found.human, found.agent, found.tasks) == (80, 160, 40)
    first = found.weights.row(0, named=True)
    assert first["feature"] == "looks up"
    assert 0 < first["lower"] < first["weight"] < first["upper"]
    assert first["difference"] == pytest.approx(1.2, abs=0.3)
    assert first["q_value"] < 0.001
    assert found.weights.filter(pl.col("q_value") < 0.05)["feature"].to_list() == ["looks up"]


def test_false_discoveries_are_controlled_when_nothing_differs():
    random = np.random.default_rng(2)
    quick = DemonstrationConfig(replicates=2)
    claims = 0
    for _ in range(200):
        found = demonstrations.fit(_examples(random, 12, effect=0.0), random, quick)
        claims += bool((found.weights["q_value"] < 0.05).any())
    assert claims <= 200 * 0.05 + 3 * np.sqrt(200 * 0.05 * 0.95)


def test_tasks_of_one_side_only_are_left_out_and_too_few_examples_are_said():
    random = np.random.default_rng(3)
    frame = _examples(random, 3)
    alone = frame.with_columns(human=pl.lit(False), task=pl.lit("only the agent's"))
    found = demonstrations.fit(pl.concat([frame, alone]), random, QUICK)
    assert found.weights.is_empty()
    assert found.notes == ("6 of at least 10 examples by people are on tasks that the agent also ran.",)


def test_separated_classes_stay_finite_and_are_said():
    random = np.random.default_rng(4)
    frame = _examples(random).with_columns(pl.col("human").cast(pl.Float64).alias("tells all"))
    found = demonstrations.fit(frame, random, QUICK)
    assert found.weights["weight"].is_finite().all()
    assert any("without error" in note for note in found.notes)


def test_a_constant_feature_is_left_out():
    random = np.random.default_rng(5)
    found = demonstrations.fit(_examples(random).with_columns(same=pl.lit(1.0)), random, QUICK)
    assert "same" not in found.weights["feature"].to_list()
    assert any("same is the same for all" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("task"), "missing: task"),
        (lambda f: f.select("task", "human"), "at least one feature"),
        (lambda f: f.with_columns(noise=pl.lit("x")), "noise must be numeric"),
        (lambda f: f.with_columns(noise=pl.lit(float("nan"))), "noise must be finite"),
        (lambda f: f.with_columns(human=pl.lit(None, dtype=pl.Boolean)), "human may not be null"),
    ],
)
def test_bad_input_is_named(change, message):
    random = np.random.default_rng(6)
    with pytest.raises(ContractError, match=message):
        demonstrations.fit(change(_examples(random, 2)), random, QUICK)


def test_text_features_by_hand():
    found = demonstrations.text_features(pl.Series(["Sorry! Is 12 or 13 ok?\n- see https://x.y", None]))
    assert found["words"].exp().to_list() == pytest.approx([10.0, 1.0])
    assert found["numbers"].exp().to_list() == pytest.approx([3.0, 1.0])
    for name, value in {"questions": 1, "list_items": 1, "links": 1, "apologies": 1, "exclamations": 1}.items():
        assert found[name].to_list() == [value, 0.0], name


def _counted(turns):
    """Features of a conversation as (role, text) turns."""
    roles = [role for role, _ in turns]
    spoken = pl.Series([text for role, text in turns if role == "assistant" and text and text != "None"])
    words = spoken.str.count_matches(r"\S+").mean() if len(spoken) else 0.0
    errors = sum(role == "tool" and text.startswith("Error") for role, text in turns)
    return {
        "tool calls": float(np.log1p(roles.count("tool"))), "failed calls": float(np.log1p(errors)),
        "user turns": float(np.log1p(roles.count("user"))), "words a reply": float(words),
    }  # fmt: skip


def test_nothing_is_claimed_of_the_demonstrations_of_tau_bench(shared_data):
    """The few-shot conversations of the airline domain; they name no task, so the domain is the only stratum.

    19 of them do not differ from the 200 runs in length, calls or failures by more than chance.
    """
    folder = shared_data / "tau_bench"
    rows = []
    for line in (folder / "MockAirlineDomainEnv-few_shot.jsonl").read_text(encoding="utf-8").splitlines():
        turns, role = [], ""
        for part in json.loads(line)["messages_display"].split("\n"):
            speaker, _, text = part.partition(": ")
            if speaker in ("user", "assistant", "tool"):
                role = speaker
                turns.append((role, text))
            elif turns:
                turns[-1] = (role, f"{turns[-1][1]}\n{part}")
        rows.append({"task": "airline", "human": True, **_counted(turns)})
    people = len(rows)
    for record in json.loads((folder / "gpt-4o-airline.json").read_text(encoding="utf-8")):
        turns = [(m["role"], m.get("content") or "") for m in record["traj"] if m["role"] != "system"]
        rows.append({"task": "airline", "human": False, **_counted(turns)})
    found = demonstrations.fit(pl.DataFrame(rows), np.random.default_rng(7), QUICK)
    assert (found.human, found.agent, found.tasks) == (people, 200, 1)
    assert any("1 shared tasks" in note for note in found.notes)
    assert found.weights.height == 4
    assert found.weights["q_value"].min() > 0.5
    words = found.weights.filter(feature="words a reply").row(0, named=True)
    assert words["difference"] == pytest.approx(-3.15, abs=0.01)
    assert words["difference_lower"] < 0 < words["difference_upper"]
