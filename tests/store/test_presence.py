"""The presence file: private, whole, and believed only while its process lives."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from store.presence import Presence, announce, presence_file, read, withdraw


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "trimtab.duckdb"


def test_what_is_announced_is_read(db: Path) -> None:
    presence = Presence(os.getpid(), "127.0.0.1", 8501, "secret")
    announce(db, presence)
    assert read(db) == presence
    assert [path.name for path in db.parent.iterdir()] == ["trimtab.duckdb.server.json"]


def test_only_the_owner_can_read_it(db: Path) -> None:
    announce(db, Presence(os.getpid(), "127.0.0.1", 8501, "secret"))
    assert stat.S_IMODE(presence_file(db).stat().st_mode) == 0o600


def test_a_new_server_replaces_what_a_dead_one_left(db: Path) -> None:
    announce(db, Presence(os.getpid(), "127.0.0.1", 1, "old"))
    announce(db, Presence(os.getpid(), "127.0.0.1", 2, "new"))
    found = read(db)
    assert found is not None
    assert (found.port, found.token) == (2, "new")


def test_a_dead_process_is_not_present(db: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    announce(db, Presence(ended.pid, "127.0.0.1", 8501, "secret"))
    assert read(db) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "host": "", "port": 1, "token": ""}'])
def test_a_broken_file_is_no_server(db: Path, content: str) -> None:
    presence_file(db).write_text(content)
    assert read(db) is None


def test_withdrawing_leaves_the_file_of_another_server(db: Path) -> None:
    announce(db, Presence(os.getpid(), "127.0.0.1", 8501, "secret"))
    withdraw(db, os.getpid() + 1)
    assert read(db) is not None
    withdraw(db, os.getpid())
    assert not presence_file(db).exists()
    withdraw(db, os.getpid())


def test_a_link_to_the_database_leads_to_the_same_server(db: Path) -> None:
    db.touch()
    link = db.with_name("link.duckdb")
    link.symlink_to(db)
    announce(link, Presence(os.getpid(), "127.0.0.1", 8501, "secret"))
    assert json.loads(presence_file(db).read_text())["port"] == 8501
