"""A process that calls functions: answers in order, errors, what a library prints, and how it ends."""

import operator
import os
import subprocess
import sys
import types

import pytest

from pipelines.worker import Worker, WorkerLost

pytestmark = pytest.mark.process


@pytest.fixture
def worker():
    made = Worker()
    yield made
    made.close()


def test_answers_come_with_their_calls(worker):
    futures = [worker.submit(operator.add, number, 1) for number in range(50)]
    assert [future.result(60) for future in futures] == list(range(1, 51))
    big = b"x" * (8 << 20)
    assert worker.submit(bytes.upper, big).result(60) == big.upper()


def test_what_is_printed_does_not_get_between_the_answers(worker):
    assert worker.submit(print, "x" * 100_000).result(60) is None
    assert worker.submit(os.write, 1, b"raw").result(60) == 3
    assert worker.submit(operator.add, 1, 1).result(60) == 2


def test_errors_and_what_cannot_be_sent(worker):
    with pytest.raises(ZeroDivisionError):
        worker.submit(operator.truediv, 1, 0).result(60)
    with pytest.raises(Exception, match="pickle"):
        worker.submit(operator.add, lambda: 1, 2)
    with pytest.raises(Exception, match="pickle"):
        worker.submit(types.SimpleNamespace, a=sys).result(60)
    with pytest.raises(Exception, match="memoryview"):
        worker.submit(memoryview, b"x").result(60)
    assert worker.submit(operator.add, 1, 1).result(60) == 2


def test_the_main_module_of_the_parent_is_not_run_again(worker, tmp_path, monkeypatch):
    """In a server it is the page that Streamlit shows at that moment."""
    page = tmp_path / "page.py"
    page.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    shown = types.ModuleType("__main__")
    shown.__file__ = str(page)
    monkeypatch.setitem(sys.modules, "__main__", shown)
    other = Worker()
    assert other.submit(operator.add, 1, 1).result(60) == 2
    other.close()
    assert not (tmp_path / "ran").exists()


def test_a_killed_process_answers_every_call_that_waits(worker):
    futures = [worker.submit(os._exit, 1), *(worker.submit(operator.add, 1, 1) for _ in range(5))]
    for future in futures:
        with pytest.raises(WorkerLost):
            future.result(60)
    with pytest.raises(WorkerLost):
        worker.submit(operator.add, 1, 1).result(60)
    assert not worker.alive


def test_closing_finishes_what_was_handed_over():
    worker = Worker()
    future = worker.submit(subprocess.run, [sys.executable, "-c", "print(1)"], check=True)
    worker.close()
    assert future.result(0).returncode == 0
    worker.close()
