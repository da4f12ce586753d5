"""Forgetting a person: no table, no text, no byte of the file keeps them; what others have stays."""

import json
import re
import threading
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publishing import publisher

from store import (
    audit,
    backup,
    embeddings,
    forgetting,
    graduation,
    lessons,
    mentions,
    meta,
    never_explore,
    personal_data,
    tombstones,
)
from store.clock import FixedClock
from store.connection import Store
from store.errors import ActionRefused, NotFound, StoreError
from store.playbooks import Rendered

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
USER = "zelda-4711@example.org"
TRACE = "trace-of-zelda-1"
SESSION, DECISION, SIGNAL = "session-of-zelda-1", "decision-of-zelda-1", "signal-of-zelda-1"
SAID = "my grandmother's violin was left on platform nine"
ANSWER = "we have found the violin and will send it by courier"
MARKS = (USER, TRACE, SESSION, DECISION, SIGNAL, SAID, ANSWER)
OTHER = "What is the weather like in Bergen tomorrow?"

_IDS = {
    "user_id": USER, "trace_id": TRACE, "session_id": SESSION, "decision_id": DECISION, "signal_id": SIGNAL,
    "subject_id": TRACE, "other_id": "x", "best_trace_id": TRACE, "worst_trace_id": TRACE,
}  # fmt: skip
_JSON = {
    ("lesson_drafting", "chosen"): json.dumps([{"trace_id": TRACE, "role": "good"}]),
    ("graduation_exports", "manifest"): json.dumps({"told": f"{USER} said {SAID}"}),
}
# What is written by its own functions, or holds nothing of anybody's.
_APART = {"audit_log", "schema_migrations", "store_meta", "forgotten", "removals", "publications"}


def _render(served, budget):
    return Rendered("", (), 0)


@pytest.fixture
def opened(tmp_path):
    store = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    begin = NOW - timedelta(days=3)
    publisher(store, tmp_path)(
        traces=[
            {"trace_id": TRACE, "agent": "shop", "user_id": USER, "session_id": SESSION, "started_at": begin,
             "input": SAID, "output": ANSWER, "decision_id": DECISION},
            {"trace_id": "t2", "agent": "shop", "user_id": "other", "session_id": "s2", "started_at": begin,
             "input": OTHER, "output": "Rain."},
        ],
        spans=[
            {"trace_id": TRACE, "span_id": "1", "kind": "llm", "input": SAID, "output": ANSWER, "started_at": begin},
            {"trace_id": "t2", "span_id": "1", "kind": "tool", "name": "weather", "input": OTHER,
             "output": f"asked for by {USER}, not u-{USER}", "started_at": begin},
        ],
        signals=[{"signal_id": SIGNAL, "session_id": SESSION, "kind": "comment", "text": SAID, "occurred_at": begin}],
    )  # fmt: skip
    yield store
    store.close()


def _columns(store):
    with store.read() as reader:
        return reader.any_frame(
            """SELECT table_name, column_name, data_type, is_nullable, column_index FROM duckdb_columns()
            WHERE schema_name = 'main' AND NOT internal AND database_name NOT IN ('temp', 'system')
            ORDER BY table_name, column_index"""
        ).rows(named=True)


def _allowed(store):
    """One value that each CHECK allows, by (table, column)."""
    with store.read() as reader:
        rows = reader.any_frame(
            "SELECT table_name, constraint_text FROM duckdb_constraints() WHERE constraint_type = 'CHECK'"
        ).rows()
    found = {}
    for table, text in rows:
        column = re.search(r"CHECK\s*\(+\"?(\w+)\"? ", text)
        value = re.findall(r"'((?:[^']|'')*)'", text)
        if column and value:
            found[table, column.group(1)] = value[-1] if (table, column.group(1)) in {
                ("unit_rates", "scope"), ("exploration_bounds", "scope")} else value[0]  # fmt: skip
    return found


def _value(column, allowed):
    table, name, kind = column["table_name"], column["column_name"], column["data_type"]
    if (table, name) in _JSON:
        return _JSON[table, name]
    if (table, name) in allowed:
        return allowed[table, name]
    if name == "unit" and table in ("unit_rates", "never_explore", "exploration_bounds"):
        return USER
    if kind == "VARCHAR":
        text = f"about {USER} in {TRACE}: {SAID}"
        return _IDS.get(name, "x" if name in personal_data.HARMLESS else text)
    if kind == "VARCHAR[]":
        return [TRACE] if name in ("good_trace_ids", "bad_trace_ids") else ["x"]
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return NOW
    if kind == "BOOLEAN":
        return False
    return [] if kind.endswith("[]") else 1


def _plant(store):
    """A row in every table that names them wherever a text can."""
    allowed, tables = _allowed(store), {}
    for column in _columns(store):
        tables.setdefault(column["table_name"], []).append(column)

    def work(connection):
        for table, columns in tables.items():
            if table in _APART or table in personal_data.KEPT:
                continue
            values = [_value(column, allowed) for column in columns]
            marks = ", ".join("?" for _ in values)
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)

    store.write(work)


def _left(store):
    """Every column of text, of whatever table, in which one of the marks is left."""
    tables = {}
    for column in _columns(store):
        if "VARCHAR" in column["data_type"]:
            tables.setdefault(column["table_name"], []).append(column["column_name"])
    found = []
    pattern = "|".join(re.escape(mark) for mark in MARKS)
    with store.read() as reader:
        for table, names in tables.items():
            asked = ", ".join(
                f'bool_or(regexp_matches("{name}"::VARCHAR, $pattern)) AS c{i}' for i, name in enumerate(names)
            )
            row = reader.any_frame(f"SELECT {asked} FROM {table}", {"pattern": pattern}).row(0)
            found += [(table, name) for name, there in zip(names, row, strict=True) if there]
    return found


def _bytes(path):
    return [mark for mark in MARKS for file in path.parent.glob(path.name + "*") if mark.encode() in file.read_bytes()]


def test_every_table_and_column_is_classified(store):
    unknown = [
        (column["table_name"], column["column_name"])
        for column in _columns(store)
        if column["table_name"] not in personal_data.ERASED
        and column["table_name"] not in personal_data.KEPT
        and column["table_name"] not in personal_data.MENTIONS
    ]
    assert unknown == []
    texts = [
        (column["table_name"], column["column_name"])
        for column in _columns(store)
        if "VARCHAR" in column["data_type"]
        and column["table_name"] not in (*personal_data.ERASED, *personal_data.KEPT)
        and column["column_name"] not in personal_data.MENTIONS[column["table_name"]]
        and column["column_name"] not in personal_data.HARMLESS
    ]
    assert texts == []
    # Ids of people and traces may lie in no table whose rows do not go with them.
    named = [
        (column["table_name"], column["column_name"])
        for column in _columns(store)
        if column["column_name"] in ("user_id", "trace_id", "session_id", "subject_id")
        and column["table_name"] not in personal_data.ERASED
        and column["column_name"] not in personal_data.MENTIONS.get(column["table_name"], ())
    ]
    assert named == []


def test_no_table_text_or_byte_keeps_a_forgotten_person(opened, tmp_path):
    _plant(opened)
    never_explore.add(opened, "shop", "user", USER, reason="they asked", by="Ada")
    path = opened.path
    opened.rewrite()
    assert len({table for table, _ in _left(opened)}) > 40
    assert USER in _bytes(path)
    foreseen = forgetting.preview(opened, USER)
    report = forgetting.forget(opened, USER, operator="Ada", render=_render)
    assert report.rewritten
    assert report.rows == foreseen.rows
    assert report.audit_rows == 1
    assert _left(opened) == []
    assert _bytes(path) == []
    copy = tmp_path / "copies" / "backup.duckdb"
    copy.parent.mkdir()
    backup.backup(opened, copy)
    assert _bytes(copy) == []
    assert audit.verify(opened) is None
    with pytest.raises(NotFound):
        forgetting.forget(opened, USER, operator="Ada", render=_render)
    with opened.read() as reader:
        assert reader.value("SELECT count(*) FROM traces WHERE trace_id = 't2' AND input = $said", {"said": OTHER}) == 1
        assert (
            reader.value("SELECT output FROM spans WHERE trace_id = 't2'") == "asked for by [removed], not u-[removed]"
        )
    # What was received still adds up: the person's own, and the planted rows of the same trace.
    assert _table(
        opened, "SELECT sum(traces) > 0, sum(spans) > 0, sum(signals) > 0 FROM removals WHERE cause = 'forget'"
    ) == [(True, True, True)]


def _table(store, sql):
    with store.read() as reader:
        return reader.any_frame(sql).rows()


def test_the_audit_log_says_who_forgot_and_what_and_a_redacted_row_cannot_be_changed(opened):
    never_explore.add(opened, "shop", "user", USER, reason="they asked", by="Ada")
    forgetting.forget(opened, USER, operator="Grace", render=_render, reason="their letter of 3 May")
    told = audit.recent(opened).to_dicts()
    assert [row["action"] for row in told] == ["forget user", "audit redact", "never explore add"]
    assert told[0]["actor"] == "Grace"
    assert json.loads(told[0]["detail"])["rows"]["traces"] == 1
    assert json.loads(told[2]["detail"])["unit"] == "[removed]"
    assert audit.verify(opened) is None
    for column in ("actor", "subject", "detail", "action"):
        opened.write(lambda connection, column=column: connection.execute(
            f"UPDATE audit_log SET {column} = {column} || ' ' WHERE sequence = 1"))  # fmt: skip
        assert audit.verify(opened) == 1
        opened.write(lambda connection, column=column: connection.execute(
            f"UPDATE audit_log SET {column} = rtrim({column}) WHERE sequence = 1"))  # fmt: skip
        assert audit.verify(opened) is None
    # Nobody can pass a change off as a redaction.
    opened.write(lambda connection: connection.execute(
        "UPDATE audit_log SET detail = '{}', nonce = NULL WHERE sequence = 3"))  # fmt: skip
    assert audit.verify(opened) == 3


def test_late_data_is_refused_and_who_comes_back_is_new(opened, tmp_path):
    forgetting.forget(opened, USER, operator="Ada", render=_render)
    publish = publisher(opened, tmp_path)
    before, after = NOW - timedelta(days=1), NOW + timedelta(days=1)
    publish(
        traces=[
            {"trace_id": "late", "agent": "shop", "user_id": USER, "started_at": before, "input": "late words"},
            {"trace_id": TRACE, "agent": "shop", "started_at": after, "input": "the old trace again"},
            {"trace_id": "new", "agent": "shop", "user_id": USER, "started_at": after, "input": "hello again"},
            {"trace_id": "t9", "agent": "shop", "user_id": "other", "started_at": before, "input": "mine"},
        ],
        spans=[{"trace_id": "late", "span_id": "1", "kind": "llm", "input": "names nobody", "started_at": before}],
        signals=[{"signal_id": "g", "user_id": USER, "kind": "click", "value": 1.0}],
    )
    assert [row[0] for row in _table(opened, "SELECT trace_id FROM traces ORDER BY 1")] == ["new", "t2", "t9"]
    assert _table(opened, "SELECT count(*) FROM signals") == [(0,)]
    # The rest of a refused trace may come later and name nobody.
    publish(spans=[{"trace_id": "late", "span_id": "2", "kind": "llm", "input": "x", "started_at": before}])
    assert _table(opened, "SELECT count(*) FROM spans WHERE trace_id = 'late'") == [(0,)]
    assert _table(opened, "SELECT count(*) FROM forgotten WHERE contains(digest, 'zelda')") == [(0,)]


def test_a_key_in_a_file_of_its_own_makes_the_tombstones(opened):
    key = tombstones.key_of(opened)
    file = tombstones.key_file(opened.path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert tombstones.key_of(opened) == key
    assert len(key) == 64
    assert tombstones.digest(key, "user", "a") != tombstones.digest(key, "trace", "a")


def test_a_name_and_a_reason_without_the_id_are_needed(opened):
    with pytest.raises(ActionRefused):
        forgetting.forget(opened, USER, operator=audit.SYSTEM, render=_render)
    with pytest.raises(ActionRefused):
        forgetting.forget(opened, USER, operator="Ada", render=_render, reason=f"{USER} asked")
    with pytest.raises(NotFound):
        forgetting.preview(opened, "nobody")


def test_a_rewrite_that_a_reader_holds_up_stays_due(opened):
    with opened.read(), pytest.raises(StoreError, match="keeps it in use"):
        opened.rewrite(patience=0.05)
    assert _table(opened, "SELECT count(*) FROM traces") == [(2,)]
    opened.rewrite()
    assert _table(opened, "SELECT count(*) FROM traces") == [(2,)]
    opened.write(lambda connection: connection.execute("DELETE FROM spans"))
    assert lessons.counts(opened).is_empty()


def _lesson(store, name, *, evidence, state="active", user=None):
    proposal = {
        "lesson_id": name, "agent": "shop", "task": None, "tested": True, "value": 1.0, "title": f"Lesson {name}",
        "when_text": "someone asks", "when_not": None, "do_text": f"{'for them' if user else 'as in'}: {SAID}",
        "why": "it went well", "user_id": user,
    }  # fmt: skip
    rows = [
        {"lesson_id": name, "trace_id": trace, "span_id": None, "role": role, "reward": 0.5, "reward_sd": 0.1,
         "quote": SAID if trace == TRACE else OTHER}
        for trace, role in evidence
    ]  # fmt: skip
    schema = {**lessons.PROPOSALS, **dict.fromkeys(("lesson_id",), pl.String)}
    lessons.propose(
        store, pl.DataFrame([proposal], schema_overrides={k: schema[k] for k in proposal}),
        pl.DataFrame(rows, schema_overrides={k: lessons.EVIDENCE[k] for k in rows[0]}),
    )  # fmt: skip
    store.write(
        lambda connection: connection.execute(
            "UPDATE lessons SET state = $s WHERE lesson_id = $l", {"s": state, "l": name}
        )
    )


def test_lessons_lose_that_evidence_and_those_with_too_little_are_demoted(opened):
    _lesson(opened, "enough", evidence=[(TRACE, "good"), ("t2", "good"), ("t3", "bad")])
    _lesson(opened, "oneside", evidence=[(TRACE, "good"), ("t2", "bad"), ("t3", "bad")])
    _lesson(opened, "nothing", evidence=[(TRACE, "good")])
    _lesson(opened, "waiting", evidence=[(TRACE, "good")], state="proposed")
    _lesson(opened, "untouched", evidence=[("t2", "good")])
    _lesson(opened, "own", evidence=[("t2", "good")], user=USER)
    told = ["\n".join(row) for row in _table(
        opened, "SELECT title, when_text, do_text FROM lesson_versions WHERE lesson_id IN ('enough', 'waiting')"
    )]  # fmt: skip
    embeddings.keep(opened, "o", 1, {embeddings.content_hash(text): [1.0, 0.0] for text in told})
    assert _table(opened, "SELECT count(*) FROM lesson_embeddings") == [(len(set(told)),)]
    foreseen = {one.lesson_id: one.demoted_to for one in forgetting.preview(opened, USER).lessons}
    assert foreseen == {"enough": None, "oneside": "canary", "nothing": "retired", "waiting": None}
    report = forgetting.forget(opened, USER, operator="Ada", render=_render)
    assert {one.lesson_id: (one.good, one.bad, one.demoted_to) for one in report.lessons} == {
        "enough": (1, 1, None), "oneside": (0, 2, "canary"), "nothing": (0, 0, "retired"), "waiting": (0, 0, None),
    }  # fmt: skip
    states = dict(_table(opened, "SELECT lesson_id, state FROM lessons"))
    assert states == {
        "enough": "active", "oneside": "canary", "nothing": "retired", "waiting": "proposed", "untouched": "active",
        "own": "retired",
    }  # fmt: skip
    assert _table(opened, "SELECT count(*) FROM lesson_evidence WHERE trace_id = 'trace-of-zelda-1'") == [(0,)]
    # What only they said is taken out of the texts of lessons; what others say too would stay.
    texts = [row[0] for row in _table(opened, "SELECT do_text FROM lesson_versions WHERE lesson_id NOT IN ('own')")]
    assert all(text.startswith("as in") and text.endswith("[removed]") for text in texts)
    # Of the words that are gone no numbers are left either.
    assert _table(opened, "SELECT count(*) FROM lesson_embeddings") == [(0,)]
    demotions = audit.recent(opened, subject="lesson oneside").to_dicts()
    assert [(row["actor"], row["action"]) for row in demotions] == [("trimtab", "lesson demote")]
    assert "forgotten" in json.loads(demotions[0]["detail"])["reason"]
    assert audit.verify(opened) is None
    assert _left(opened) == []


def test_what_others_say_too_stays_in_other_texts(opened, tmp_path):
    publisher(opened, tmp_path)(
        traces=[{"trace_id": "t5", "agent": "shop", "user_id": "other", "started_at": NOW, "input": f"so: {SAID}."}]
    )
    _lesson(opened, "shared", evidence=[("t2", "good")])
    forgetting.forget(opened, USER, operator="Ada", render=_render)
    assert _table(opened, "SELECT do_text FROM lesson_versions") == [(f"as in: {SAID}",)]


def test_training_data_made_of_their_traces_is_withdrawn(opened):
    def plant(connection):
        connection.execute(
            """INSERT INTO graduation_exports (export_id, agent, lessons, data_version, code_version, manifest,
                created_by, created_at) VALUES (1, 'shop', '[]', 1, 'v', '{}', 'Ada', $now),
                (2, 'shop', '[]', 1, 'v', '{}', 'Ada', $now)""",
            {"now": NOW},
        )
        for export, trace in ((1, TRACE), (2, "t2")):
            connection.execute(
                """INSERT INTO graduation_sources (export_id, method, trace_id, split)
                VALUES ($e, 'dpo', $t, 'train')""",
                {"e": export, "t": trace},
            )
            connection.execute(
                "INSERT INTO graduation_files VALUES ($e, 'train.jsonl', 'dpo', 'train', 1, 1, 'h', 'line')",
                {"e": export},
            )

    opened.write(plant)
    report = forgetting.forget(opened, USER, operator="Ada", render=_render)
    assert report.exports == (1,)
    assert _table(opened, "SELECT export_id, content FROM graduation_files ORDER BY 1") == [(1, None), (2, "line")]
    assert "withdrawn" in json.loads(graduation.export(opened, 1)["manifest"])
    with pytest.raises(NotFound):
        graduation.content(opened, 1, "train.jsonl")


@given(
    st.text('ab1-_.@ "\\é', min_size=1, max_size=14),
    st.text('ab1-_.@ ,"é', max_size=12),
    st.text("ab1-_.@ ,é", max_size=12),
)
@settings(max_examples=150, deadline=None)
def test_an_id_goes_from_texts_as_a_word_of_its_own_and_json_stays_json(identity, before, after):
    person = mentions.Person([identity])
    value = {"unit": identity, "told": [f"{before} {identity} {after}", 7]}
    for ascii in (True, False):
        done = json.loads(person.removed(json.dumps(value, ensure_ascii=ascii)))
        assert done["unit"] == mentions.REMOVED
        assert done["told"][1] == 7
    if mentions.distinctive(identity):
        spaced = person.removed(f"x {identity} y")
        assert identity not in spaced
        assert person.removed(f"x0{identity}0y") == f"x0{identity}0y" or not identity[0].isalnum()


def test_reading_and_writing_go_on_while_a_person_is_forgotten(opened, tmp_path):
    stop, failed = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                assert _table(opened, "SELECT count(*) FROM traces WHERE user_id = 'other'")[0][0] >= 1
            except Exception as error:
                failed.append(error)

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            try:
                opened.write(lambda connection: meta.bump(connection))
            except Exception as error:
                failed.append(error)
        counts.append(number)

    counts = []
    threads = [threading.Thread(target=work) for work in (read, read, write)]
    for thread in threads:
        thread.start()
    before = _table(opened, "SELECT value FROM store_meta WHERE key = 'data_version'")[0][0]
    report = forgetting.forget(opened, USER, operator="Ada", render=_render)
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert report.rewritten
    # No change was lost: each of them, and that of forgetting itself.
    after = _table(opened, "SELECT value FROM store_meta WHERE key = 'data_version'")[0][0]
    assert after >= before + 1
    assert after <= counts[0] + 10
    assert _bytes(opened.path) == []


def test_a_table_that_nobody_classified_is_caught_by_the_net(opened):
    opened.write(lambda connection: connection.execute("CREATE TABLE novel (note VARCHAR)"))
    opened.write(
        lambda connection: connection.execute("INSERT INTO novel VALUES ($t)", {"t": f"for {USER}, twice {USER}"})
    )
    report = forgetting.forget(opened, USER, operator="Ada", render=_render)
    assert _table(opened, "FROM novel") == [("for [removed], twice [removed]",)]
    assert report.cells["novel"] == 1
