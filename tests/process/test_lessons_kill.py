"""Exposures of decisions that a killed server answered: stored with their decision, each once."""

import threading
from pathlib import Path

import polars as pl
import pytest
from served_lessons import lesson, propose, serve
from server_process import ServerProcess

from store.connection import Store
from tests.process.test_steer_kill import Answers, ids_in_files, in_no_file_yet, under_load

AGENT = "support-bot"


@pytest.mark.process
def test_exposures_are_there_once_after_a_kill(tmp_path: Path) -> None:
    db = tmp_path / "steer.duckdb"
    store = Store.open(db, threads=1)
    lessons = [lesson(f"l{i}", agent=AGENT, holdout=0.3) for i in range(5)]
    propose(store, lessons)
    serve(store, lessons, agent=AGENT)
    store.close()
    answers = Answers()
    with ServerProcess(db, tmp_path / "server.log") as server:
        server.start()
        stop = threading.Event()
        first = under_load(server, answers, 0, stop)
        answers.wait_for(100)
        stop.set()
        for thread in first:
            thread.join(60)
        while in_no_file_yet(server):
            threading.Event().wait(0.02)
        safe = {each[0] for each in answers.received}
        threads = under_load(server, answers, 1, threading.Event())
        answers.wait_for(len(answers.received) + 100)
        server.kill()
        for thread in threads:
            thread.join(60)
        safe |= ids_in_files(db)
        server.start()
        server.terminate()
        assert server.ended() == 0
    store = Store.open(db, threads=1)
    try:
        with store.read() as reader:
            found = reader.any_frame(
                """SELECT d.decision_id, count(e.lesson_id) AS lessons, count(DISTINCT e.lesson_id) AS different,
                    min(e.unit = d.unit AND e.agent = d.agent AND e.decided_at = d.decided_at) AS same
                FROM decisions AS d LEFT JOIN exposures AS e USING (decision_id) GROUP BY d.decision_id"""
            )
            orphans = reader.value("SELECT count(*) FROM exposures ANTI JOIN decisions USING (decision_id)")
            statuses = reader.any_frame(
                """SELECT session_id, lesson_id, count(DISTINCT status) AS several FROM exposures
                JOIN decisions USING (decision_id) GROUP BY ALL"""
            )
    finally:
        store.close()
    assert safe <= set(found["decision_id"])
    assert found["decision_id"].is_unique().all()
    assert found.filter((pl.col("lessons") != 5) | (pl.col("different") != 5) | ~pl.col("same")).is_empty()
    assert orphans == 0
    # A session keeps its draws over the kill.
    assert set(statuses["several"]) == {1}
    # Until the first policy is published the agent is not known.
    assert set(answers.other) <= {404}
