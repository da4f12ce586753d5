"""`key create`, `key list`, `key revoke` on a store that no server holds: output, exit codes, errors."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.__main__ import main
from pipelines.commands import access
from store import api_keys, audit
from store.connection import Store

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the store t.duckdb of an empty folder; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("TRIMTAB_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("TRIMTAB_DB", str(tmp_path / "t.duckdb"))

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(["key", *arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[], Store]:
    return lambda: Store.open(tmp_path / "t.duckdb", threads=1)


def test_create_prints_the_key_alone_and_explains_on_standard_error(run: Run, opened: Callable[[], Store]) -> None:
    code, out, err = run("create", "--scope", "ingest", "--scope", "steer", "--name", "shop", "--rate", "5")
    parts = api_keys.split(out.removesuffix("\n"))
    assert code == 0
    assert parts is not None
    assert f"Key {parts[0]} (shop) may ingest, steer at 5 requests/s (10 at once)" in err
    assert parts[1] not in err
    store = opened()
    try:
        (row,) = api_keys.listed(store).to_dicts()
        assert (row["key_id"], row["scopes"], row["burst"]) == (parts[0], ["ingest", "steer"], 10)
        assert row["created_by"].startswith("command line")
        assert audit.recent(store)["actor"].to_list() == [row["created_by"]]
    finally:
        store.close()


def test_create_json_prints_one_object(run: Run) -> None:
    code, out, err = run("create", "--scope", "admin", "--burst", "3", "--json")
    made = json.loads(out)
    assert (code, err) == (0, "")
    assert made["key"].startswith(f"tt_{made['key_id']}_")
    assert (made["scopes"], made["burst"], made["name"]) == (["admin"], 3, "admin")
    assert "secret_hash" not in made


def test_list_shows_every_key_and_no_secret(run: Run) -> None:
    assert run("create", "--scope", "ingest", "--name", "shop")[0] == 0
    _, text, _ = run("create", "--scope", "steer")
    key_id = text[3:15]
    code, out, err = run("revoke", key_id)
    assert (code, err) == (0, "")
    assert f"Key {key_id} (steer) is out of force since 20" in out
    code, out, err = run("list")
    assert (code, err, len(out.splitlines())) == (0, "", 2)
    assert "in force, never used. shop: may ingest at 200 requests/s (400 at once)." in out
    assert f"{key_id}  revoked 20" in out
    code, listed, _ = run("list", "--json")
    rows = json.loads(listed)
    assert code == 0
    assert [row["name"] for row in rows] == ["steer", "shop"]
    assert [row["revoked_at"] is None for row in rows] == [False, True]
    assert all("secret_hash" not in row and "key" not in row for row in rows)
    assert text[16:].strip() not in out + listed


def test_an_empty_list_says_how_to_make_one(run: Run, opened: Callable[[], Store]) -> None:
    opened().close()
    code, out, _ = run("list")
    assert code == 0
    assert "key create --scope ingest" in out
    assert run("list", "--json")[:2] == (0, "[]\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["forge"],
        ["create"],
        ["create", "--scope", "root"],
        ["create", "--scope", "ingest", "--rate", "0"],
        ["create", "--scope", "ingest", "--rate", "-5"],
        ["create", "--scope", "ingest", "--rate", "nan"],
        ["create", "--scope", "ingest", "--rate", "fast"],
        ["create", "--scope", "ingest", "--burst", "0"],
        ["create", "--scope", "ingest", "--burst", "1.5"],
        ["revoke"],
    ],
)
def test_wrong_usage_exits_2_and_makes_no_store(run: Run, arguments: list[str], tmp_path: Path) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "usage:" in err
    assert "_rate" not in err
    assert not (tmp_path / "t.duckdb").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "--scope", "ingest", "--name", ""],
        ["create", "--scope", "ingest", "--name", "a\x1b[2J"],
        ["create", "--scope", "ingest", "--rate", "1e9"],
        ["revoke", "0" * 12],
        ["revoke", "nonsense"],
    ],
)
def test_what_is_refused_exits_1_with_one_line(run: Run, arguments: list[str], opened: Callable[[], Store]) -> None:
    opened().close()
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert json.loads(run("list", "--json")[1]) == []


@pytest.mark.parametrize("arguments", [["list"], ["revoke", "0" * 12]])
def test_listing_and_revoking_make_no_store(run: Run, arguments: list[str], tmp_path: Path) -> None:
    code, _, err = run(*arguments)
    assert code == 1
    assert "no such file" in err
    assert not (tmp_path / "t.duckdb").exists()


def test_a_user_without_a_name_can_make_a_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(access.getpass, "getuser", nameless)
    code, out, _ = run("create", "--scope", "ingest", "--json")
    assert (code, json.loads(out)["created_by"]) == (0, "command line")
