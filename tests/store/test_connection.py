"""Opening, reading, writing, locking and closing the store."""

import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest

from store import meta
from store.connection import Store
from store.errors import MemoryExhausted, QueryTimeout, SchemaMismatch, StoreClosed, StoreError, StoreLocked


def _bump(connection):
    connection.execute("UPDATE store_meta SET value = value + 1")


def _version(store):
    with store.read() as reader:
        return reader.value("SELECT value FROM store_meta")


def test_write_returns_the_result_and_commits(store):
    assert store.write(lambda connection: connection.execute("SELECT 41 + 1").fetchall()[0][0]) == 42
    store.write(_bump)
    assert _version(store) == 1


def test_a_failing_write_rolls_back_and_the_next_one_works(store):
    def fails(connection):
        _bump(connection)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.write(fails)
    with pytest.raises(StoreError, match="nowhere"):
        store.write(lambda connection: connection.execute("SELECT * FROM nowhere"))
    store.write(_bump)
    assert _version(store) == 1


def test_writes_from_many_threads_all_happen(store):
    threads = [threading.Thread(target=lambda: [store.write(_bump) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _version(store) == 160


def test_a_reader_keeps_its_snapshot_and_does_not_block_the_writer(store):
    with store.read() as reader:
        before = reader.value("SELECT value FROM store_meta")
        store.write(_bump)
        assert reader.value("SELECT value FROM store_meta") == before
    assert _version(store) == before + 1


def test_a_slow_writer_does_not_block_readers(store):
    entered, leave = threading.Event(), threading.Event()

    def slow(connection):
        _bump(connection)
        entered.set()
        assert leave.wait(30)

    future = store.submit(slow)
    assert entered.wait(30)
    assert _version(store) == 0
    leave.set()
    future.result(30)
    assert _version(store) == 1


def test_reads_cannot_write(store):
    with store.read() as reader, pytest.raises(StoreError, match="read-only"):
        reader.value("UPDATE store_meta SET value = 7")


def test_a_write_from_inside_a_write_is_refused_instead_of_waiting_forever(store):
    with pytest.raises(RuntimeError, match="inside a change"):
        store.write(lambda connection: store.write(_bump))


def test_timeout_stops_a_query_and_the_store_goes_on(store):
    with store.read(timeout=0.2) as reader, pytest.raises(QueryTimeout, match=r"0\.2 s"):
        reader.value("SELECT count(*) FROM range(10000000) AS a, range(10000000) AS b WHERE a.range <> b.range")
    assert _version(store) == 0


def test_frames_have_the_declared_columns(store):
    with store.read() as reader:
        frame = reader.frame("SELECT 1::HUGEINT AS n", {"n": pl.Int64})
        assert frame.schema == pl.Schema({"n": pl.Int64})
        with pytest.raises(SchemaMismatch, match="m"):
            reader.frame("SELECT 1 AS n", {"m": pl.Int64})
        with pytest.raises(SchemaMismatch):
            reader.frame("SELECT 'x' AS n", {"n": pl.Int64})


def test_close_finishes_what_was_handed_over_and_then_refuses(tmp_path):
    store = Store.open(tmp_path / "t.duckdb")
    futures = [store.submit(_bump) for _ in range(50)]
    store.close()
    store.close()
    assert all(future.done() for future in futures)
    with pytest.raises(StoreClosed):
        store.write(_bump)
    with pytest.raises(StoreClosed), store.read():
        pass
    reopened = Store.open(tmp_path / "t.duckdb")
    assert _version(reopened) == 50
    reopened.close()


@pytest.mark.process
def test_another_process_is_refused_and_told_who_holds_the_file(store):
    import os

    code = (
        "import sys; from pathlib import Path; from store.connection import Store\n"
        "from store.errors import StoreLocked\n"
        "try: Store.open(Path(sys.argv[1]))\n"
        "except StoreLocked as error: print(error.pid, error)"
    )
    root = Path(__file__).resolve().parents[2]
    answer = subprocess.run(
        [sys.executable, "-c", code, str(store.path)], capture_output=True, text=True, cwd=root, check=True
    )
    assert answer.stdout.startswith(f"{os.getpid()} {store.path} is open in process {os.getpid()}")


def test_locked_error_without_a_pid_still_reads_well():
    assert "another process" in str(StoreLocked(Path("x.duckdb"), None, None))


def test_the_cache_is_released_but_for_what_is_kept_and_the_limit_stays(tmp_path):
    def cached() -> int:
        with store.read() as reader:
            return int(reader.value("SELECT sum(memory_usage_bytes) FROM duckdb_memory() WHERE tag = 'BASE_TABLE'"))

    def limit() -> str:
        with store.read() as reader:
            return str(reader.value("SELECT current_setting('memory_limit')"))

    path = tmp_path / "cached.duckdb"
    store = Store.open(path, memory_limit="1GB")
    store.write(lambda connection: connection.execute(
        "CREATE TABLE texts AS SELECT md5(range::VARCHAR) AS a, md5((range + 1)::VARCHAR) AS b FROM range(400000)"
    ))  # fmt: skip
    store.close()
    store = Store.open(path, memory_limit="1GB")
    before = limit()
    with store.read() as reader:
        reader.value("SELECT max(a || b) FROM texts")
    held = cached()
    assert held > 8 << 20, "the table must have been read into the cache for this test to say anything"
    store.release_cache(keep=1 << 40)
    assert cached() == held, "nothing has to go while there is room"
    store.release_cache(keep=4 << 20, above=1 << 40)
    assert cached() == held, "there is less than would be too much"
    store.release_cache(keep=4 << 20, above=8 << 20)
    assert cached() <= 4 << 20
    assert limit() == before
    with store.read() as reader:
        assert reader.value("SELECT count(DISTINCT a) FROM texts") == 400_000, "what was let go is read again"
    store.close()


def test_the_file_is_written_anew_though_somebody_always_reads(tmp_path):
    """Six readers that begin again at once: there is never a moment without a read unless the next ones wait."""
    store = Store.open(tmp_path / "trimtab.duckdb", threads=1)
    stop, wrong = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                with store.read() as reader:
                    reader.value("SELECT count(*) FROM traces")
                    stop.wait(0.05)
            except Exception as error:
                wrong.append(repr(error))

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    try:
        store.rewrite(patience=5.0)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
        store.close()
    assert wrong == []


def test_a_read_that_begins_while_the_engine_is_let_go_waits_for_the_next_one(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "s.duckdb")
    prepare, retired = store._prepare, []

    def late(cursor):
        # As when the writer finds the engine out of use while a cursor is used for the first time.
        if not retired:
            retired.append(threading.Timer(0.05, store._retire))
            retired[0].start()
            cursor.execute("SELECT sum(i) FROM range(1_000_000_000_000) AS r(i)")
        prepare(cursor)

    monkeypatch.setattr(store, "_prepare", late)
    with store.read() as reader:
        assert reader.value("SELECT 42") == 42
    assert len(retired) == 1
    store.close()


def test_files_of_a_store_in_memory_go_with_it():
    first, second = Store.open(None, threads=1), Store.open(None, threads=1)
    folders = {each.folder(purpose) for each in (first, second) for purpose in ("staging", "pulls")}
    assert len(folders) == 4
    for folder in folders:
        folder.mkdir()
    exchanged = first.exchange()
    first.close()
    assert not exchanged.exists()
    assert [folder.exists() for folder in sorted(folders)].count(True) == 2
    second.close()
    assert not any(folder.exists() for folder in folders)


def test_more_memory_than_the_engine_may_use_is_an_error_of_its_own_and_changes_nothing(tmp_path):
    store = Store.open(tmp_path / "trimtab.duckdb", threads=1, memory_limit="100MB")
    greedy = "SELECT list(range) FROM range(30_000_000)"  # a list is held whole
    try:
        with store.read() as reader, pytest.raises(MemoryExhausted) as read:
            reader.value(greedy)

        def work(connection):
            connection.execute("UPDATE store_meta SET value = '77' WHERE key = 'data_version'")
            connection.execute(greedy).fetchall()

        with pytest.raises(MemoryExhausted, match="nothing was changed"):
            store.write(work)
        assert read.value.limit == "95.3 MiB"
        assert meta.data_version(store) != 77
        store.write(meta.bump)
    finally:
        store.close()


def test_row_groups_that_are_left_as_they_are_under_load_are_joined_later(tmp_path):
    store = Store.open(tmp_path / "store.duckdb")

    def fold(rows):
        store.write(lambda connection: connection.execute(f"INSERT INTO texts SELECT i FROM range({rows}) AS r(i)"))
        with store.borrowed_cursor() as cursor:
            cursor.execute("CHECKPOINT")
            groups = cursor.execute("SELECT count(DISTINCT row_group_id) FROM pragma_storage_info('texts')").fetchall()
        return int(groups[0][0])

    store.write(lambda connection: connection.execute("CREATE TABLE texts (number BIGINT)"))
    store.work_alone(True)
    assert [fold(5_000) for _ in range(8)] == [1, 2, 3, 4, 5, 6, 7, 8]
    store.work_alone(False)
    assert min(fold(1) for _ in range(8)) < 6
    with store.read() as reader:
        assert reader.value("SELECT count(*) FROM texts") == 8 * 5_001
    store.close()
