"""Which code is running: recorded with every job run and model, so that a result can be traced to what computed it."""

import re
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_COMMIT = re.compile(r"[0-9a-f]{40}")


@cache
def code_version(root: Path = ROOT) -> str:
    """The version in pyproject.toml, and the commit where the code is a git checkout: "0.1.0+1a2b3c4d5e6f"."""
    with (root / "pyproject.toml").open("rb") as file:
        version = str(tomllib.load(file)["project"]["version"])
    commit = _commit(root / ".git")
    return f"{version}+{commit[:12]}" if commit else version


def _commit(git: Path) -> str | None:
    """The commit that HEAD names, read without running git; None when there is none or it cannot be told."""
    try:
        head = (git / "HEAD").read_text(encoding="ascii").strip()
        if not head.startswith("ref: "):
            return head if _COMMIT.fullmatch(head) else None
        branch = head.removeprefix("ref: ")
        loose = git / branch
        if loose.is_file():
            commit = loose.read_text(encoding="ascii").strip()
            return commit if _COMMIT.fullmatch(commit) else None
        for line in (git / "packed-refs").read_text(encoding="ascii").splitlines():
            commit, _, name = line.partition(" ")
            if name == branch and _COMMIT.fullmatch(commit):
                return commit
    except (OSError, UnicodeDecodeError):
        return None
    return None
