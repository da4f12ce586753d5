"""Work in a process of its own: the same answer, its own errors, and an end when it is killed or told to stop."""

import json
import operator
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.compute import Aside, ComputeLost, here
from pipelines.jobs import JobInterrupted
from pipelines.stats.contract import ContractError, FitRefused, numbers, require
from store import meta
from store.clock import FixedClock
from store.connection import Store
from store.errors import SchemaMismatch, StoreError
from store.frames import UTC_TIME, declare

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SCHEMA = pl.Schema({"a": pl.Int64()})
ROWS = 200_000
LONG = declare({"a": pl.Int64, "text": pl.String, "at": UTC_TIME})
LONG_ROWS = f"""SELECT range AS a, 'text number ' || range AS text,
    TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_hours(range) AS at FROM range({ROWS}) ORDER BY range"""


def long_rows(store):
    """A large frame of the store, and the process that read it."""
    with store.read() as reader:
        return reader.frame(LONG_ROWS, LONG), os.getpid()


def everything_of(store):
    """What a view gives beside frames."""
    with store.read() as reader:
        before = reader.value("SELECT value FROM store_meta WHERE key = $key", {"key": "data_version"})
        rows = reader.any_frame("SELECT unnest($listed::VARCHAR[]) AS name", {"listed": ["b", "a"]})
        return before, rows["name"].to_list(), store.clock.now()


def changes_between(store, path):
    """What two readings say of a number that is counted up while the first is open."""
    with store.read() as reader:
        first = meta_value(reader)
        Path(path).touch()
        while Path(path).exists():
            time.sleep(0.01)
        again = meta_value(reader)
    with store.read() as reader:
        return first, again, meta_value(reader)


def meta_value(reader):
    return reader.value("SELECT value FROM store_meta WHERE key = 'data_version'")


def mistyped(store):
    with store.read() as reader:
        return reader.frame("SELECT 'x' AS a", SCHEMA)


def misnamed(store):
    with store.read() as reader:
        return reader.frame("SELECT 1 AS b", SCHEMA)


def misspelt(store):
    with store.read() as reader:
        return reader.frame("SELEKT 1", SCHEMA)


def changing(store):
    store.write(lambda connection: None)


def endless(store):
    with store.read() as reader:
        return reader.value("SELECT sum(a.range * b.range) FROM range(100_000_000) AS a, range(100_000_000) AS b")


def left_in(folder):
    """How many files there are, and a file that is never read."""
    (Path(folder) / "left.parquet").touch()
    return len(list(Path(folder).iterdir()))


def files(store):
    return [path for path in store.path.parent.rglob("*") if ".exchange" in str(path) and path.is_file()]


def go_on():
    pass


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


@pytest.fixture
def compute(store):
    made = Aside(go_on, store)
    yield made
    made.close()


@pytest.mark.process
def test_it_runs_in_another_process_behind_others(compute):
    other = compute(os.getpid)
    assert other != os.getpid() == here(os.getpid)
    assert compute(os.getpid) == other
    assert compute(os.getpriority, os.PRIO_PROCESS, 0) >= os.getpriority(os.PRIO_PROCESS, 0)
    compute.close()
    assert compute(os.getpid) != other


@pytest.mark.process
def test_frames_and_errors_go_there_and_back(compute):
    frame = pl.DataFrame({"a": [1, 2]}, schema=SCHEMA)
    assert compute(require, frame, SCHEMA, "numbers", not_null=["a"]).equals(frame)
    with pytest.raises(ZeroDivisionError):
        compute(operator.truediv, 1, 0)
    with pytest.raises(ContractError) as here_said:
        require(pl.DataFrame({"b": [1]}), SCHEMA, "numbers")
    with pytest.raises(Exception) as there_said:  # noqa: PT011
        compute(require, pl.DataFrame({"b": [1]}), SCHEMA, "numbers")
    assert str(here_said.value) in str(there_said.value)
    with pytest.raises(FitRefused) as refused:
        compute(numbers, "fit", "response", [float("nan")])
    assert (refused.value.model, refused.value.reason) == ("fit", "not_finite")


@pytest.mark.process
def test_a_process_that_ends_is_an_error_with_a_reason_and_the_next_call_has_another(compute):
    with pytest.raises(ComputeLost, match="ended from outside"):
        compute(os._exit, 3)
    assert compute(os.getpid) != os.getpid()


@pytest.mark.process
def test_a_store_is_read_there_and_what_comes_back_is_a_file(compute, store):
    found, process = compute(long_rows, store)
    assert process != os.getpid()
    assert found.equals(here(long_rows, store)[0])
    assert found.schema == LONG
    assert files(store) == []
    assert compute(everything_of, store) == here(everything_of, store) == (0, ["b", "a"], NOW)


@pytest.mark.process
def test_a_transaction_there_sees_one_state(compute, store, tmp_path):
    flag = tmp_path / "flag"

    def change():
        while not flag.exists():
            time.sleep(0.01)
        store.write(meta.bump)
        flag.unlink()

    other = threading.Thread(target=change)
    other.start()
    assert compute(changes_between, store, str(flag)) == (0, 0, 1)
    other.join()


@pytest.mark.process
def test_what_is_refused_here_is_refused_there(compute, store):
    for function, error in ((mistyped, SchemaMismatch), (misnamed, SchemaMismatch), (misspelt, StoreError)):
        with pytest.raises(error) as there_said:
            compute(function, store)
        with pytest.raises(error) as here_said:
            here(function, store)
        assert type(there_said.value) is type(here_said.value)
        assert str(here_said.value)[:45] in str(there_said.value)
    with pytest.raises(StoreError, match="cannot change the store"):
        compute(changing, store)
    assert compute(everything_of, store) == here(everything_of, store)


@pytest.mark.process
def test_a_query_is_cut_short_when_told_to_stop(store):
    looks = iter([None, None])

    def stop():
        if next(looks, "stop") == "stop":
            raise JobInterrupted

    compute = Aside(stop, store)
    with pytest.raises(JobInterrupted):
        compute(endless, store)
    assert files(store) == []
    store.write(meta.bump)


@pytest.mark.process
def test_no_file_is_left_however_it_ends(store):
    compute = Aside(go_on, store)
    compute(long_rows, store)
    (folder,) = (store.path.parent / f"{store.path.name}.exchange").iterdir()
    assert compute(left_in, str(folder)) == 1
    with pytest.raises(ComputeLost):
        compute(os._exit, 3)
    assert not folder.exists()
    left = store.exchange()
    (left / "rows.parquet").touch()
    again = Store.open(store.path.with_name("other.duckdb"))
    again.close()
    assert left.exists()
    store.close()
    assert not left.exists()


@pytest.mark.process
def test_files_of_a_killed_server_are_gone_when_the_store_is_opened(tmp_path):
    path = tmp_path / "trimtab.duckdb"
    script = """
import os, sys
from pathlib import Path
from store.connection import Store
store = Store.open(Path(sys.argv[1]), threads=1)
(store.exchange() / "rows.parquet").touch()
os.kill(os.getpid(), 9)
"""
    ended = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT)
    assert ended.returncode == -9
    assert len(list(tmp_path.rglob("rows.parquet"))) == 1
    Store.open(path, threads=1).close()
    assert list(tmp_path.rglob("*.parquet")) == []


_MEMORY = """
import sys, json
from pathlib import Path
from pipelines.compute import Aside, here
from store.connection import Store
sys.path.insert(0, sys.argv[3])
import test_compute as work

def held():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    return int(fields["RssAnon"].split()[0]) / 1024

store = Store.open(Path(sys.argv[1]), threads=1)
compute = Aside(lambda: None, store) if sys.argv[2] == "aside" else here
compute(work.everything_of, store)
before = held()
rows = compute(work.wide_rows, store)[0]
print(json.dumps([held() - before, rows.height, rows.estimated_size() / 2**20]))
"""


def wide_rows(store):
    """About 120 MB."""
    with store.read() as reader:
        frame = reader.frame(
            "SELECT range AS a, repeat('text ', 60) || range AS text FROM range(400_000)",
            {"a": pl.Int64, "text": pl.String},
        )
    return frame, os.getpid()


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_job_reads_and_answers_does_not_stay_with_the_server(tmp_path):
    """A frame of 120 MB that a job reads and answers with adds less than 40 MB to the server; read in it, over 110."""

    def grown(where):
        script = [sys.executable, "-c", _MEMORY, str(tmp_path / f"{where}.duckdb"), where, str(Path(__file__).parent)]
        ended = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
        return json.loads(ended.stdout)

    aside, in_it = grown("aside"), grown("here")
    assert aside[1:] == pytest.approx(in_it[1:])
    assert in_it[2] > 110
    assert in_it[0] > 110
    assert aside[0] < 40


@pytest.mark.process
def test_being_told_to_stop_ends_the_process(store):
    asked = threading.Event()

    def stop():
        asked.set()
        raise JobInterrupted

    begun = time.monotonic()
    with pytest.raises(JobInterrupted):
        Aside(stop, store)(time.sleep, 600)
    assert asked.is_set()
    assert time.monotonic() - begun < 300
