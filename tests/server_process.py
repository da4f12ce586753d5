"""The server as a process of its own, on a free port of this machine: started, stopped, killed, and what it leaves."""

import http.client
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The same server with a log so short that it is folded into the file all the time.
_CHECKPOINTING = """
import runpy
import duckdb
connect = duckdb.connect
def connect_with_a_short_log(path, config):
    return connect(path, config={**config, "checkpoint_threshold": "512KB"})
duckdb.connect = connect_with_a_short_log
runpy.run_module("dashboard.server", run_name="__main__")
"""


class ServerProcess:
    """`python -m dashboard.server` on a database file; one life at a time. Use it as a context."""

    def __init__(self, db: Path, log: Path, *, checkpointing: bool = False, grace_seconds: float = 10.0) -> None:
        self.db, self.log = db, log
        self.port = 0
        code = ["-c", _CHECKPOINTING] if checkpointing else ["-m", "dashboard.server"]
        self._command = [sys.executable, *code]
        self._grace = grace_seconds
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._ended()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once it says that it serves."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = {
            **os.environ,
            "TRIMTAB_DB": str(self.db),
            "TRIMTAB_INBOX": str(self.db.with_name("inbox")),
            "TRIMTAB_PORT": str(self.port),
            "PYTHONFAULTHANDLER": "1",
            "TRIMTAB_ALLOW_KEYLESS_LOOPBACK": "1",
            "TRIMTAB_SHUTDOWN_GRACE_SECONDS": str(self._grace),
        }
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        for line in self._process.stdout or ():
            if line.startswith("Trimtab serves"):
                return
        raise AssertionError(f"the server ended with {self._process.wait()}:\n{self.log.read_text()}")

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        assert self._process.poll() is None, f"the server had ended by itself:\n{self.log.read_text()}"
        self._process.send_signal(signal.SIGKILL)
        assert self._ended() == -signal.SIGKILL

    def terminate(self) -> None:
        """SIGTERM, without waiting for what follows."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def ended(self, seconds: float = 60.0) -> int:
        """The exit code of a server that was told to stop."""
        assert self._process is not None
        self._process.wait(seconds)
        return self._ended()

    def children(self) -> list[int]:
        """Processes beside the server itself that it, or an earlier life of it, has started."""
        mark = f"TRIMTAB_DB={self.db}".encode()
        return [pid for pid in _processes_with(mark) if self._process is None or pid != self._process.pid]

    def get(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def _ended(self) -> int:
        assert self._process is not None
        if self._process.stdout is not None:
            self._process.stdout.close()
        code = self._process.wait()
        self._process = None
        return code


def wait_for_end(pids: list[int], seconds: float = 20.0) -> None:
    """Wait until these processes, which need not be ours, are gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                ready, _, _ = select.select([handle], [], [], seconds)
                assert ready, f"process {pid} is still there"
            finally:
                os.close(handle)


def _processes_with(mark: bytes) -> list[int]:
    """Living processes with this variable in their environment; those that have ended have none."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found
