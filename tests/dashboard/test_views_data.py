"""The Data page: sending files, mapping their columns, batches with their rejects, saved mappings, jobs."""

import json
import threading
import time
from dataclasses import replace

import pytest
from loading import loaded
from loop_data import HOSTILE, NOW
from page_driver import click, markup, open_page, shown, store_for_pages
from streamlit.testing.v1 import AppTest

from dashboard import runtime
from dashboard.intake.mapping_editor import READINGS, REQUIRED
from pipelines.ingest.layout_columns import TARGETS
from pipelines.ingest.mapping import Mapping, Rule, problems
from pipelines.ingest.transforms import Transform
from pipelines.jobs import REGISTRY
from store import audit, batches, job_runs, sources, traces
from store.settings import Settings

TRACES = b"trace_id,agent,input,output\nt1,desk,Hello,Hi\nt2,desk,Bye,Ciao\n"
FOREIGN = b"""run,when,who,prompt,answer,thumb
r1,2026-11-18 10:00:00,ada,Where is it?,There.,up
r2,yesterday,bob,What is it?,That.,down
r3,2026-11-18 10:10:00
"""
HARMFUL = ("<img", "](http", "**bold", ":red[", "$x^2$")


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "trimtab.duckdb"
    with store_for_pages(path) as opened:
        # Uploads are kept beside the database file of the settings.
        runtime.install(replace(runtime.current(), settings=Settings(db=path)))
        yield opened


def send(page: AppTest, *files: tuple[str, bytes]) -> AppTest:
    """Choose files in the uploader."""
    for name, content in files:
        page.file_uploader[0].upload(name, content)
    page.run()
    assert not page.exception, [error.value for error in page.exception]
    return page


def press(page: AppTest, label: str) -> AppTest:
    """Press the first button with this label, let the load that it starts end, and draw the page again."""
    next(button for button in page.button if button.label == label).click()
    page.run()
    assert not page.exception, [error.value for error in page.exception]
    return page


def load_sent(page: AppTest, label: str = "Load this file") -> AppTest:
    """Load what was sent, to its end."""
    press(page, label)
    loads = runtime.current().loads
    deadline = time.monotonic() + 30
    pause = threading.Event()
    while loads.active():
        assert time.monotonic() < deadline
        pause.wait(0.01)
    page.run()
    assert not page.exception, [error.value for error in page.exception]
    return page


def edit(page: AppTest, row: int, **cells: str) -> AppTest:
    """Change cells of the table of columns, as the browser would say it."""
    table = page.data_editor[0]
    edited = {**dict(page.session_state[table.key])["edited_rows"], row: cells}
    page.session_state[table.key] = {"edited_rows": edited, "added_rows": [], "deleted_rows": []}
    page.run()
    assert not page.exception, [error.value for error in page.exception]
    return page


def test_an_empty_store_teaches_every_way_in(store):
    page = open_page("data")
    text = shown(page)
    assert "Nothing is held yet" in text
    settings = runtime.current().settings
    assert [code.value for code in page.code] == [
        str(settings.inbox.resolve()),
        f".venv/bin/python -m pipelines ingest FILE --db {settings.db}",
        "make demo",
    ]
    assert {button.label for button in page.download_button} == {
        f"{kind}.{form}" for kind in ("traces", "spans", "signals") for form in ("csv", "jsonl")
    }
    assert "Nothing was loaded yet" in shown(open_page("data", tab="Batches"))
    assert "No column mapping is saved" in shown(open_page("data", tab="Mappings"))
    assert "has not run yet" in shown(open_page("data", tab="Jobs"))


def test_the_filters_of_other_pages_are_not_drawn(store):
    assert not open_page("data").sidebar.selectbox
    assert open_page("overview").sidebar.selectbox


def test_a_recognised_file_is_previewed_and_loaded(store):
    page = send(open_page("data"), ("traces.csv", TRACES))
    assert "Recognised as **Trimtab traces**, CSV." in shown(page)
    assert "Of the first 2 records **2 will be loaded** and **0 rejected**." in shown(page)
    assert page.dataframe[0].value["trace_id"].tolist() == ["t1", "t2"]
    assert batches.recent(store).is_empty()
    page = load_sent(page)
    assert "2 records = 2 accepted + 0 duplicate + 0 rejected" in page.success[0].value
    assert "Held: 2 traces" in shown(page)
    assert not page.file_uploader[0].value
    assert batches.one(store, 1)["source"] == "upload"
    page = press(page, "Batch report")
    assert page.session_state["tab"] == "Batches"
    assert page.subheader[0].value == "Batch 1"


def test_sending_it_again_says_that_nothing_changed(store):
    page = load_sent(send(open_page("data"), ("traces.csv", TRACES)))
    page = load_sent(send(page, ("renamed.csv", TRACES)))
    assert "All of it was loaded before: nothing changed." in page.success[0].value
    page = press(page, "Clear what has ended")
    assert not page.success


def test_several_files_are_loaded_together(store):
    more = b'{"trace_id": "t3", "input": "x"}\n'
    page = send(open_page("data"), ("a.csv", TRACES), ("b.jsonl", more))
    load_sent(page, "Load all 2 files")
    assert batches.recent(store)["accepted"].to_list() == [1, 2]


def test_foreign_columns_are_mapped_and_what_is_chosen_decides(store):
    page = send(open_page("data"), ("calls.csv", FOREIGN))
    assert "A table with columns of its own" in shown(page)
    lines = page.data_editor[0].value
    assert dict(zip(lines["column"], lines["target"], strict=True)) == {
        "run": "keep", "when": "keep", "who": "keep", "prompt": "input", "answer": "output", "thumb": "signal",
    }  # fmt: skip
    assert "**2 will be loaded** and **1 rejected**" in shown(page)
    for row, target in ((0, "trace_id"), (1, "started_at"), (2, "user_id")):
        page = edit(page, row, target=target)
    assert "**1 will be loaded** and **2 rejected**" in shown(page)
    page = load_sent(page)
    assert "3 records = 1 accepted + 0 duplicate + 2 rejected" in page.warning[0].value
    row = traces.one(store, "r1").row(0, named=True)
    assert (row["user_id"], row["started_at"].hour) == ("ada", 10)
    kept = Mapping.from_json(sources.mapping_texts(store)["upload"][0])
    assert kept.rule("started_at") == Rule("started_at", "when", Transform.TIME_AUTO)


def test_a_saved_mapping_is_used_for_the_next_file(store):
    mapping = Mapping("traces", (Rule("trace_id", "run", Transform.TEXT), Rule("input", "prompt", Transform.TEXT)), "x")
    sources.save(store, "x", mapping.to_json(), FOREIGN.splitlines()[0].decode().split(","))
    page = send(open_page("data"), ("calls.csv", FOREIGN))
    assert page.text_input[0].value == "x"
    lines = page.data_editor[0].value
    assert lines["target"].tolist() == ["trace_id", "keep", "keep", "input", "keep", "keep"]


def test_a_mapping_that_cannot_be_used_says_why_and_offers_no_load(store):
    page = send(open_page("data"), ("calls.csv", FOREIGN))
    page = edit(page, 0, target="input")
    assert 'Target "input" has two rules' in page.error[0].value.replace("\\", "")
    assert "Load this file" not in [button.label for button in page.button]


def test_unknown_columns_can_be_mapped_from_nothing(store):
    page = send(open_page("data"), ("strange.csv", b"alpha,beta\n1,2\n3,4\n"))
    assert "Its columns were not recognised" in page.warning[0].value
    assert "Choose for at least one column" in page.info[0].value
    page = edit(page, 0, target="input")
    assert "**2 will be loaded**" in shown(page)


def test_rows_can_be_said_to_be_of_another_kind(store):
    page = send(open_page("data"), ("calls.csv", FOREIGN))
    page.selectbox[0].select("spans")
    page.run()
    assert 'No rule fills "trace_id"' in page.error[0].value.replace("\\", "")
    options = page.data_editor[0].value["target"].tolist()
    assert "input" in options


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("empty.csv", b"", "it holds no bytes"),
        ("a.zip", b"PK\x03\x04" + b"\x00" * 40, "zip archive"),
        ("page.html", b"<!doctype html><p>Sign in</p>", "web page"),
        ("header.csv", b"trace_id,input\n", "a header and no rows"),
    ],
)
def test_what_cannot_be_loaded_says_so_and_offers_no_load(store, name, content, problem):
    page = send(open_page("data"), (name, content))
    assert problem in page.error[0].value.replace("\\", "")
    assert "Load this file" not in [button.label for button in page.button]


def test_a_file_that_was_taken_back_leaves_nothing(store, tmp_path):
    page = send(open_page("data"), ("traces.csv", TRACES))
    folder = tmp_path / "trimtab.duckdb.uploads"
    assert list(folder.iterdir())
    page.file_uploader[0].clear().run()
    assert not list(folder.iterdir())


def test_a_batch_report_accounts_for_every_record(store, tmp_path):
    file = tmp_path / "calls.csv"
    file.write_bytes(FOREIGN)
    mapping = Mapping(
        "traces",
        (Rule("trace_id", "run", Transform.TEXT), Rule("started_at", "when", Transform.TIME_AUTO)),
        "calls",
    )
    loaded(store, file, mapping=mapping)
    page = open_page("data", tab="Batches", batch="1")
    numbers = {metric.label: metric.value for metric in page.metric}
    assert numbers == {"Received": "3", "Accepted": "1", "Duplicate": "0", "Rejected": "2"}
    assert "every record is accounted for" in shown(page)
    reasons = "\n".join(page.dataframe[1].value["reason"])
    assert "the row has 2 fields, expected 6" in reasons
    assert '"yesterday"' in reasons
    assert "Times from 2026-11-18 10:00:00 UTC" in shown(page)
    download = page.download_button(key="data_rejects_1")
    assert download.label == "Download the rejects to repair them"


def test_the_batch_in_the_url_is_the_one_described_else_the_latest(store, tmp_path):
    for number in (1, 2):
        file = tmp_path / f"{number}.csv"
        file.write_bytes(TRACES.replace(b"t1", b"t%d" % (number + 5)))
        loaded(store, file)
    assert open_page("data", tab="Batches", batch="1").subheader[0].value == "Batch 1"
    for other in ("", "99", "x", "-1", "١"):
        assert open_page("data", tab="Batches", batch=other).subheader[0].value == "Batch 2"


def test_a_failed_load_is_described(store, tmp_path):
    number = batches.begin(store, source="x", file_name="broken.csv", bytes_total=1)
    batches.finish(store, number, "failed", HOSTILE)
    page = open_page("data", tab="Batches")
    assert "could not be loaded as a whole" in shown(page)
    assert HOSTILE in [code.value for code in page.code]
    assert not any(harm in markup(page) for harm in HARMFUL)


def test_saved_mappings_are_listed_taken_along_and_forgotten(store):
    mapping = Mapping("signals", (Rule("kind", None, Transform.SIGNAL_KIND, "thumb"),), HOSTILE)
    sources.save(store, HOSTILE, mapping.to_json(), ["a"])
    page = open_page("data", tab="Mappings")
    assert page.dataframe[0].value["from"].tolist() == ['the constant "thumb"']
    assert not any(harm in markup(page) for harm in HARMFUL)
    page = click(page, "data_mapping_delete")
    assert not sources.mapping_texts(store)
    assert audit.recent(store)["action"].to_list() == ["mapping delete"]
    assert "is forgotten" in page.success[0].value
    assert not any(harm in markup(page) for harm in HARMFUL)


def test_jobs_run_when_asked_to(store, monkeypatch):
    page = open_page("data", tab="Jobs")
    keys = [button.key for button in page.button]
    assert [key for key in keys if key.startswith("data_run_")] == [f"data_run_{name}" for name in REGISTRY]
    finished = []
    monkeypatch.setattr(runtime.current().runner, "start", finished.append)
    page = click(page, "data_run_tasks")
    assert finished == ["tasks"]
    assert page.success[0].value == "The job Group tasks is running\\."


def test_waiting_for_the_end_of_a_job_takes_no_place_on_the_page(store):
    """One more element before the page would draw all of it anew beside its old self."""
    run = runtime.current().runner.claim("tasks", "manual").run_id
    page = open_page("data", tab="Jobs")
    before = len(page.main.children)
    page.session_state["feel_jobs_started"] = {run}
    assert len(page.run().main.children) == before


def test_a_failing_job_shows_its_error_and_traceback_and_the_page_says_so(store):
    def boom(context):
        raise ValueError(HOSTILE)

    runner = runtime.current().runner
    runner.registry = {**REGISTRY, "drift": replace(REGISTRY["drift"], run=boom)}
    assert runner.run("drift", "manual").status == "failed"
    page = open_page("data")
    assert "Failing: **Drift**" in page.error[0].value
    page = open_page("data", tab="Jobs")
    codes = [code.value for code in page.code]
    assert f"ValueError: {HOSTILE}" in codes
    assert any("Traceback (most recent call last)" in code for code in codes)
    assert "attempt 1" not in shown(page)
    assert runner.run("drift", "retry").status == "failed"
    page = open_page("data", tab="Jobs", job="drift")
    assert "attempt 2" in shown(page)
    assert page.dataframe[0].value["job"].tolist() == ["drift", "drift"]
    assert not any(harm in markup(page) for harm in HARMFUL)


def test_a_job_that_runs_already_is_not_started_twice(store):
    runner = runtime.current().runner
    claim = runner.claim("tasks", "manual")
    page = open_page("data", tab="Jobs")
    assert page.button(key="data_run_tasks").disabled
    runner.execute(claim)
    page = open_page("data", tab="Jobs")
    assert not page.button(key="data_run_tasks").disabled
    assert "succeeded" in shown(page)
    assert job_runs.recent(store, job="tasks").height == 1


def test_hostile_names_and_cells_stay_text(store):
    name = f"{HOSTILE.replace('/', '')}.csv"
    content = f'"{HOSTILE}",prompt,answer\n"{HOSTILE}","{HOSTILE}","{HOSTILE}"\n'.encode()
    page = send(open_page("data"), (name, content))
    assert not any(harm in markup(page) for harm in HARMFUL)
    page = load_sent(page)
    assert not any(harm in markup(page) for harm in HARMFUL)
    page = open_page("data", tab="Batches")
    assert not any(harm in markup(page) for harm in HARMFUL)
    page = send(open_page("data"), (name, b""))
    assert page.error
    assert not any(harm in markup(page) for harm in HARMFUL)


def test_large_texts_are_cut_in_the_preview(store):
    record = json.dumps({"trace_id": "t", "input": "x" * 200_000})
    page = send(open_page("data"), ("big.jsonl", record.encode()))
    assert len(page.dataframe[0].value["input"][0]) <= 200


def test_every_transform_has_a_name_and_required_targets_are_those_of_mappings():
    assert set(READINGS) == set(Transform)
    for kind, required in REQUIRED.items():
        missing = [problem for problem in problems(Mapping(kind, (), "x")) if problem.startswith("No rule fills")]
        assert [f'"{required}"' in problem for problem in missing] == ([True] if required else [])
        assert required is None or required in TARGETS[kind]


def test_the_clock_of_the_store_dates_the_page(store, tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes(TRACES)
    loaded(store, file)
    assert "Latest file: batch 1, just now, done." in shown(open_page("data"))
    assert batches.one(store, 1)["received_at"] == NOW
