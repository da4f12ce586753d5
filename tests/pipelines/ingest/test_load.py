"""Loading whole files: real data with known numbers, every container alike, mappings, reports, repaired rejects."""

import csv
import io
import json
import math
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from loading import CONTAINERS, loaded, rejects_of, rows_of, table, write_rows
from publishing import state

from pipelines.ingest.inspection import inspect
from pipelines.ingest.layout_columns import LAYOUTS
from pipelines.ingest.mapping import Mapping, Rule
from pipelines.ingest.repair import rejects_file
from pipelines.ingest.templates import TEMPLATE_FORMATS, template, template_name
from pipelines.ingest.transforms import Transform
from pipelines.simulate import SimulationConfig, simulate, write
from store import batches, links, sources
from store.connection import Store
from store.errors import FileRejected
from store.rewards import outcomes

# Real data


def test_tau_bench(store: Store, shared_data: Path) -> None:
    report = loaded(store, shared_data / "tau_bench" / "gpt-4o-airline.json")
    assert (report.format, report.source, report.received, report.accepted) == ("tau-bench", "tau-bench", 200, 200)
    assert table(store, "SELECT count(*), count(DISTINCT task) FROM traces").row(0) == (200, 50)
    assert table(store, "SELECT DISTINCT n FROM (SELECT count(*) AS n FROM traces GROUP BY task)").rows() == [(4,)]
    successes = outcomes(store).group_by("task").agg(pl.col("success").sum().alias("c"), pl.len().alias("n"))
    passed = [
        sum(math.comb(c, k) / math.comb(n, k) for _, c, n in successes.rows()) / len(successes) for k in (1, 2, 3, 4)
    ]
    assert [round(value, 3) for value in passed] == [0.42, 0.273, 0.22, 0.2]
    assert table(store, "SELECT round(avg(value), 3) FROM signals WHERE kind = 'outcome'").row(0) == (0.42,)


def test_tau_bench_tool_calls_are_spans_in_order(store: Store, shared_data: Path) -> None:
    source = shared_data / "tau_bench" / "gpt-4o-airline.json"
    loaded(store, source)
    wanted = []
    for document in json.loads(source.read_text()):
        messages, calls = document["traj"], []
        for place, message in enumerate(messages):
            for call in message.get("tool_calls") or []:
                # Ids of calls repeat within a conversation: the answer is the next one with the id.
                later = (m for m in messages[place:] if m["role"] == "tool" and m["tool_call_id"] == call["id"])
                answer = next(later, {"content": None})["content"]
                function = call["function"]
                calls.append((function["name"], json.loads(function["arguments"]), answer or None))
        wanted.append(calls)
    found: dict[str, list[tuple]] = {}
    spans = "SELECT trace_id, name, input, output FROM spans WHERE kind = 'tool' ORDER BY trace_id, ordinal, started_at"
    for trace_id, name, arguments, answer in table(store, spans).rows():
        found.setdefault(trace_id, []).append((name, json.loads(arguments), answer))
    assert sum(map(len, wanted)) > 1_000
    assert sorted(map(repr, filter(None, wanted))) == sorted(map(repr, found.values()))


def test_langfuse_keeps_every_observation_and_score(store: Store, shared_data: Path) -> None:
    files = sorted((shared_data / "langfuse_traces").glob("*.json"))
    documents = [json.loads(file.read_text()) for file in files]
    for file in files:
        report = loaded(store, file)
        assert (report.format, report.accepted, report.rejected) == ("langfuse-document", 1, 0)
    observations = {o["id"]: o.get("parentObservationId") for d in documents for o in d["observations"]}
    assert len(observations) == 47
    spans = dict(table(store, "SELECT span_id, parent_span_id FROM spans").rows())
    assert {key: spans[key] for key in observations} == observations
    orphans = """SELECT count(*) FROM spans AS s ANTI JOIN spans AS p
        ON p.trace_id = s.trace_id AND p.span_id = s.parent_span_id WHERE s.parent_span_id IS NOT NULL"""
    assert table(store, orphans).row(0) == (0,)
    assert table(store, "SELECT count(*), count(trace_id) FROM signals").row(0) == (16, 16)
    assert table(store, "SELECT count(*) FROM traces").row(0) == (len(files),)


@pytest.mark.parametrize(("policy", "rate"), [("random", 0.0046), ("bts", 0.0069)])
def test_open_bandit_data_becomes_impressions_and_clicks(
    store: Store, shared_data: Path, policy: str, rate: float
) -> None:
    file = shared_data / "obd_small" / f"{policy}_men.csv.gz"
    report = loaded(store, file)
    assert (report.format, report.received, report.accepted) == ("mapped", 10_000, 10_000)
    kinds = dict(table(store, "SELECT kind, count(*) FROM signals GROUP BY kind").rows())
    assert kinds == {"impression": 10_000, "click": round(10_000 * rate)}
    given = pl.read_csv(file.read_bytes())
    kept = table(store, "SELECT propensity, position, item FROM signals WHERE kind = 'impression'")
    assert kept["propensity"].sort().to_list() == pytest.approx(given["propensity_score"].sort().to_list())
    assert kept.group_by("position").len().sort("position").rows() == (
        given.group_by("position").len().sort("position").rows()
    )
    assert set(kept["item"].cast(pl.Int64)) == set(given["item_id"])


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a small simulated deployment."""
    folder = tmp_path_factory.mktemp("deployment")
    write(simulate(SimulationConfig(users=40, days=14, traces=300, seed=5, end=date(2026, 3, 1))), folder)
    return folder


def test_the_simulated_deployment_loads_and_its_clicks_find_their_traces(store: Store, deployment: Path) -> None:
    reports = {
        name: loaded(store, deployment / name) for name in ("clicks.csv", "signals.csv", "traces.csv", "spans.jsonl.gz")
    }
    assert {name: report.rejected for name, report in reports.items()} == dict.fromkeys(reports, 0)
    assert {name: report.format for name, report in reports.items()} == {
        "clicks.csv": "mapped", "signals.csv": "signals", "traces.csv": "traces", "spans.jsonl.gz": "spans",
    }  # fmt: skip
    truth = pl.read_csv(deployment / "traces.csv")
    assert table(store, "SELECT count(*) FROM traces").row(0) == (truth.height,)
    clicks = pl.read_csv(deployment / "clicks.csv")
    kinds = dict(table(store, "SELECT kind, count(*) FROM signals WHERE source = 'upload' GROUP BY kind").rows())
    others = dict(pl.read_csv(deployment / "signals.csv").group_by("kind").len().rows())
    assert kinds["impression"] == clicks.height + others.get("impression", 0)
    assert kinds["click"] == clicks["clicked"].sum() + others.get("click", 0) > 0
    links.refresh(store)
    linked = """SELECT count(*), count(t.trace_id), count(*) FILTER (t.session_id = s.session_id)
        FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id) LEFT JOIN traces AS t ON t.trace_id = l.trace_id
        WHERE s.kind = 'impression' AND s.trace_id IS NULL AND s.session_id IN (SELECT session_id FROM traces)"""
    total, found, of_session = table(store, linked).row(0)
    assert total == found == of_session > 0


# Mappings

_ANSWERS = [
    {"question": f"why {i}?", "answer": f"because {i}", "user": f"u{i % 3}", "thumbs": ("up", "down", "")[i % 3]}
    for i in range(30)
]


def test_thumbs_beside_traces_become_signals_of_them(store: Store, tmp_path: Path) -> None:
    report = loaded(store, write_rows(tmp_path, "answers.csv", _ANSWERS))
    assert (report.received, report.traces, report.signals) == (30, 30, 20)
    joined = """SELECT t.input, s.value, s.user_id FROM signals AS s JOIN traces AS t USING (trace_id)
        WHERE s.kind = 'thumb' ORDER BY t.input"""
    wanted = [
        (row["question"], {"up": 1.0, "down": 0.0}[row["thumbs"]], row["user"]) for row in _ANSWERS if row["thumbs"]
    ]
    assert table(store, joined).rows() == sorted(wanted)
    notes = {(note["target"], note["column"]) for note in report.fidelity["guessed"]}
    assert {("input", "question"), ("output", "answer"), ("signal value", "thumbs")} <= notes


@pytest.mark.parametrize("name", ["traces.csv", "traces.jsonl", "traces.parquet"])
def test_thumbs_in_a_file_of_our_own_layout_become_signals_too(store: Store, tmp_path: Path, name: str) -> None:
    rows = [{"trace_id": f"t{i}", "input": f"q{i}", "output": "a", "thumbs": ("up", "down")[i % 2]} for i in range(10)]
    report = loaded(store, write_rows(tmp_path, name, rows))
    assert (report.format, report.traces, report.signals) == ("traces", 10, 10)
    found = table(store, "SELECT trace_id, kind, value FROM signals ORDER BY trace_id").rows()
    assert found == [(f"t{i}", "thumb", float(1 - i % 2)) for i in range(10)]
    assert table(store, "SELECT count(metadata) FROM trace_records").row(0) == (0,)


def test_a_bad_thumb_rejects_its_record_as_a_whole(store: Store, tmp_path: Path) -> None:
    rows = [{**row, "thumbs": "sideways" if i == 7 else "up"} for i, row in enumerate(_ANSWERS)]
    report = loaded(store, write_rows(tmp_path, "answers.csv", rows))
    assert (report.accepted, report.rejected, report.traces, report.signals) == (29, 1, 29, 29)
    ((record, line, column, reason, raw),) = rejects_of(store, report)
    assert (record, line, column, raw) == (8, 9, "thumbs", "why 7?,because 7,u1,sideways")
    assert 'has "sideways"' in reason


_FOREIGN = [{"k": f"t{i}", "said": f"hello {i}", "got": f"bye {i}", "ms": 1_767_225_600_000 + i} for i in range(5)]
_FOREIGN_MAPPING = Mapping(
    "traces",
    (
        Rule("trace_id", "k", Transform.TEXT),
        Rule("input", "said", Transform.TEXT),
        Rule("output", "got", Transform.TEXT),
        Rule("started_at", "ms", Transform.TIME_MILLISECONDS),
    ),
    "desk",
)


def test_a_given_mapping_decides(store: Store, tmp_path: Path) -> None:
    report = loaded(store, write_rows(tmp_path, "x.csv", _FOREIGN), mapping=_FOREIGN_MAPPING)
    assert (report.source, report.format, report.accepted) == ("desk", "mapped", 5)
    assert report.fidelity["why"] == "A mapping was given."
    first = table(store, "SELECT trace_id, input, output, started_at FROM trace_records ORDER BY trace_id").row(0)
    assert first == ("t0", "hello 0", "bye 0", datetime(2026, 1, 1, tzinfo=UTC))
    kept = batches.one(store, report.batch_id)["mapping"]
    assert Mapping.from_json(kept) == _FOREIGN_MAPPING


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_a_saved_mapping_is_used_again(store: Store, tmp_path: Path, name: str) -> None:
    sources.save(store, "desk", _FOREIGN_MAPPING.to_json(), list(_FOREIGN[0]))
    path = write_rows(tmp_path, name, _FOREIGN)
    seen = inspect(store, path)
    assert (seen.mapping, seen.recipe.source) == (_FOREIGN_MAPPING, "desk")
    report = loaded(store, path)
    assert (report.source, report.accepted) == ("desk", 5)
    assert report.fidelity["why"] == "The mapping saved for source 'desk' fits."
    assert rows_of(store, "trace_records")[0]["trace_id"] == "t0"


def test_a_saved_mapping_that_does_not_fit_is_left(store: Store, tmp_path: Path) -> None:
    sources.save(store, "desk", _FOREIGN_MAPPING.to_json(), list(_FOREIGN[0]))
    report = loaded(store, write_rows(tmp_path, "answers.csv", _ANSWERS), source="desk")
    assert (report.source, report.accepted) == ("desk", 30)
    assert "saved" not in report.fidelity["why"]


def test_a_mapping_of_columns_that_are_not_there_is_refused(store: Store, tmp_path: Path) -> None:
    before = state(store)
    with pytest.raises(Exception, match='reads column "said", which the file does not have'):
        loaded(store, write_rows(tmp_path, "answers.csv", _ANSWERS), mapping=_FOREIGN_MAPPING)
    assert state(store) == before
    assert batches.recent(store).to_dicts()[0]["state"] == "failed"


# The same rows in every container

_TRACES = [
    {
        "trace_id": f"t{i}", "agent": "desk", "user_id": f"u{i % 5}", "started_at": f"2026-03-01T10:{i % 60:02}:00Z",
        "status": ("ok", "error")[i % 2], "input": f'say "{i}"\nagain, ü 👍', "output": None if i % 3 else f"out {i}",
        "input_tokens": i, "cost_usd": i / 64, "metadata": {"n": i, "deep": {"a": [1, None]}},
    }
    for i in range(60)
]  # fmt: skip
_SPANS = [
    {
        "trace_id": f"t{i // 4}", "span_id": f"s{i}", "parent_span_id": f"s{i - i % 4}" if i % 4 else None,
        "ordinal": i % 4, "kind": ("agent", "llm", "tool", "llm")[i % 4], "name": f"step {i}",
        "started_at": f"2026-03-01T10:00:{i % 60:02}.5Z", "ended_at": f"2026-03-01T10:01:{i % 60:02}Z",
        "input": f"in {i}" * 20, "attributes": {"k": i}, "links": [{"trace_id": "t0", "span_id": "s0"}],
        "note": f"unknown {i}",
    }
    for i in range(80)
]  # fmt: skip
_SIGNALS = [
    {
        "signal_id": None if i % 5 == 0 else f"g{i}", "trace_id": f"t{i}", "kind": ("thumb", "comment")[i % 2],
        "value": None if i % 2 else i % 4 // 2, "text": f"text {i}" if i % 2 else None, "propensity": 0.25,
        "solicited": True, "occurred_at": f"2026-03-02T00:00:{i:02}Z",
    }
    for i in range(40)
]  # fmt: skip


@pytest.mark.parametrize(("kind", "rows"), [("traces", _TRACES), ("spans", _SPANS), ("signals", _SIGNALS)])
def test_every_container_gives_the_same_store(tmp_path: Path, kind: str, rows: list[dict]) -> None:
    states = {}
    for container in CONTAINERS:
        with_store = Store.open(None, threads=1)
        report = loaded(with_store, write_rows(tmp_path, f"{kind}.{container}", rows), chunk_bytes=8_000)
        assert (report.format, report.received, report.accepted) == (kind, len(rows), len(rows)), container
        states[container] = state(with_store)
        with_store.close()
    for container, found in states.items():
        assert found == states["csv"], container


def test_a_file_loaded_in_another_container_is_a_duplicate(store: Store, tmp_path: Path) -> None:
    loaded(store, write_rows(tmp_path, "spans.csv", _SPANS))
    before = state(store)
    for container in CONTAINERS:
        report = loaded(store, write_rows(tmp_path, f"spans.{container}", _SPANS))
        assert (report.accepted, report.duplicate, report.spans) == (0, len(_SPANS), 0)
    assert state(store) == before


def test_keys_that_only_later_records_have_still_fill_their_columns(store: Store, tmp_path: Path) -> None:
    """The first records of JSON Lines decide nothing about the others."""
    rows = [{"trace_id": f"t{i}", "span_id": "s", "kind": "llm", "name": "n", "input": "x" * 5_000} for i in range(100)]
    rows.append({"trace_id": "late", "span_id": "s", "kind": "tool", "name": "n", "status_message": "no", "ordinal": 3})
    loaded(store, write_rows(tmp_path, "spans.jsonl", rows))
    found = table(store, "SELECT status_message, ordinal, attributes FROM spans WHERE trace_id = 'late'").rows()
    assert found == [("no", 3, None)]


def test_records_may_have_any_number_of_different_keys(store: Store, tmp_path: Path) -> None:
    rows = [{"trace_id": f"t{i}", "input": "q", **{f"k{i}_{j}": j for j in range(400)}} for i in range(10)]
    rows.append({"trace_id": "last", "input": "q", "output": "seen"})
    report = loaded(store, write_rows(tmp_path, "traces.jsonl", rows))
    assert report.accepted == 11
    found = dict(table(store, "SELECT trace_id, metadata FROM trace_records").rows())
    for row in rows[:10]:
        extras = {key: value for key, value in row.items() if key.startswith("k")}
        assert json.loads(found[row["trace_id"]]) == extras
    assert found["last"] is None
    assert table(store, "SELECT output FROM trace_records WHERE trace_id = 'last'").row(0) == ("seen",)
    assert len(report.fidelity["extras"]) == 1_000
    assert report.fidelity["more_extras"] is True


# Templates


@pytest.mark.parametrize("form", TEMPLATE_FORMATS)
def test_templates_load_cleanly(store: Store, tmp_path: Path, form: str) -> None:
    for kind in LAYOUTS:
        path = tmp_path / template_name(kind, form)
        path.write_bytes(template(kind, form))
        report = loaded(store, path)
        assert (report.format, report.rejected, report.duplicate) == (kind, 0, 0)
        assert report.fidelity["extras"] == {}
    assert table(store, "SELECT count(*), sum(span_count) FROM traces").row(0) == (2, 3)
    assert table(store, "SELECT count(*) FROM signals").row(0) == (3,)


# Reports and rejects


def test_the_fidelity_report_says_what_became_of_the_columns(store: Store, tmp_path: Path) -> None:
    rows = [{**row, "team": "blue"} for row in _TRACES]
    rows[3]["started_at"] = None
    report = loaded(store, write_rows(tmp_path, "traces.csv", rows), chunk_bytes=1_000)
    fidelity = report.fidelity
    assert fidelity["format"] == "Trimtab traces"
    assert "trace_id" in fidelity["why"]
    assert fidelity["rows"] == {"trace_records": 60}
    assert fidelity["extras"] == {"team": "metadata"}
    assert fidelity["guessed"] == []
    kept = fidelity["kept"]["trace_records"]
    assert (kept["trace_id"], kept["output"], kept["started_at"], kept["metadata"]) == (60, 20, 59, 60)
    assert "ended_at" not in kept
    assert (fidelity["first_time"], fidelity["last_time"]) == ("2026-03-01T10:00:00+00:00", "2026-03-01T10:59:00+00:00")
    assert fidelity["without_time"] == 1
    assert json.loads(table(store, "SELECT metadata FROM traces WHERE trace_id = 't0'").row(0)[0])["team"] == "blue"


_BAD = {
    2: ("started_at", "yesterday"),
    5: ("input_tokens", "many"),
    6: ("cost_usd", "lots"),
    9: ("trace_id", None),
}


def _spoiled(as_text: bool) -> list[dict]:
    rows = [dict(row) for row in _TRACES[:12]]
    for at, (column, value) in _BAD.items():
        rows[at][column] = value
    if as_text:
        for row in rows:
            row.update({name: None if row[name] is None else str(row[name]) for name in ("input_tokens", "cost_usd")})
    return rows


@pytest.mark.parametrize("name", ["traces.csv", "traces.jsonl", "traces.json", "traces.parquet", "traces.csv.gz"])
def test_rejects_repaired_and_sent_again_are_all_accepted(store: Store, tmp_path: Path, name: str) -> None:
    report = loaded(store, write_rows(tmp_path, name, _spoiled(name == "traces.parquet")))
    assert (report.received, report.accepted, report.rejected) == (12, 8, 4)
    found = rejects_of(store, report)
    assert [(record - 1, column) for record, _, column, _, _ in found] == [(at, c) for at, (c, _) in _BAD.items()]
    for (_, _, column, reason, raw), (_, value) in zip(found, _BAD.values(), strict=True):
        assert column in reason
        assert value is None or (value in reason and value in raw)
    file_name, content = rejects_file(store, report.batch_id)
    text = content.decode()
    as_csv = file_name.endswith(".csv")
    rows = list(csv.DictReader(io.StringIO(text))) if as_csv else [json.loads(line) for line in text.splitlines()]
    for row, (at, (column, value)) in zip(rows, _BAD.items(), strict=True):
        assert row.get(column) == ("" if value is None and as_csv else value)
        row[column] = _TRACES[at][column]
    repaired = write_rows(tmp_path, file_name, rows)
    again = loaded(store, repaired)
    assert (again.received, again.accepted, again.rejected) == (4, 4, 0)
    clean = Store.open(None, threads=1)
    loaded(clean, write_rows(tmp_path, f"clean-{name}", _TRACES[:12]))
    assert rows_of(store, "trace_records") == rows_of(clean, "trace_records")
    clean.close()


def test_rejects_sent_again_as_they_are_are_rejected_again(store: Store, tmp_path: Path) -> None:
    for name in ("traces.csv", "traces.jsonl"):
        report = loaded(store, write_rows(tmp_path, name, _spoiled(as_text=False)))
        file_name, content = rejects_file(store, report.batch_id)
        before = state(store)
        (tmp_path / file_name).write_bytes(content)
        again = loaded(store, tmp_path / file_name)
        assert (again.received, again.rejected) == (4, 4)
        assert [row[2:4] for row in rejects_of(store, again)] == [row[2:4] for row in rejects_of(store, report)]
        assert state(store) == before


# Looking before loading


@pytest.mark.parametrize("container", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("rows", [_TRACES, _SPANS, _SIGNALS, _ANSWERS], ids=["traces", "spans", "signals", "mapped"])
def test_inspecting_shows_what_loading_stores(store: Store, tmp_path: Path, rows: list[dict], container: str) -> None:
    path = write_rows(tmp_path, f"file.{container}", rows)
    before = state(store)
    seen = inspect(store, path)
    assert state(store) == before
    assert batches.recent(store).is_empty()
    report = loaded(store, path)
    assert seen.recipe.format.value == report.format
    assert seen.received == report.received
    for kind in ("trace_records", "spans", "signals"):
        preview = seen.previews[kind].to_dicts() if kind in seen.previews else []
        assert sorted(preview, key=repr) == rows_of(store, kind)
    assert seen.fidelity["kept"] == report.fidelity["kept"]


def test_inspecting_shows_the_rejects(store: Store, tmp_path: Path) -> None:
    path = write_rows(tmp_path, "traces.csv", _spoiled(as_text=False))
    seen = inspect(store, path)
    assert seen.rejects.rows() == rejects_of(store, loaded(store, path))


def test_inspecting_a_file_that_cannot_be_loaded_says_why(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"\n\n")
    with pytest.raises(FileRejected, match="holds only blank lines"):
        inspect(store, path)
