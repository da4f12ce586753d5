"""`backup` and `restore` of the command line: what they say and how they exit."""

import json

import duckdb
import pytest

from pipelines.__main__ import main
from store.connection import Store


@pytest.fixture
def db(tmp_path):
    path = tmp_path / "trimtab.duckdb"
    Store.open(path, threads=1).close()
    return path


def test_a_backup_is_verified_checked_and_restored_only_with_force(db, tmp_path, capsys):
    copy = tmp_path / "copy.duckdb"
    assert main(["backup", str(copy), "--verify", "--db", str(db)]) == 0
    assert "restored and read" in capsys.readouterr().out
    with duckdb.connect(str(db)) as present:
        (row,) = present.execute("SELECT actor, action, detail FROM audit_log").fetchall()
    assert row[0].startswith("command line")
    assert row[1] == "backup make"
    assert json.loads(row[2])["file"] == str(copy)
    assert main(["restore", str(copy), "--check", "--db", str(db)]) == 0
    capsys.readouterr()
    assert main(["restore", str(copy), "--db", str(db)]) == 1
    assert "--force" in capsys.readouterr().err
    with duckdb.connect(str(db)) as present:
        present.execute("INSERT INTO forgotten VALUES ('user', 'digest', now(), 'late')")
    assert main(["restore", str(copy), "--force", "--db", str(db)]) == 0
    said = capsys.readouterr()
    assert "before-restore-" in said.out
    assert "1 people again who were forgotten since" in said.err
    assert sorted(path.name for path in tmp_path.iterdir() if "verify" in path.name) == []


def test_a_backup_that_is_not_sound_exits_with_1(db, tmp_path, capsys):
    copy = tmp_path / "copy.duckdb"
    assert main(["backup", str(copy), "--db", str(db)]) == 0
    with duckdb.connect(str(copy)) as damaged:
        damaged.execute("INSERT INTO audit_log VALUES (1, now(), 'a', 'b', 'c', '{}', '', '', NULL)")
    assert main(["restore", str(copy), "--check", "--db", str(db)]) == 1
    assert "audit log does not hold from row 1" in capsys.readouterr().err
