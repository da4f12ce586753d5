"""Loading under real faults: processes killed with SIGKILL, a real small disk that fills up."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from publishing import state

from bench.data import spans_file
from store import batches
from store.connection import Store

ROOT = Path(__file__).resolve().parents[2]

_LOAD = """
import sys
from pathlib import Path
from pipelines.ingest.load import load
from store.connection import Store
store = Store.open(Path(sys.argv[1]), threads=1)
report = load(store, Path(sys.argv[2]), chunk_bytes=int(sys.argv[3]))
store.close()
print(report.received, report.accepted, report.duplicate, report.rejected)
"""


def _start(db, file, chunk_bytes=150_000):
    command = [sys.executable, "-c", _LOAD, str(db), str(file), str(chunk_bytes)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process):
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return [int(number) for number in out.split()]


def _state(db):
    store = Store.open(db, threads=1)
    answer = state(store)
    store.close()
    return answer


@pytest.mark.process
def test_ten_kills_at_random_moments_leave_the_same_store(tmp_path):
    file = spans_file(tmp_path, "csv", 2_000)
    undisturbed, disturbed = tmp_path / "undisturbed.duckdb", tmp_path / "disturbed.duckdb"
    started = time.monotonic()
    assert _finish(_start(undisturbed, file)) == [2_000, 2_000, 0, 0]
    whole = time.monotonic() - started
    moments = random.Random(7)
    killed = 0
    for _ in range(10):
        process = _start(disturbed, file)
        try:
            # Some die before the store is open, some while reading, some while publishing, the last ones while they
            # load again what is held already; on a machine that has become faster one may get through.
            process.wait(timeout=whole * moments.uniform(0.2, 0.8))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
    assert killed >= 5
    _finish(_start(disturbed, file))
    assert _state(disturbed) == _state(undisturbed)
    store = Store.open(disturbed, threads=1)
    rows = batches.recent(store, 50).to_dicts()
    store.close()
    assert all(row["received"] == row["accepted"] + row["duplicate"] + row["rejected"] for row in rows)
    assert {row["state"] for row in rows} <= {"done", "failed"}
    assert not any((tmp_path / "disturbed.duckdb.staging").iterdir())


@pytest.mark.process
def test_a_killed_load_continues_where_it_stopped(tmp_path):
    file = spans_file(tmp_path, "csv", 4_000)
    db = tmp_path / "t.duckdb"
    process = _start(db, file)
    folder = tmp_path / "t.duckdb.staging"
    deadline = time.monotonic() + 60
    while not list(folder.glob("*/000003.spans.parquet")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        os.sched_yield()
    process.kill()
    process.communicate()
    manifest = json.loads(next(folder.glob("*/manifest.json")).read_text())
    kept = [entry["received"] for entry in manifest["slices"]]
    assert kept
    assert _finish(_start(db, file)) == [4_000, 4_000, 0, 0]
    store = Store.open(db, threads=1)
    last, first = batches.recent(store, 2).to_dicts()
    store.close()
    assert (first["state"], last["state"]) == ("failed", "done")
    assert f"batch {last['batch_id']} continues it" in first["error"]


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 48 MB; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.process
def test_a_full_disk_is_said_and_nothing_is_applied_and_space_lets_it_continue(small_disk, tmp_path):
    file = spans_file(tmp_path, "csv", 20_000)
    db = small_disk / "t.duckdb"
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (36 << 20))
    process = _start(db, file, 2_000_000)
    _, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "is full" in error
    assert "Free some space" in error
    filler.write_bytes(b"x" * (1 << 20))
    store = Store.open(db, threads=1)
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM spans") == 0
        assert reader.value("SELECT count(*) FROM traces") == 0
    store.close()
    file = spans_file(tmp_path, "csv", 5_000)
    assert _finish(_start(db, file, 2_000_000)) == [5_000, 5_000, 0, 0]
