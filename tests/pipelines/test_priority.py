"""Jobs go after everybody else and steering before: by the niceness of the thread, and by that of their session where
Linux has one."""

import os
import subprocess
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


_FIRST = """
import os, sys
from pipelines.priority import session_before_others
if len(sys.argv) > 1:
    os.setuid(int(sys.argv[1]))
before = os.getpriority(os.PRIO_PROCESS, 0)
granted = session_before_others()
after = os.getpriority(os.PRIO_PROCESS, 0)
assert after == (-10 if granted else before), (granted, before, after)
print(granted)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is changed")
def test_a_process_goes_before_others_where_that_is_granted_and_stays_where_it_is_elsewhere():
    def asked(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", _FIRST, *arguments], capture_output=True, text=True, timeout=60,
            start_new_session=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert asked() in ("True", "False")
    if os.geteuid() == 0:
        # Somebody without rights, who may not; a container's root may lack the right too.
        assert asked("65534") == "False"
