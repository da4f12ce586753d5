"""When the engine works alone on each statement, and that it then does."""

import threading

from pipelines.live.engine_threads import EngineThreads
from store.connection import Store
from store.errors import StoreClosed


class _Engine:
    def __init__(self):
        self.told = []

    def work_alone(self, alone):
        self.told.append(alone)


def _threads(engine, now):
    return EngineThreads(engine, lambda: now[0], lambda work: work())


def test_it_works_alone_while_commits_take_a_quarter_of_the_time_and_until_they_take_a_tenth():
    engine, now = _Engine(), [100.0]
    threads = _threads(engine, now)
    for _ in range(3):
        threads.committed(0.3)
        now[0] += 1
    assert engine.told == []
    threads.committed(0.2)
    assert engine.told == [True]
    for _ in range(20):  # 15 % of the time: between the two it stays
        now[0] += 1
        threads.committed(0.15)
    assert (engine.told, threads.alone) == ([True], True)
    now[0] += 5
    threads.look()
    assert (engine.told, threads.alone) == ([True, False], False)


def test_a_store_that_is_closed_meanwhile_is_no_error():
    class Closed:
        def work_alone(self, alone):
            raise StoreClosed

    threads = EngineThreads(Closed(), lambda: 1.0, lambda work: work())
    threads.committed(5.0)
    assert threads.alone


def test_the_engine_has_no_threads_of_its_own_while_it_works_alone(tmp_path):
    store = Store.open(tmp_path / "s.duckdb", threads=4)

    def others():
        with store.read() as reader:
            return reader.value("SELECT current_setting('threads') - current_setting('external_threads')")

    def merges():
        with store.read() as reader:
            return reader.value("SELECT current_setting('max_vacuum_tasks')")

    def count(found):
        with store.read() as reader:
            found.append(reader.value("SELECT count(DISTINCT md5(i::VARCHAR)) FROM range(1_500_000) AS r(i)"))

    found: list[object] = []
    readers = [threading.Thread(target=count, args=(found,)) for _ in range(3)]
    for reader in readers:
        reader.start()
    assert (others(), merges()) == (3, 2)
    for alone in (True, False, True):
        store.work_alone(alone)
    assert (others(), merges()) == (0, 0)
    for reader in readers:
        reader.join()
    assert found == [1_500_000] * 3
    # An engine that is opened anew goes on in the same way.
    store.rewrite()
    assert (others(), merges()) == (0, 0)
    store.work_alone(False)
    assert (others(), merges()) == (3, 2)
    store.close()
