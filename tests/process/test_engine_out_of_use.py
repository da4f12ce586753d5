"""Readers go on while folding the log into the file fails on a full disk and the engine is opened anew.

In a process of its own: the engine once ended the process where a cursor was closed within its transaction.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_SCRIPT = """
import os, sys, threading
from pathlib import Path
import duckdb
from store.connection import Store
from store.errors import TrimtabError

connect = duckdb.connect
duckdb.connect = lambda path, config: connect(path, config={**config, "checkpoint_threshold": "64KB"})
disk = Path(sys.argv[1])
store = Store.open(disk / "live.duckdb", threads=2)
store.write(lambda connection: connection.execute("CREATE TABLE rows (text VARCHAR)"))
stop = threading.Event()
wrong = []

def reader():
    while not stop.is_set():
        try:
            with store.read() as reading:
                reading.value("SELECT count(*) FROM rows")
                stop.wait(0.005)
                reading.value("SELECT max(text) FROM rows")
        except TrimtabError:
            pass
        except BaseException as error:
            wrong.append(repr(error))

def insert(connection):
    connection.execute("INSERT INTO rows SELECT md5(random()::VARCHAR) || md5(random()::VARCHAR) FROM range(300)")

readers = [threading.Thread(target=reader) for _ in range(6)]
for thread in readers:
    thread.start()
failed = written = 0
for _ in range(4):
    space = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(b"x" * max(0, space.f_bavail * space.f_frsize - 150_000))
    for _ in range(15):
        try:
            store.write(insert)
            written += 1
        except TrimtabError:
            failed += 1
    filler.unlink()
    store.write(lambda connection: connection.execute("DELETE FROM rows"))
stop.set()
for thread in readers:
    thread.join()
with store.read() as reading:
    assert reading.value("SELECT count(*) FROM rows") == 0
store.close()
assert wrong == [], wrong
assert failed and written, (failed, written)
"""


@pytest.mark.process
def test_readers_and_the_process_survive_an_engine_that_goes_out_of_use(small_disk: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(small_disk)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3_000:]
