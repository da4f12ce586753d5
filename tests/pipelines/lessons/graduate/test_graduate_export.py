"""Exports: who is eligible, who is never learnt from, what is told, and that nothing is lost or half written."""

import hashlib
import json
from datetime import timedelta

import polars as pl
import pytest
from graduation_world import (
    AGENT,
    CARD,
    LESSON,
    LISTED,
    MAIL,
    NOW,
    OPTED_OUT,
    PHONE,
    WITHDRAWN,
    expose,
    fill,
    measure,
    open_world,
    set_state,
)
from lesson_library import act
from publishing import publisher

from pipelines.lessons.graduate import export
from pipelines.lessons.graduate.config import ExportConfig, LastingConfig
from pipelines.lessons.graduate.examples import split_of
from pipelines.lessons.graduate.lasting import chosen, standings
from store import graduation, never_explore
from store.clock import FixedClock
from store.errors import ActionRefused
from tests.pipelines.judges.model_tuning import problems


@pytest.fixture
def clock():
    return FixedClock(NOW)


@pytest.fixture
def store(tmp_path, clock):
    opened = open_world(tmp_path / "t.duckdb", clock)
    fill(opened, tmp_path)
    yield opened
    opened.close()


def made(store, clock, **config):
    measure(store, clock, ["better"] * 4)
    never_explore.add(store, AGENT, "user", LISTED, reason="A partner.", by="Ada")
    number = export.make(store, AGENT, [], by="Ada", config=ExportConfig(**config))
    return number, json.loads(graduation.export(store, number)["manifest"])


def texts(store, number):
    return {name: graduation.content(store, number, name) for name in graduation.files(store, number)["name"]}


@pytest.mark.parametrize(
    ("verdicts", "every", "missing"),
    [
        (["better"] * 4, 5.0, None),
        (["can't tell yet", *["better"] * 3], 7.0, None),
        (["better"] * 2, 20.0, "2 of 3 runs"),
        (["better"] * 10, 1.0, "9 of 14 days"),
        (["better", "better", "no worse", "better", "better"], 7.0, "2 of 3 runs"),
        ([*["better"] * 5, "no worse"], 5.0, "say “no worse”"),
        ([*["better"] * 5, "worse"], 5.0, "say “worse”"),
    ],
)
def test_only_unbroken_payoff_over_weeks_is_lasting(store, clock, verdicts, every, missing):
    measure(store, clock, verdicts, every=every)
    (found,) = standings(store)
    assert (found.missing or "") == (missing or "") if missing is None else missing in found.missing
    if missing is None:
        assert [one.lesson_id for one in chosen(store, AGENT, [LESSON])] == [LESSON]
    else:
        with pytest.raises(ActionRefused):
            chosen(store, AGENT, [LESSON])


def test_untrusted_paused_inactive_and_unmeasured_lessons_stay(store, clock):
    assert standings(store) == []
    measure(store, clock, ["better"] * 4)
    set_state(store, trust="untrusted")
    assert "untrusted" in standings(store)[0].missing
    set_state(store, trust="model")
    act(store, "pause", LESSON)
    assert "paused" in standings(store)[0].missing
    act(store, "resume", LESSON)
    # A newer version was not measured.
    act(store, "edit", LESSON, findings=())
    assert standings(store) == []
    assert LastingConfig().days == 14


def test_examples_and_pairs_are_what_the_api_takes_and_nothing_is_lost(store, clock):
    number, manifest = made(store, clock, validation=0.4)
    kept = texts(store, number)
    assert set(kept) == {
        f"{method}.{split}.jsonl" for method in ("supervised", "dpo") for split in ("train", "validation")
    }
    for name, content in kept.items():
        assert problems(content.encode(), name.split(".")[0]) == []
    origins = graduation.sources(store, number)
    for method, told in manifest["methods"].items():
        own = origins.filter(pl.col("method") == method)
        lines = sum(content.count("\n") for name, content in kept.items() if name.startswith(method))
        # Conservation: every candidate once, as a line or left out for one reason.
        assert own.height == own["trace_id"].n_unique() == told["candidates"]
        assert told["examples"] == lines == own["split"].count()
        assert told["examples"] + sum(told["left_out"].values()) == told["candidates"]
        assert own.filter(pl.col("split").is_null() == pl.col("reason").is_null()).is_empty()
    # 24 with the lesson, three of whose users may not be learnt from; 12 without it, the same three.
    told = manifest["methods"]["supervised"]
    assert (told["candidates"], told["examples"]) == (24, 21)
    assert told["left_out"] == {"the user is not learnt from": 3}
    assert manifest["methods"]["dpo"]["examples"] == 9
    # A task is on one side, of both methods.
    sides = origins.filter(pl.col("split").is_not_null()).group_by("task").agg(pl.col("split").n_unique())
    assert sides["split"].max() == 1
    assert {each["name"]: each["sha256"] for each in manifest["files"]} == {
        name: hashlib.sha256(content.encode()).hexdigest() for name, content in kept.items()
    }


def test_the_lesson_is_left_out_and_literals_are_typed_placeholders(store, clock):
    number, manifest = made(store, clock)
    everything = "".join(texts(store, number).values())
    for gone in (CARD, MAIL, PHONE, "Ann Lee", LESSON, "Look the order up", "Lessons from earlier runs", "5500", "77"):
        assert gone not in everything
    for user in (OPTED_OUT, LISTED, WITHDRAWN, "user_0", "user_9"):
        assert user not in everything
    assert {"e-mail address", "card number", "phone number", "name"} <= manifest["redacted"].keys()
    first = json.loads(texts(store, number)["supervised.train.jsonl"].splitlines()[0])
    assert first["messages"][0] == {"role": "system", "content": "You help the customers of a shop."}
    assert first["tools"][0]["function"]["name"] == "find_order"
    # What is copied stays copied: the order asked for is the one looked up.
    assert "order [number A]" in first["messages"][1]["content"]
    (call,) = [call for message in first["messages"] for call in message.get("tool_calls", ())]
    assert json.loads(call["function"]["arguments"])["order"] in ("[number A]", "[number B]")
    pair = json.loads(texts(store, number)["dpo.train.jsonl"].splitlines()[0])
    assert pair["preferred_output"][0]["tool_calls"][0]["function"]["name"] == "find_order"
    assert pair["non_preferred_output"] == [{"role": "assistant", "content": "I cannot help you, [e-mail address A]."}]


def test_an_opt_out_counts_as_the_newest_trace_says_and_agreement_may_be_required(store, clock, tmp_path):
    publish = publisher(store, tmp_path / "later")
    said = [(OPTED_OUT, "false", 1), ("user_0000", "true", 1), ("user_0002", "no", 1)]
    publish(
        traces=[
            {"trace_id": f"later-{user}", "agent": AGENT, "user_id": user, "started_at": NOW + timedelta(minutes=at),
             "ended_at": NOW, "metadata": json.dumps({"learning_opt_out": word})}
            for user, word, at in said
        ]
    )  # fmt: skip
    assert graduation.unwilling(store, AGENT) == {"user_0000", WITHDRAWN}
    assert graduation.agreed(store) == {OPTED_OUT, "user_0002"}
    number, manifest = made(store, clock, stated=True)
    used = graduation.sources(store, number).filter(pl.col("split").is_not_null())
    assert set(used["user_id"]) == {OPTED_OUT, "user_0002"}
    assert manifest["methods"]["supervised"]["missing"].startswith("2 of the 10")


def test_the_same_export_has_the_same_bytes(store, clock):
    first, _ = made(store, clock)
    second = export.make(store, AGENT, [LESSON], by="Bob")
    assert texts(store, first) == texts(store, second)
    with pytest.raises(ActionRefused, match="no person"):
        export.make(store, AGENT, [], by="trimtab")


def test_files_are_written_whole_or_not_at_all(store, clock, tmp_path, monkeypatch):
    number, manifest = made(store, clock)
    folder = tmp_path / "out" / "data"
    paths = export.write(store, number, folder)
    assert json.loads((folder / "manifest.json").read_text("utf-8")) == manifest
    assert {path.name: path.read_text("utf-8") for path in paths if path.suffix == ".jsonl"} == texts(store, number)
    with pytest.raises(ActionRefused, match="already"):
        export.write(store, number, folder)
    real, count = graduation.content, 0

    def broken(*arguments):
        nonlocal count
        count += 1
        if count == 2:
            raise OSError("no space left")
        return real(*arguments)

    monkeypatch.setattr(graduation, "content", broken)
    with pytest.raises(OSError, match="no space"):
        export.write(store, number, tmp_path / "out" / "other")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data"]


def test_a_decision_served_the_lesson_is_no_example_of_doing_without(store):
    # Two traces of one decision, and one decision with several versions: served once is served.
    expose(store, [("d-bad-000", "u", True, NOW)], version=1)
    assert "bad-000" not in graduation.contrary(store, AGENT, [LESSON])["trace_id"].to_list()


def test_a_tenth_of_tasks_validates():
    sides = [split_of(f"task {number}", "x", 0.1) for number in range(5_000)]
    assert 430 < sides.count("validation") < 570
    assert split_of(None, "a", 0.5) == split_of(None, "a", 0.5)
