"""The presence file: where the server that holds a database file can be reached by commands on this machine.

It lies beside the database file, readable by its owner only, and carries the random token that the control routes ask
for. It is advice, never a lock: DuckDB's own file lock decides who holds the file.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Presence:
    """A server: its process, its address, and the token of its control routes."""

    pid: int
    host: str
    port: int
    token: str


def presence_file(db: Path) -> Path:
    """Where the server of a database file announces itself."""
    resolved = db.resolve()
    return resolved.with_name(resolved.name + ".server.json")


def announce(db: Path, presence: Presence) -> None:
    """Write the presence file, whole or not at all, readable by its owner only."""
    path = presence_file(db)
    draft = path.with_name(f"{path.name}.{presence.pid}.part")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(presence), file)
    draft.replace(path)


def read(db: Path) -> Presence | None:
    """The announced server if its process is alive; None when there is none or the file is not one of ours."""
    try:
        content = json.loads(presence_file(db).read_text(encoding="utf-8"))
        presence = Presence(int(content["pid"]), str(content["host"]), int(content["port"]), str(content["token"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return presence if _is_alive(presence.pid) else None


def withdraw(db: Path, pid: int) -> None:
    """Remove the presence file if it is that of process `pid`."""
    path = presence_file(db)
    with suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(path.read_text(encoding="utf-8"))["pid"] == pid:
            path.unlink()


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
