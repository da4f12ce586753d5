"""The server process: how long until its first page answers, and how much memory it holds when idle."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

_IDLE_SECONDS = 20
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class ServerFigures:
    """Seconds from start until the page and the health route answer; resident megabytes after some idle time."""

    start_seconds: float
    idle_mb: float


def measure(db: Path) -> ServerFigures:
    """Start the real server on a free port, wait for it, let it idle, stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "TRIMTAB_DB": str(db),
        "TRIMTAB_PORT": str(port),
        "TRIMTAB_INBOX": str(db.parent / "inbox"),
    }
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboard.server"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(f"http://127.0.0.1:{port}/healthz", process)
        _wait(f"http://127.0.0.1:{port}/", process)
        seconds = time.perf_counter() - started
        time.sleep(_IDLE_SECONDS)
        return ServerFigures(seconds, _resident_mb(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE_SECONDS)


def _wait(address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"{address} did not answer")


def _resident_mb(pid: int) -> float:
    answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(answer.stdout) / 1024
