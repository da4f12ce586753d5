"""Sets of lessons come back as their playbook said, whatever happened to the lessons since."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import duckdb
import pytest
from served_lessons import NOON, lesson, propose, serve

from store import lesson_sets
from store.clock import FixedClock
from store.connection import Store
from store.errors import NotFound
from store.playbooks import Served

LESSONS = [
    lesson("b", holdout=0.2, state="canary", payoff=0.03, payoff_sd=0.01, payoff_n=200, trust="operator"),
    lesson("c", task="exchange", expires_at=NOON + timedelta(days=3), when_not="Never."),
    lesson("a", task="refund", segment="new", trust="operator"),
    lesson("d", agent="*", user_id="u", task="refund", trust="operator"),
]


def test_a_set_is_what_the_playbook_says(store: Store) -> None:
    assert lesson_sets.in_force(store, "shop") is None
    propose(store, LESSONS)
    assert serve(store, LESSONS, settings=Served(token_budget=500, empty_share=0.0)) == 1
    found = lesson_sets.in_force(store, "shop")
    assert found is not None
    # In the order in which playbooks are written: for all tasks first, then by task and age.
    assert found.lessons == tuple(LESSONS)
    assert (found.agent, found.playbook_version, found.token_budget, found.empty_share) == ("shop", 1, 500, 0.0)


def test_a_set_of_before_does_not_change(store: Store, clock: FixedClock) -> None:
    propose(store, LESSONS)
    serve(store, LESSONS)
    before = lesson_sets.at(store, "shop", 1)
    store.write(
        lambda connection: connection.execute(
            """INSERT INTO lesson_versions BY NAME SELECT * REPLACE (2 AS version, 'Other.' AS do_text)
            FROM lesson_versions WHERE lesson_id = 'b'"""
        )
    )
    store.write(
        lambda connection: connection.execute("UPDATE lessons SET version = 2, state = 'retired', holdout = .9")
    )
    serve(store, [replace(LESSONS[0], version=2, state="active")])
    assert lesson_sets.at(store, "shop", 1) == before
    newest = lesson_sets.in_force(store, "shop")
    assert newest is not None
    assert [(each.version, each.do_text, each.holdout) for each in newest.lessons] == [(2, "Other.", 0.2)]
    serve(store, [], settings=Served(off="too risky"))
    off = lesson_sets.in_force(store, "shop")
    assert off is not None
    assert off.lessons == ()


def test_a_playbook_of_the_time_before_entries_serves_what_it_names(store: Store, clock: FixedClock) -> None:
    propose(store, LESSONS)
    serve(store, [LESSONS[0], LESSONS[2]])
    store.write(
        lambda connection: connection.execute(
            "UPDATE playbooks SET entries = NULL, settings = NULL, created_at = created_at + INTERVAL 1 HOUR"
        )
    )
    # Edited after that.
    store.write(
        lambda connection: connection.execute(
            """INSERT INTO lesson_versions BY NAME SELECT * REPLACE (2 AS version, 'Other.' AS do_text,
            created_at + INTERVAL 1 DAY AS created_at) FROM lesson_versions WHERE lesson_id = 'b'"""
        )
    )
    found = lesson_sets.at(store, "shop", 1)
    assert [(each.lesson_id, each.version, each.state, each.holdout) for each in found.lessons] == [
        ("b", 1, "active", 0.2), ("a", 1, "active", 0.1),
    ]  # fmt: skip
    assert (found.token_budget, found.empty_share) == (lesson_sets.TOKEN_BUDGET, lesson_sets.EMPTY_SHARE)
    assert [each.segment for each in found.lessons] == [None, "new"]


def test_an_unknown_version_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        lesson_sets.at(store, "shop", 1)


def test_five_thousand_lessons_load(store: Store) -> None:
    many = [lesson(f"l{i:04d}", when_text=f"Case {i}.", do_text=f"Do {i}. 🙂", trust="operator") for i in range(5_000)]
    propose(store, many)
    serve(store, many)
    found = lesson_sets.in_force(store, "shop")
    assert found is not None
    assert found.lessons == tuple(many)


def test_a_condition_is_ours_until_it_is_edited_itself(store: Store) -> None:
    ours = lesson("a")
    propose(store, [ours])
    for version, column in ((2, "do_text"), (3, "when_text")):
        edit = f"""INSERT INTO lesson_versions BY NAME
            SELECT * REPLACE ({version} AS version, 'Edited.' AS {column}, 'ann' AS author)
            FROM lesson_versions WHERE lesson_id = 'a' AND version = {version - 1}"""
        store.write(partial(_run, edit))
        serve(store, [replace(ours, version=version)])
    own = [lesson_sets.at(store, "shop", each).lessons[0].own_condition for each in (1, 2)]
    assert own == [True, False]


def _run(sql: str, connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(sql)
