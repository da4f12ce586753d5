"""Where the store is: what moves the version, and what of it people did."""

from datetime import UTC, datetime

from store import audit, job_runs, meta
from store.clock import FixedClock
from store.connection import Store
from store.meta import Version

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_the_version_says_apart_what_people_did():
    store = Store.open(None, clock=FixedClock(NOW))
    assert meta.version(store) == Version(0, 0, 0)
    store.write(meta.bump)
    assert meta.version(store) == Version(1, 0, 0)
    store.write(lambda connection: audit.append(connection, NOW, "ana", "setting", "retention", {}))
    assert meta.version(store) == Version(1, 1, 0)
    for number, (cause, ran) in enumerate([("schedule", 0), ("manual", 2), ("retry", 2)], start=1):
        run = job_runs.begin(store, job="rewards", cause=cause, attempt=1, watermark=0, code_version="c")
        assert run == number
        before = meta.version(store)
        job_runs.succeed(store, run, rows=1, message="done")
        after = meta.version(store)
        assert after.ran == ran
        assert (before.of_people() == after.of_people()) == (cause != "manual"), cause
    store.close()


def test_whoever_asked_for_a_change_finds_it_counted():
    store = Store.open(None, clock=FixedClock(NOW))
    before = store.changes
    done = store.submit(meta.bump)
    done.result()
    assert store.changes == before + 1
    store.close()
