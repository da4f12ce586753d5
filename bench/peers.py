"""MLflow and Phoenix taking the same requests over OTLP; each in an environment of its own, with its default store.

Both keep spans in SQLite by default: what another connection can count there can be queried.
"""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.live import SPANS, WARM_FROM, Bodies, Memory, Sent, Target, bodies, free_port, send, started, until_counted

# A request of 512 spans can take Phoenix several seconds.
_PATIENCE_SECONDS = 300.0


# (processes, connections of each): one client, and as many as Trimtab is given; the faster counts.
_CLIENTS = ((1, 1), (2, 4), (2, 12))
_WARM_REQUESTS = 8


@dataclass(frozen=True)
class PeerLoad:
    """One load of a peer: clients, spans, seconds until all could be queried, and what the clients saw."""

    clients: int
    spans: int
    seconds: float
    sent: Sent

    @property
    def rate(self) -> float:
        """Spans a second, from the first byte sent until the last span could be queried."""
        return self.spans / self.seconds


@dataclass(frozen=True)
class PeerFigures:
    """The loads of a peer, one for each number of clients, and its peak memory with all its processes."""

    loads: list[PeerLoad]
    peak_mb: float

    @property
    def best(self) -> PeerLoad:
        """The fastest load."""
        return max(self.loads, key=lambda load: load.rate)


@dataclass(frozen=True)
class Peer:
    """Another product: how to install and start it, and what its makers' issue measured for it (spans/s)."""

    name: str
    package: str
    version: str
    published: str
    command: Callable[[Path, Path, int], list[str]]
    environment: Callable[[Path, int], dict[str, str]]
    database: str
    headers: dict[str, str]


def _mlflow_command(binaries: Path, folder: Path, port: int) -> list[str]:
    return [
        str(binaries / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--default-artifact-root", str(folder / "artifacts"),
    ]  # fmt: skip


def _phoenix_environment(folder: Path, port: int) -> dict[str, str]:
    return {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }


PEERS = (
    Peer(
        "MLflow", "mlflow", "3.17.0", "900 to 1,100", _mlflow_command,
        lambda folder, port: {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
        "mlflow.db", {"x-mlflow-experiment-id": "0"},
    ),
    Peer(
        "Phoenix", "arize-phoenix", "20.26.1", "155 to 165",
        lambda binaries, folder, port: [str(binaries / "phoenix"), "serve"], _phoenix_environment,
        "phoenix.db", {},
    ),
)  # fmt: skip


class NotInstallable(RuntimeError):
    """The peer cannot be installed on this machine."""


def installed(peer: Peer, environments: Path) -> Path:
    """The folder of a peer's programs; made with pip when it is not there. Raises: `NotInstallable`."""
    home = environments / peer.package
    python = home / "bin" / "python"
    check = f"from importlib.metadata import version; assert version({peer.package!r}) == {peer.version!r}"
    if python.exists() and subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0:
        return python.parent
    environments.mkdir(parents=True, exist_ok=True)
    print(f"installing {peer.package} {peer.version} into {home}", flush=True)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", f"{peer.package}=={peer.version}"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotInstallable(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip failed")
    return python.parent


def measure(peer: Peer, environments: Path, folder: Path, requests: int) -> PeerFigures:
    """A peer taking `requests` requests from each number of clients, until its database holds all spans.

    Raises: `NotInstallable`; `RuntimeError` when it refuses a request or loses spans.
    """
    binaries = installed(peer, environments)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = free_port()
    target = Target(port, headers=peer.headers)
    command, environment = peer.command(binaries, folder, port), peer.environment(folder, port)
    loads = []
    with started(command, environment, f"http://127.0.0.1:{port}/", folder / "server.log") as process:
        stored = _WARM_REQUESTS * SPANS
        # Its workers load what they need with their first requests.
        _load(peer, folder, target, bodies(folder / "bodies.bin", _WARM_REQUESTS, first=WARM_FROM), (2, 4), stored)
        with Memory(process.pid) as memory:
            for number, clients in enumerate(_CLIENTS):
                made = bodies(folder / "bodies.bin", requests, first=number * requests)
                stored += made.spans
                loads.append(_load(peer, folder, target, made, clients, stored))
    return PeerFigures(loads, memory.peak_mb[1])


def _load(peer: Peer, folder: Path, target: Target, made: Bodies, clients: tuple[int, int], expected: int) -> PeerLoad:
    processes, connections = clients
    sent = send(target, made, processes=processes, connections=connections, patience=_PATIENCE_SECONDS)
    seen = until_counted(lambda: _count(folder / peer.database), expected, _PATIENCE_SECONDS)
    return PeerLoad(processes * connections, made.spans, seen - sent.begun, sent)


def _count(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        return int(connection.execute("SELECT count(*) FROM spans").fetchone()[0])
