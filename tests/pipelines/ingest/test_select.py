"""Compiled mappings, run on DuckDB: typed rows, rejects in words, nothing dropped, hostile names and cells."""

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Columns
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest import json_extras
from pipelines.ingest.layout_columns import KINDS, TARGETS, Kind, fact_columns
from pipelines.ingest.mapping import Mapping, MappingError, Rule, identity, problems
from pipelines.ingest.select import compile_select, derives_ids, positional
from pipelines.ingest.transforms import TRANSFORMS_FOR, Transform

T = Transform
Row = dict[str, Any]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'America/New_York'")
        yield opened


def run(
    connection: duckdb.DuckDBPyConnection,
    mapping: Mapping,
    columns: Columns[str, Sequence[Any] | pa.Array],
    *,
    extras: Sequence[str] | None = None,
    packed: bool = False,
) -> list[Row]:
    """The rows of a mapping over columns given as lists of texts or as Arrow arrays; extras default to the unmapped.

    With `packed` the rows come as JSON objects of texts, read as JSON Lines are.
    """
    arrays = [cells if isinstance(cells, pa.Array) else pa.array(cells, pa.string()) for cells in columns.values()]
    numbers = pa.array(range(1, len(arrays[0]) + 1), pa.int64())
    if packed:
        rows = pa.table(arrays, names=list(columns)).to_pylist()
        texts = pa.array([json.dumps(row) for row in rows], pa.string())
        made = json_extras.pack(connection, texts, set(mapping.columns()), digest=derives_ids(mapping))
        read = {name: array for name, array in zip(columns, arrays, strict=True) if name in mapping.columns()}
        compiled = compile_select(mapping, dict.fromkeys(read, pa.string()), "chunk", packed=True)
        names = [*read, *json_extras.COLUMNS, "record_no"]
        connection.register("chunk", positional(pa.table([*read.values(), *made.table.columns, numbers], names)))
        return connection.execute(compiled.sql).to_arrow_table().to_pylist()
    if extras is None:
        extras = [name for name in columns if name not in mapping.columns()]
    types = {name: array.type for name, array in zip(columns, arrays, strict=True)}
    compiled = compile_select(mapping, types, "chunk", extras=extras)
    connection.register("chunk", positional(pa.table([*arrays, numbers], [*columns, "record_no"])))
    table = connection.execute(compiled.sql).to_arrow_table()
    assert table.column_names == ["record_no", *fact_columns(mapping.kind), "reject_column", "reject_reason"]
    rows: list[Row] = table.to_pylist()
    return rows


def one(
    connection: duckdb.DuckDBPyConnection, mapping: Mapping, cells: Columns[str, str | None], **options: Any
) -> Row:
    (row,) = run(connection, mapping, {name: [cell] for name, cell in cells.items()}, **options)
    return row


def traces(*rules: Rule) -> Mapping:
    return Mapping("traces", (Rule("trace_id", "id", T.TEXT), *rules), "shop")


def signals(*rules: Rule, kind: str = "thumb") -> Mapping:
    return Mapping("signals", (Rule("kind", None, T.SIGNAL_KIND, kind), *rules), "shop")


@pytest.mark.parametrize("kind", KINDS)
def test_columns_and_types_are_those_of_the_fact_table(connection: duckdb.DuckDBPyConnection, kind: Kind) -> None:
    rules = identity(kind, TARGETS[kind], "s").rules
    types = {rule.target: pa.string() for rule in rules}
    compiled = compile_select(Mapping(kind, rules, "s"), types, "chunk")
    table = pa.table({name: pa.array([], pa.string()) for name in types}).append_column(
        "record_no", pa.array([], pa.int64())
    )
    connection.register("chunk", positional(table))
    described = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {compiled.sql}").fetchall()}
    wanted = {
        name: type_.replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE") for name, type_ in compiled.columns.items()
    }
    assert described == {"record_no": "BIGINT", **wanted, "reject_column": "VARCHAR", "reject_reason": "VARCHAR"}
    assert compiled.columns == fact_columns(kind)


def test_a_row_of_a_foreign_file(connection: duckdb.DuckDBPyConnection) -> None:
    mapping = traces(
        Rule("user_id", "uid", T.TEXT),
        Rule("agent", None, T.TEXT, "bot"),
        Rule("started_at", "ts", T.TIME_MILLISECONDS),
        Rule("duration_seconds", "latency", T.MILLISECONDS),
        Rule("status", "state", T.STATUS),
        Rule("input", "q", T.TEXT),
        Rule("input_tokens", "tokens", T.INTEGER),
        Rule("cost_usd", "cents", T.CENTS),
    )
    cells = {"id": " t1 ", "uid": "u1", "ts": "1767225600123", "latency": "1500", "state": "SUCCESS", "q": "  hi\n"}
    row = one(connection, mapping, {**cells, "tokens": "12.0", "cents": "12", "extra": "x", "empty": ""})
    start = datetime(2026, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)
    assert {key: value for key, value in row.items() if value is not None} == {
        "record_no": 1,
        "trace_id": "t1",
        "source": "shop",
        "agent": "bot",
        "user_id": "u1",
        "started_at": start,
        "ended_at": start.replace(second=1, microsecond=623_000),
        "status": "ok",
        "input": "  hi\n",
        "input_tokens": 12,
        "cost_usd": 0.12,
        "metadata": '{"extra":"x"}',
    }


REJECTS: list[tuple[Mapping, dict[str, str | None], str | None, list[str]]] = [
    (traces(), {"id": None}, "id", ['Column "id" is empty', "trace_id is required"]),
    (traces(), {"id": " "}, "id", ["is empty"]),
    (
        traces(Rule("input_tokens", "n", T.INTEGER)),
        {"id": "t", "n": "12.5"},
        "n",
        ['Column "n" has "12.5"; expected a whole number.'],
    ),
    (
        traces(Rule("input_tokens", "n", T.INTEGER)),
        {"id": "t", "n": "-1"},
        "n",
        ['has "-1"; expected a number of tokens'],
    ),
    (traces(Rule("cost_usd", "n", T.USD)), {"id": "t", "n": "NaN"}, "n", ['has "NaN"; expected an amount']),
    (traces(Rule("cost_usd", "n", T.USD)), {"id": "t", "n": "x" * 81}, "n", [f'has "{"x" * 80}…"; expected']),
    (traces(Rule("cost_usd", "n", T.USD)), {"id": "t", "n": "x" * 80}, "n", [f'has "{"x" * 80}"; expected']),
    (
        traces(Rule("started_at", "ts", T.TIME_AUTO)),
        {"id": "t", "ts": "01/02/2026"},
        "ts",
        ['has "01/02/2026"; expected a time', "time_mdy or time_dmy"],
    ),
    (
        traces(Rule("started_at", "ts", T.TIME_AUTO)),
        {"id": "t", "ts": "1767225600123"},
        "ts",
        ["(looks like a time in another unit: time_milliseconds fits)"],
    ),
    (
        traces(Rule("started_at", "ts", T.TIME_MILLISECONDS)),
        {"id": "t", "ts": "12000"},
        "ts",
        ["1970-01-01T00:00:12Z: looks like a time in another unit; expected a time from 1990-01-01 to 2100-01-01"],
    ),
    (
        traces(Rule("started_at", "ts", T.TIME_MILLISECONDS)),
        {"id": "t", "ts": "1767225600"},
        "ts",
        ["1970-01-21T10:53:45Z: looks like a time in another unit (time_seconds fits)"],
    ),
    (
        traces(Rule("started_at", "ts", T.TIME_SECONDS)),
        {"id": "t", "ts": "1767225600123"},
        "ts",
        ["looks like a time in another unit", "time_milliseconds fits"],
    ),
    (
        traces(Rule("started_at", "ts", T.TIME_AUTO)),
        {"id": "t", "ts": "1970-01-21T10:53:45Z"},
        "ts",
        ["1970-01-21T10:53:45Z: looks like a time in another unit"],
    ),
    (
        traces(Rule("started_at", "ts", T.TIME_AUTO)),
        {"id": "t", "ts": "2170-06-01"},
        "ts",
        ["which is 2170-06-01T00:00:00Z; expected a time from 1990-01-01 to 2100-01-01."],
    ),
    (
        traces(Rule("started_at", "s", T.TIME_AUTO), Rule("duration_seconds", "d", T.SECONDS)),
        {"id": "t", "s": "2026-01-01", "d": "-3"},
        "d",
        ['has "-3"; expected a duration in seconds, 0 or more'],
    ),
    (
        signals(Rule("propensity", "p", T.NUMBER)),
        {"p": "0"},
        "p",
        ['Column "p" has "0"; expected a probability above 0 and at most 1.'],
    ),
    (signals(Rule("propensity", "p", T.NUMBER)), {"p": "1.01"}, "p", ["expected a probability"]),
    (signals(Rule("position", "r", T.INTEGER)), {"r": "0"}, "r", ["counted from 1", "position_from_zero"]),
    (signals(Rule("position", "r", T.POSITION_FROM_ZERO)), {"r": "-1"}, "r", ["counted from 1"]),
    (signals(Rule("position", "r", T.INTEGER)), {"r": "3000000000"}, "r", ["counted from 1"]),
    (signals(Rule("value", "v", T.THUMB)), {"v": "meh"}, "v", ['has "meh"; expected a thumb']),
    (signals(Rule("value", "v", T.RATING_1_5), kind="rating"), {"v": "6"}, "v", ["expected a rating from 1 to 5"]),
    (signals(Rule("value", "v", T.NUMBER)), {"v": "-1"}, "v", ["expected a value from 0 to 1", "rating_1_5"]),
    (
        Mapping("signals", (Rule("kind", "k", T.SIGNAL_KIND),), "s"),
        {"k": "sneeze"},
        "k",
        ['has "sneeze"; expected one of thumb, rating'],
    ),
    (Mapping("signals", (Rule("kind", "k", T.SIGNAL_KIND),), "s"), {"k": ""}, "k", ["is empty", "kind is required"]),
    (
        Mapping("spans", (Rule("trace_id", "t", T.TEXT), Rule("ordinal", "o", T.INTEGER)), "s"),
        {"t": "t", "o": "9999999999"},
        "o",
        ["expected a whole number"],
    ),
    (
        Mapping("spans", (Rule("trace_id", "t", T.TEXT), Rule("span_id", "i", T.TEXT)), "s"),
        {"t": "t", "i": None},
        "i",
        ["span_id is required"],
    ),
    (
        Mapping("impressions", (Rule("clicked", "c", T.BOOLEAN),), "s"),
        {"c": "perhaps"},
        "c",
        ["expected yes or no"],
    ),
    (
        traces(Rule("cost_usd", None, T.USD, "cheap")),
        {"id": "t"},
        None,
        ['The constant for "cost_usd" has "cheap"; expected an amount'],
    ),
]


@pytest.mark.parametrize(("mapping", "cells", "column", "says"), REJECTS)
def test_rejects_name_the_column_what_came_and_what_was_expected(
    connection: duckdb.DuckDBPyConnection,
    mapping: Mapping,
    cells: dict[str, str | None],
    column: str | None,
    says: list[str],
) -> None:
    row = one(connection, mapping, cells)
    assert row["reject_column"] == column
    assert all(words in row["reject_reason"] for words in says), row["reject_reason"]
    assert row["reject_reason"].endswith(".")


def test_numbers_of_typed_columns_are_rejected_alike(connection: duckdb.DuckDBPyConnection) -> None:
    mapping = traces(Rule("cost_usd", "c", T.USD), Rule("input_tokens", "n", T.INTEGER))
    columns = {
        "id": ["a", "b", "c", "d"],
        "c": pa.array([0.5, float("nan"), float("inf"), None]),
        "n": pa.array([1, 2, 3, -4], pa.int32()),
    }
    rows = run(connection, mapping, columns)
    assert [row["reject_column"] for row in rows] == [None, "c", "c", "n"]
    assert 'has "nan"; expected' in rows[1]["reject_reason"]


def test_clock_skew_is_kept(connection: duckdb.DuckDBPyConnection) -> None:
    mapping = traces(Rule("started_at", "s", T.TIME_AUTO), Rule("ended_at", "e", T.TIME_AUTO))
    row = one(connection, mapping, {"id": "t", "s": "2026-01-01T00:00:01Z", "e": "2026-01-01T00:00:00Z"})
    assert row["reject_reason"] is None
    assert row["ended_at"] < row["started_at"]


def test_a_stated_end_wins_over_a_duration_which_is_then_kept(connection: duckdb.DuckDBPyConnection) -> None:
    rules = [Rule("started_at", "s", T.TIME_AUTO), Rule("ended_at", "e", T.TIME_AUTO)]
    mapping = traces(*rules, Rule("duration_seconds", "took", T.SECONDS))
    columns = {
        "id": ["a", "b", "c"],
        "s": ["2026-01-01", "2026-01-01", None],
        "e": ["2026-01-02", None, None],
        "took": ["60", "60", "60"],
    }
    rows = run(connection, mapping, columns)
    assert [row["ended_at"] for row in rows] == [
        datetime(2026, 1, 2, tzinfo=UTC),
        datetime(2026, 1, 1, 0, 1, tzinfo=UTC),
        None,
    ]
    assert [row["metadata"] for row in rows] == ['{"took":"60"}', None, '{"took":"60"}']


def test_what_a_vocabulary_does_not_know_is_kept(connection: duckdb.DuckDBPyConnection) -> None:
    rules = [Rule("trace_id", "t", T.TEXT), Rule("kind", "type", T.SPAN_KIND), Rule("status", "state", T.STATUS)]
    mapping = Mapping("spans", tuple(rules), "s")
    rows = run(connection, mapping, {"t": ["1", "1"], "type": ["EVENT", "Tool"], "state": ["ok", "pending"]})
    assert [(row["kind"], row["status"], row["attributes"]) for row in rows] == [
        ("other", "ok", '{"type":"EVENT"}'),
        ("tool", None, '{"state":"pending"}'),
    ]


def test_constants_stand_in_for_empty_cells(connection: duckdb.DuckDBPyConnection) -> None:
    mapping = traces(Rule("agent", "a", T.TEXT, "bot"), Rule("cost_usd", "c", T.USD, "0"))
    rows = run(connection, mapping, {"id": ["a", "b"], "a": ["x", ""], "c": pa.array([0.5, None])})
    assert [(row["agent"], row["cost_usd"]) for row in rows] == [("x", 0.5), ("bot", 0.0)]


def test_a_source_column_names_the_source(connection: duckdb.DuckDBPyConnection) -> None:
    rows = run(connection, traces(Rule("source", "app", T.TEXT)), {"id": ["a", "b"], "app": ["web", None]})
    assert [row["source"] for row in rows] == ["web", "shop"]


# Metadata


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        (None, {"x": "1"}),
        ("{}", {"x": "1"}),
        (' {"a": {"b": null}} ', {"x": "1", "a": {"b": None}}),
        ('{"x": 2}', {"x": "1", "meta": {"x": 2}}),
        ('{"\\u0078": 2}', {"x": "1", "meta": {"x": 2}}),
        ("[1, 2]", {"x": "1", "meta": [1, 2]}),
        ("plain", {"x": "1", "meta": "plain"}),
        ('{"a": NaN}', {"x": "1", "meta": '{"a": NaN}'}),
        ('{"a": 1,}', {"x": "1", "meta": '{"a": 1,}'}),
        ("{'a': 1}", {"x": "1", "meta": "{'a': 1}"}),
    ],
)
def test_extras_join_a_mapped_object_without_losing_either(
    connection: duckdb.DuckDBPyConnection, cell: str | None, wanted: dict[str, Any]
) -> None:
    mapping = traces(Rule("metadata", "meta", T.JSON))
    row = one(connection, mapping, {"id": "t", "meta": cell, "x": "1", "y": None})
    assert json.loads(row["metadata"]) == wanted
    alone = one(connection, mapping, {"id": "t", "meta": cell})
    collides = cell is not None and cell.endswith("2}")
    without = {"x": 2} if collides else {key: value for key, value in wanted.items() if key != "x"}
    assert json.loads(alone["metadata"] or "{}") == without


def test_typed_extras_are_json_values(connection: duckdb.DuckDBPyConnection) -> None:
    columns = {
        "id": ["t"],
        "i": pa.array([7]),
        "f": pa.array([float("nan")]),
        "g": pa.array([0.5]),
        "b": pa.array([True]),
        "when": pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")),
        "nested": pa.array([{"a": [1, None]}]),
        "worse": pa.array([[float("inf")]]),
        "raw": pa.array([b"ab"]),
        "none": pa.array([None], pa.null()),
    }
    connection.execute("SET TimeZone = 'UTC'")
    metadata = json.loads(run(connection, traces(), columns)[0]["metadata"])
    connection.execute("SET TimeZone = 'America/New_York'")
    assert metadata.pop("when").startswith("2026-01-01 00:00:00")
    assert metadata == {
        "i": 7,
        "f": "nan",
        "g": 0.5,
        "b": True,
        "nested": {"a": [1, None]},
        "worse": "[Infinity]",
        "raw": "ab",
    }


def test_ratings_note_their_scale(connection: duckdb.DuckDBPyConnection) -> None:
    mapping = signals(Rule("value", "stars", T.RATING_1_5), kind="rating")
    rows = run(connection, mapping, {"stars": ["4", None], "page": ["p", "p"]})
    assert [(row["value"], json.loads(row["metadata"])) for row in rows] == [
        (0.75, {"page": "p", "scale": "1 to 5"}),
        (None, {"page": "p"}),
    ]


def test_links_are_arrays(connection: duckdb.DuckDBPyConnection) -> None:
    mapping = Mapping("spans", (Rule("trace_id", "t", T.TEXT), Rule("links", "l", T.JSON)), "s")
    rows = run(connection, mapping, {"t": ["1", "1", "1"], "l": ['[{"trace_id": "2"}]', "none", None]})
    assert [(row["links"], row["attributes"]) for row in rows] == [
        ('[{"trace_id": "2"}]', None),
        (None, '{"l":"none"}'),
        (None, None),
    ]


# Signals and impressions


def test_the_kind_of_an_event_implies_its_value(connection: duckdb.DuckDBPyConnection) -> None:
    mapping = Mapping("signals", (Rule("kind", "event", T.SIGNAL_KIND),), "s")
    rows = run(connection, mapping, {"event": ["click", "thumbs_up", "Thumbs Down", "view", "purchase", "thumb"]})
    assert [(row["kind"], row["value"]) for row in rows] == [
        ("click", 1.0),
        ("thumb", 1.0),
        ("thumb", 0.0),
        ("impression", None),
        ("purchase", None),
        ("thumb", None),
    ]


def test_rows_of_impressions_become_impressions_and_clicks(connection: duckdb.DuckDBPyConnection) -> None:
    rules = [Rule("clicked", "c", T.BOOLEAN), Rule("item", "i", T.TEXT), Rule("position", "p", T.POSITION_FROM_ZERO)]
    mapping = Mapping("impressions", (*rules, Rule("propensity", "q", T.NUMBER)), "s")
    columns = {"c": ["0", "1", None, "huh"], "i": ["a", "b", "c", "d"], "p": ["0", "1", "2", "3"], "q": ["0.5"] * 4}
    rows = run(connection, mapping, columns)
    found = [
        (row["record_no"], row["kind"], row["item"], row["value"], row["position"], row["propensity"]) for row in rows
    ]
    assert found == [
        (1, "impression", "a", None, 1, 0.5),
        (2, "impression", "b", None, 2, 0.5),
        (2, "click", "b", 1.0, 2, 0.5),
        (3, "impression", "c", None, 3, 0.5),
        (4, "impression", "d", None, 4, 0.5),
    ]
    assert [row["reject_column"] for row in rows] == [None, None, None, None, "c"]
    assert len({row["signal_id"] for row in rows}) == len(rows)
    assert rows[1]["signal_id"].removesuffix(":impression") == rows[2]["signal_id"].removesuffix(":click")


def test_a_time_of_the_click_says_that_it_was_clicked(connection: duckdb.DuckDBPyConnection) -> None:
    rules = (Rule("clicked", "clicked_at", T.PRESENT), Rule("signal_id", "id", T.TEXT))
    rows = run(connection, Mapping("impressions", rules, "s"), {"clicked_at": [None, "noon"], "id": ["1", "2"]})
    assert [(row["signal_id"], row["metadata"]) for row in rows] == [
        ("1:impression", None),
        ("2:impression", '{"clicked_at":"noon"}'),
        ("2:click", '{"clicked_at":"noon"}'),
    ]


@pytest.mark.parametrize(("file", "rate"), [("random_men", 0.0046), ("bts_men", 0.0069)])
def test_open_bandit_data(connection: duckdb.DuckDBPyConnection, shared_data: Path, file: str, rate: float) -> None:
    """The on-policy click rates of data/README.md, from the signals."""
    raw = gzip.decompress((shared_data / "obd_small" / f"{file}.csv.gz").read_bytes())
    names = raw.split(b"\n", 1)[0].decode().split(",")
    reading = pyarrow.csv.ReadOptions(skip_rows=1, column_names=[str(place) for place in range(len(names))])
    texts = pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in reading.column_names})
    table = pyarrow.csv.read_csv(io.BytesIO(raw), read_options=reading, convert_options=texts).combine_chunks()
    columns = {name: table.column(place).chunk(0) for place, name in enumerate(names)}
    rules = (
        Rule("occurred_at", "timestamp", T.TIME_AUTO),
        Rule("item", "item_id", T.TEXT),
        Rule("position", "position", T.INTEGER),
        Rule("clicked", "click", T.BOOLEAN),
        Rule("propensity", "propensity_score", T.NUMBER),
    )
    rows = run(connection, Mapping("impressions", rules, "obd"), columns)
    assert not any(row["reject_reason"] for row in rows)
    shown = [row for row in rows if row["kind"] == "impression"]
    clicks = [row for row in rows if row["kind"] == "click"]
    assert len(shown) == 10_000
    assert len(clicks) / len(shown) == pytest.approx(rate)
    assert len({row["signal_id"] for row in rows}) == len(rows)
    assert {row["position"] for row in shown} == {1, 2, 3}
    raw_propensities = [float(cell) for cell in columns["propensity_score"].to_pylist()]
    assert [row["propensity"] for row in shown] == raw_propensities
    assert shown[0]["occurred_at"] == datetime.fromisoformat(columns["timestamp"][0].as_py())
    kept = json.loads(shown[0]["metadata"])
    assert set(kept) == set(names) - {rule.column for rule in rules}


# Ids derived from contents


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=1, max_size=20, unique=True),
    st.randoms(use_true_random=False),
)
def test_derived_ids_are_of_the_contents(
    connection: duckdb.DuckDBPyConnection, drawn: list[tuple[str, str]], random: Any
) -> None:
    """Equal for any order of rows and columns, with or without empty columns; different for different contents."""
    mapping = signals(Rule("text", "a", T.TEXT), kind="comment")

    def ids(rows: list[tuple[str, str]], *, turned: bool) -> dict[tuple[str, str], str]:
        columns: dict[str, list[Any]] = {"a": [a for a, _ in rows], "b": [b for _, b in rows]}
        if turned:
            columns = {"nothing": [""] * len(rows), "b": columns["b"], "a": columns["a"]}
        found = [row["signal_id"] for row in run(connection, mapping, columns)]
        return dict(zip(rows, found, strict=True))

    before = ids(drawn, turned=False)
    assert len(set(before.values())) == len(drawn)
    shuffled = list(drawn)
    random.shuffle(shuffled)
    assert ids(shuffled, turned=True) == before


def test_derived_ids_differ_by_kind_and_keep_stated_ones(connection: duckdb.DuckDBPyConnection) -> None:
    cells = {"v": "1", "id": None}
    thumb = one(connection, signals(Rule("value", "v", T.THUMB)), cells)["signal_id"]
    rating = one(connection, signals(Rule("value", "v", T.RATING_1_5), kind="rating"), cells)["signal_id"]
    named = signals(Rule("value", "v", T.THUMB), Rule("name", None, T.TEXT, "polite"))
    assert len({thumb, rating, one(connection, named, cells)["signal_id"]}) == 3
    stated = signals(Rule("value", "v", T.THUMB), Rule("signal_id", "id", T.TEXT))
    assert one(connection, stated, {"v": "1", "id": "s1"})["signal_id"] == "s1"
    assert one(connection, stated, cells)["signal_id"] == thumb


@pytest.mark.parametrize("packed", [False, True])
def test_feedback_beside_its_trace_names_it(connection: duckdb.DuckDBPyConnection, packed: bool) -> None:
    """A file of answers with thumbs, loaded once as traces and once as signals."""
    cells = {"question": "why?", "answer": "so", "thumb": "up"}
    rules = (Rule("input", "question", T.TEXT), Rule("output", "answer", T.TEXT))
    trace = one(connection, Mapping("traces", rules, "s"), cells, packed=packed)
    mapping = signals(Rule("trace_id", None, T.ROW_ID), Rule("value", "thumb", T.THUMB))
    signal = one(connection, mapping, cells, extras=[])
    assert trace["trace_id"] == signal["trace_id"]
    assert trace["trace_id"].startswith("row-")
    assert (signal["value"], signal["metadata"]) == (1.0, None)


def test_spans_without_ids_get_them(connection: duckdb.DuckDBPyConnection) -> None:
    mapping = Mapping("spans", (Rule("trace_id", "t", T.TEXT), Rule("name", "n", T.TEXT)), "s")
    rows = run(connection, mapping, {"t": ["1", "1", "1"], "n": ["a", "b", "a"]})
    assert rows[0]["span_id"] == rows[2]["span_id"] != rows[1]["span_id"]


# Hostile input


def test_an_unusable_mapping_is_refused() -> None:
    with pytest.raises(MappingError, match="No rule fills"):
        compile_select(Mapping("signals", (), "s"), {"a": pa.string()}, "chunk")


def test_columns_that_a_chunk_does_not_have_are_empty(connection: duckdb.DuckDBPyConnection) -> None:
    """Records of JSON Lines need not have every key; ids derived from a row do not notice."""
    mapping = signals(Rule("value", "v", T.THUMB), Rule("user_id", "u", T.TEXT), Rule("metadata", "m", T.JSON))
    with_key = one(connection, mapping, {"v": "1", "u": None, "m": None, "x": None})
    without = one(connection, mapping, {"v": "1"}, extras=["x"])
    assert without == with_key
    assert one(connection, traces(), {"other": "1"})["reject_reason"].startswith('Column "id" is empty')


def test_names_that_differ_in_case_only_are_different_columns(connection: duckdb.DuckDBPyConnection) -> None:
    row = one(connection, traces(Rule("input", "ID", T.TEXT)), {"id": "a", "ID": "b", "Id": "c"})
    assert (row["trace_id"], row["input"], row["metadata"]) == ("a", "b", '{"Id":"c"}')


def test_a_file_may_have_a_column_named_like_the_record_number(connection: duckdb.DuckDBPyConnection) -> None:
    row = one(connection, traces(Rule("input", "record_no", T.TEXT)), {"record_no": "41", "id": "t"})
    assert (row["record_no"], row["trace_id"], row["input"]) == (1, "t", "41")


HOSTILE = [
    *("'", '"', "'; DROP TABLE chunk; --", '"; --', "\\", "\0"),
    *("{v}", "%s", "$1", "record_no", "f0", "", "👍", "NaN"),
]
TELLING = ["1", "0", "-1", "1e400", "nan", "2026-01-01", "1767225600", '{"a":1}', "[1]", "up", "x" * 99]
cell_texts = st.none() | st.sampled_from([*HOSTILE, *TELLING]) | st.text(max_size=12)


@st.composite
def files(draw: st.DrawFn) -> tuple[Mapping, dict[str, list[str | None]], bool]:
    """A usable mapping with arbitrary transforms over a file with arbitrary names and cells."""
    names = draw(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=8), min_size=1, max_size=6, unique=True))
    size = draw(st.integers(1, 8))
    columns = {name: draw(st.lists(cell_texts, min_size=size, max_size=size)) for name in names}
    kind: Kind = draw(st.sampled_from(KINDS))
    required = [name for name in ("kind", "clicked") if name in TARGETS[kind] and kind in ("signals", "impressions")]
    chosen = draw(st.lists(st.sampled_from(sorted(TARGETS[kind])), max_size=10))
    targets = dict.fromkeys([*required, *(["trace_id"] if kind == "spans" else []), "metadata", *chosen])
    targets.pop("metadata" if kind == "spans" else "attributes", None)
    if "duration_seconds" in targets:
        targets["started_at"] = None
    rules = []
    for target in targets:
        transform = draw(st.sampled_from(TRANSFORMS_FOR[TARGETS[kind][target].type]))
        constant = draw(st.none() | st.text(max_size=4)) if transform is T.TEXT else None
        rules.append(Rule(target, draw(st.sampled_from(names)), transform, constant))
    return Mapping(kind, tuple(rules), "s"), columns, draw(st.booleans())


@settings(max_examples=150, deadline=None)
@given(files())
def test_every_row_becomes_a_good_row_or_a_reason(
    connection: duckdb.DuckDBPyConnection, drawn: tuple[Mapping, dict[str, list[str | None]], bool]
) -> None:
    mapping, columns, packed = drawn
    assert problems(mapping, columns) == []
    rows = run(connection, mapping, columns, packed=packed)
    size = len(next(iter(columns.values())))
    assert {row["record_no"] for row in rows} == set(range(1, size + 1))
    if mapping.kind != "impressions":
        assert len(rows) == size
    extras = [name for name in columns if name not in mapping.columns()]
    for row in rows:
        if row["reject_reason"] is not None:
            assert row["reject_reason"].endswith(".")
            assert row["reject_column"] in columns
            continue
        assert row["reject_column"] is None
        check_good(mapping.kind, row)
        kept = row["attributes" if mapping.kind == "spans" else "metadata"]
        members = json.loads(kept, parse_constant=fail) if kept is not None else {}
        assert isinstance(members, dict)
        for name in extras:
            cell = columns[name][row["record_no"] - 1]
            if cell not in (None, ""):
                assert members[name] == cell


def check_good(kind: Kind, row: Row) -> None:
    """What the fact tables promise about a good row."""
    always = {"traces": ["trace_id"], "spans": ["trace_id", "span_id", "kind"]}.get(kind, ["signal_id", "kind"])
    assert all(row[name] for name in [*always, "source"])
    for name in ("started_at", "ended_at", "occurred_at"):
        if row.get(name) is not None:
            assert 1990 <= row[name].astimezone(UTC).year <= 2110
    assert row.get("propensity") is None or 0 < row["propensity"] <= 1
    assert row.get("position") is None or row["position"] >= 1
    assert (row.get("input_tokens") or 0) >= 0
    if kind == "signals" and row["kind"] in ("thumb", "rating"):
        assert row["value"] is None or 0 <= row["value"] <= 1


def fail(constant: str) -> None:
    raise AssertionError(constant)


def pairs(members: dict[str, int]) -> list[tuple[str, int]]:
    return list(members.items())


typed = st.sampled_from(
    [
        (pa.int8(), st.integers(-128, 127)),
        (pa.uint64(), st.integers(0, 2**64 - 1)),
        (pa.float32(), st.floats(width=32)),
        (pa.float64(), st.floats()),
        (pa.bool_(), st.booleans()),
        (pa.decimal128(38, 9), st.decimals(-(10**28), 10**28, places=9)),
        (pa.timestamp("us", "UTC"), st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1))),  # noqa: DTZ001
        (pa.timestamp("ns"), st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1))),  # noqa: DTZ001
        (pa.date32(), st.dates()),
        (pa.time64("us"), st.times()),
        (pa.binary(), st.binary(max_size=6)),
        (pa.large_string(), st.text(max_size=6)),
        (pa.list_(pa.float64()), st.lists(st.floats(), max_size=3)),
        (pa.struct({"a": pa.string()}), st.fixed_dictionaries({"a": st.text(max_size=3)})),
        (
            pa.map_(pa.string(), pa.int64()),
            st.dictionaries(st.text(max_size=3), st.integers(-9, 9)).map(lambda d: [*d.items()]),
        ),
        (pa.null(), st.none()),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.data(), typed, st.sampled_from([each for each in sorted(TARGETS["signals"]) if each != "kind"]))
def test_every_type_of_column_can_be_mapped_to_every_target(
    connection: duckdb.DuckDBPyConnection, data: st.DataObject, column: tuple[pa.DataType, Any], target: str
) -> None:
    type_, values = column
    cells = data.draw(st.lists(st.none() | values, min_size=1, max_size=6))
    transform = data.draw(st.sampled_from(TRANSFORMS_FOR[TARGETS["signals"][target].type]))
    array = pa.array(cells, type_)
    rows = run(
        connection, signals(Rule(target, "c", transform), kind="annotation"), {"c": array, "e": array}, extras=["e"]
    )
    assert len(rows) == len(cells)
    for row in rows:
        assert (row["reject_reason"] is None) == (row["reject_column"] is None)
        json.loads(row["metadata"] or "{}", parse_constant=fail)
