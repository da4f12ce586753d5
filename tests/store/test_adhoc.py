"""Read-only SQL: what is answered, and that nothing else runs."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publishing import Publish

from store import adhoc
from store.connection import Store
from store.errors import QueryTimeout, StoreError


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file beside the working directory that no statement may read."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "secret.csv"
    path.write_text("word\ntopsecret\n")
    return path


@pytest.mark.parametrize(
    ("sql", "height"),
    [
        ("SELECT 1 AS one", 1),
        ("FROM traces", 2),
        ("WITH t AS (SELECT * FROM traces) SELECT t.trace_id FROM t JOIN main.spans USING (trace_id)", 1),
        ("-- a comment\nSELECT trace_id FROM traces; ", 2),
        ("VALUES (1), (2), (3)", 3),
        ("SELECT * FROM range(4)", 4),
        ("SELECT unnest([1, 2])", 2),
        ("SELECT * FROM (PIVOT traces ON agent IN ('bot') USING count(*) GROUP BY trace_id)", 2),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) FROM n", 5),
        ("FROM information_schema.schemata WHERE schema_name = 'main' AND catalog_name = current_database()", 1),
        ("FROM TRACES", 2),
    ],
)
def test_reading_statements_are_answered(store: Store, publish: Publish, sql: str, height: int) -> None:
    publish(
        traces=[{"trace_id": "a", "agent": "bot"}, {"trace_id": "b"}],
        spans=[{"trace_id": "a", "span_id": "s", "kind": "llm"}],
    )
    assert len(adhoc.query(store, sql)) == height


@pytest.mark.parametrize(
    "sql", ["DESCRIBE traces", "SHOW TABLES", "SUMMARIZE traces", "EXPLAIN FROM traces", "EXPLAIN ANALYZE SELECT 1"]
)
def test_statements_about_the_store_are_answered(store: Store, sql: str) -> None:
    assert len(adhoc.query(store, sql)) > 0


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE traces",
        "DROP TABLE traces",
        "INSERT INTO traces SELECT * FROM traces",
        "UPDATE store_meta SET value = 9",
        "DELETE FROM traces",
        "CREATE TABLE x AS SELECT 1",
        "CREATE TEMP TABLE x AS SELECT 1",
        "COPY traces TO 'out.csv'",
        "COPY (SELECT 1) TO 'out.csv'",
        "EXPLAIN ANALYZE COPY traces TO 'out.csv'",
        "EXPLAIN (ANALYZE) COPY traces TO 'out.csv'",
        "EXPORT DATABASE 'out'",
        "ATTACH 'out.duckdb'",
        "DETACH memory",
        "PRAGMA disable_checkpoint_on_shutdown",
        "SET memory_limit = '1MB'",
        "RESET memory_limit",
        "CALL pragma_version()",
        "CHECKPOINT",
        "INSTALL httpfs",
        "LOAD httpfs",
        "BEGIN",
        "USE memory",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "VACUUM",
        "PIVOT traces ON agent USING count(*)",
    ],
)
def test_anything_else_is_refused(store: Store, secret: Path, sql: str) -> None:
    with pytest.raises(adhoc.SqlRefused):
        adhoc.query(store, sql)
    assert sorted(path.name for path in secret.parent.iterdir() if path.name.startswith("out")) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM 'secret.csv'",
        'SELECT * FROM "secret.csv"',
        "FROM secret.csv",
        "SELECT * FROM read_csv('secret.csv')",
        "SELECT * FROM READ_CSV_AUTO('secret.csv')",
        "SELECT * FROM read_text('secret.csv')",
        "SELECT * FROM read_blob('secret.csv')",
        "SELECT * FROM glob('*')",
        "SELECT * FROM sniff_csv('secret.csv')",
        "SELECT * FROM query('FROM ''secret.csv''')",
        "SELECT * FROM query_table('secret.csv')",
        "SELECT (SELECT max(word) FROM 'secret.csv')",
        "SELECT 1 WHERE EXISTS (FROM 'secret.csv')",
        "SELECT 1 UNION ALL SELECT count(*) FROM 'secret.csv'",
        "SELECT [x FOR x IN (SELECT list(word) FROM 'secret.csv')]",
        "WITH t AS (FROM 'secret.csv') FROM t",
        'WITH "secret.csv" AS (SELECT 1) FROM "secret.csv"',
        # A name bound in one place is not bound in another.
        'SELECT * FROM (WITH "secret.csv" AS (SELECT 1) FROM "secret.csv") a, "secret.csv" b',
        "WITH csv AS (SELECT 1) SELECT * FROM secret.csv",
        "DESCRIBE 'secret.csv'",
        "SUMMARIZE 'secret.csv'",
        "EXPLAIN ANALYZE SELECT * FROM 'secret.csv'",
        "SELECT * FROM traces, LATERAL (FROM read_csv('secret.csv'))",
        "FROM json_execute_serialized_sql('x')",
    ],
)
def test_no_statement_reads_a_file(store: Store, secret: Path, sql: str) -> None:
    with pytest.raises(StoreError) as caught:
        adhoc.query(store, sql)
    assert "topsecret" not in str(caught.value)


def test_a_misspelt_table_is_named_with_the_likely_one(store: Store) -> None:
    with pytest.raises(adhoc.SqlRefused, match=r"There is no table trace in the store\. Did you mean traces\?"):
        adhoc.query(store, "FROM trace")


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT", "SELECT nothing FROM traces", "SELECT 1 +"])
def test_an_error_in_the_statement_comes_in_the_words_of_the_engine(store: Store, sql: str) -> None:
    with pytest.raises(StoreError, match="Error: "):
        adhoc.query(store, sql)


def test_a_type_that_cannot_be_shown_says_what_to_do(store: Store) -> None:
    with pytest.raises(StoreError, match="Cast it to text"):
        adhoc.query(store, "SELECT INTERVAL 1 DAY")


def test_a_long_statement_is_stopped(store: Store) -> None:
    with pytest.raises(QueryTimeout):
        adhoc.query(store, "SELECT count(*) FROM range(1000000000) a, range(1000000000) b", timeout=0.2)


WORDS = [
    "SELECT", "FROM", "WITH", "AS", "(", ")", ",", ";", "*", "1", "'out.csv'", '"out.csv"', "out.csv", "traces", "t",
    "COPY", "TO", "INSERT", "INTO", "VALUES", "DELETE", "DROP", "TABLE", "CREATE", "EXPLAIN", "ANALYZE", "ATTACH",
    "SET", "=", "UPDATE", "WHERE", "UNION", "ALL", "read_csv", "--", "/*", "*/", "PIVOT", "ON", "USING", "count(*)",
]  # fmt: skip


@settings(max_examples=300)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
def test_arbitrary_text_never_changes_the_store(memory_store: Callable[[], Store], words: list[str]) -> None:
    store = memory_store()
    before = adhoc.query(store, "SELECT table_name, estimated_size FROM duckdb_tables() ORDER BY 1")
    with suppress(StoreError):
        adhoc.query(store, " ".join(words), timeout=1)
    assert adhoc.query(store, "SELECT table_name, estimated_size FROM duckdb_tables() ORDER BY 1").equals(before)


@pytest.fixture(scope="module")
def memory_store() -> Callable[[], Store]:
    """One store in memory for all examples of a property."""
    opened = Store.open(None, threads=1)
    return lambda: opened
