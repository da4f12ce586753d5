"""Drafting on tau-bench: each of the 26 mixed tasks fits its prompt, and every quote of an answer is checked."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from drafting_world import answer, lesson, run, settings
from publishing import publisher

from pipelines.ingest.layouts.tau_bench import import_tau_bench
from pipelines.lessons.drafting import gather, material
from pipelines.lessons.playbook import estimate_tokens
from pipelines.runner import Runner
from store import contrasts, drafting, lessons
from store.clock import FixedClock
from store.connection import Store
from store.settings import Settings
from tests.pipelines.judges.model_server import Asked, ModelServer, model_server

JOBS = ("tasks", "rewards", "credit", "failures", "lessons")
RUN = re.compile(r"^RUN ([A-H]) went", re.MULTILINE)
STEP = re.compile(r"^STEP (\d+) \([^)]*\)[^\n]*\n((?:(?!STEP ).*\n?)*)", re.MULTILINE)

Said = dict[str, list[str]]


@pytest.fixture(scope="module")
def said(shared_data: Path) -> Said:
    """What was said in each trace, as the file has it: messages, calls and their arguments."""
    records = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text(encoding="utf-8"))
    found: Said = {}
    for record in records:
        texts = [str(message.get("content") or "") for message in record["traj"]]
        for message in record["traj"]:
            texts += [call["function"]["arguments"] for call in message.get("tool_calls") or []]
        found[import_tau_bench(record, "tau_bench").traces[0]["trace_id"]] = [" ".join(text.split()) for text in texts]
    return found


@pytest.fixture(scope="module")
def store(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("tau")
    opened = Store.open(folder / "t.duckdb", clock=FixedClock(datetime(2026, 11, 21, tzinfo=UTC)), threads=1)
    records = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text(encoding="utf-8"))
    imported = [import_tau_bench(record, "tau_bench") for record in records]
    publisher(opened, folder)(
        **{kind: [row for rows in imported for row in getattr(rows, kind)] for kind in ("traces", "spans", "signals")}
    )
    runner = Runner(opened, Settings())
    for job in JOBS:
        outcome = runner.execute(runner.claim(job, "manual"), lambda fraction, message: None)
        assert outcome.status == "succeeded", outcome.error
    yield opened
    opened.close()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


def test_no_step_pattern_survives_and_the_only_lesson_says_so(store: Store) -> None:
    (agent,) = contrasts.agents(store).to_dicts()
    assert (agent["tasks"], agent["mixed"], agent["survive"], agent["findings"]) == (50, 26, 0, 0)
    patterns = contrasts.patterns(store)
    assert patterns.height == agent["tested"] > 20
    assert patterns["q_value"].min() > 0.5  # type: ignore[operator]
    (lesson,) = lessons.library(store).to_dicts()
    assert not lesson["tested"]
    assert f"None of the {agent['tested']} step patterns" in lesson["why"]


def test_every_mixed_task_fits_sixteen_thousand_tokens_with_all_its_rollouts(store: Store) -> None:
    candidates = [*gather.candidates(store)]
    assert len(candidates) == 26
    for candidate in candidates:
        group = gather.group(store, candidate)
        assert len(group.rollouts) == 4
        question = material.question(group)
        whole = question.system + question.user + json.dumps(question.schema)
        assert estimate_tokens(whole) <= question.tokens + 3 <= 16_003
        # Not a character of these rollouts is lost.
        assert (question.cut, question.kept) == ((), 1.0)


def test_a_tighter_limit_shortens_every_rollout_and_says_so(store: Store) -> None:
    group = gather.group(store, next(gather.candidates(store, task="airline-17")))
    for limit in (9_000, 5_000, 3_000):
        question = material.question(group, limit=limit)
        assert question.tokens <= limit
        assert question == material.question(group, limit=limit)
        assert len(question.cut) == 4
        assert all(f"RUN {alias}" in question.user for alias in "ABCD")


def quotes(asked: Asked) -> list[dict[str, Any]]:
    """A true quote of every run, then false ones: a word replaced, another step's number, another run's letter."""
    starts = [*RUN.finditer(asked.user)]
    ends = [*(match.start() for match in starts[1:]), asked.user.index("FIRST DIFFERENCE")]
    items = []
    for match, end in zip(starts, ends, strict=True):
        block = asked.user[match.start() : end]
        texts = [
            (int(step[1]), line.split("output: ", 1)[1])
            for step in STEP.finditer(block)
            for line in step[2].splitlines()
            if line.startswith("output: ") and len(line) > 90
        ]
        number, line = texts[len(texts) // 2]
        true = line[7:67].strip()
        items.append({"trace": match[1], "step": number, "quote": true})
        words = true.split()
        words[len(words) // 2] = "zeppelin"
        items.append({"trace": match[1], "step": number, "quote": " ".join(words)})
        items.append({"trace": match[1], "step": number + 400, "quote": true})
        items.append({"trace": "Q", "step": number, "quote": true})
    return items


def test_every_quote_of_an_answer_is_checked_against_its_trace(store: Store, said: Said, server: ModelServer) -> None:
    def mind(asked: Asked) -> dict[str, Any]:
        task = re.search(r"TASK (\S+):", asked.user)[1]  # type: ignore[index]
        items = quotes(asked)
        half = len(items) // 2
        # The second lesson has false quotes only.
        return answer(
            lesson(do=f"Check it first ({task}).", evidence=items[:half] + items[half:]),
            lesson(title="Invented", do=f"Do as invented ({task}).", evidence=items[1::4] + items[2::4] + items[3::4]),
        )

    server.mind = mind
    done = run(
        store, settings(server, drafted_per_run=26, model_run_usd=50.0, model_daily_usd=50.0, model_run_tokens=10**8)
    )
    assert (done.rows, len(server.asked)) == (26, 26)
    rows = drafting.recent(store).to_dicts()
    assert {row["status"] for row in rows} == {"proposed"}
    for row in rows:
        (lesson_id,) = json.loads(row["lesson_ids"])
        evidence = lessons.evidence(store, lesson_id).to_dicts()
        assert len(evidence) == 4
        for one in evidence:
            assert one["verified"]
            assert any(" ".join(one["quote"].split()) in text for text in said[one["trace_id"]])
            assert "zeppelin" not in one["quote"]
        # Twelve false quotes in the first lesson; the second is refused with all of its own.
        dropped = json.loads(row["dropped"])
        assert len(dropped) == 12 + 12 + 1
        assert "Lesson 2 (Invented) is refused: none of its 12 quotes was found." in dropped
    assert run(store, settings(server, drafted_per_run=26)).rows == 0
    assert len(server.asked) == 26
