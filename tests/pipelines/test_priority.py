"""Jobs go after everybody else: by the niceness of the thread, and by that of their session where Linux has one."""

import os
import sys
from pathlib import Path

import pytest

from pipelines.worker import Worker

AUTOGROUP = Path("/proc/self/autogroup")


def standing() -> tuple[int, str | None]:
    """The niceness of the process, and what its session stands at."""
    session = AUTOGROUP.read_text().split() if AUTOGROUP.exists() else []
    # A process outside every such session reads an empty file.
    return os.getpriority(os.PRIO_PROCESS, 0), session[-1] if session else None


def granted(session: str) -> bool:
    """Whether this machine lets a process say where its session stands."""
    try:
        AUTOGROUP.write_text(session)
    except OSError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is changed")
def test_a_worker_behind_others_and_its_session_are_nicer_than_this_process():
    here, session = standing()
    worker = Worker(behind=True)
    try:
        there, its_session = worker.submit(standing).result(30)
    finally:
        worker.kill()
    assert there > here
    if session is not None and granted(session):
        assert its_session is not None
        assert int(its_session) > int(session)
        assert standing() == (here, session)
