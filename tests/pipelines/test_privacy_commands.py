"""The commands forget-user, export-user and audit, on a file and through a server's control routes."""

import csv
import io
import json
import zipfile
from datetime import UTC, datetime

import pytest
from publishing import publisher
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gateway.control import routes
from pipelines.__main__ import main
from pipelines.commands.remote import RemoteOperations
from pipelines.privacy.acts import act
from store import audit, never_explore
from store.clock import FixedClock
from store.connection import Store
from store.presence import Presence
from store.settings import Settings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
USER = "zelda-4711@example.org"


@pytest.fixture
def db(tmp_path):
    path = tmp_path / "data" / "trimtab.duckdb"
    store = Store.open(path, clock=FixedClock(NOW), threads=1)
    publisher(store, tmp_path)(
        traces=[
            {
                "trace_id": "t1",
                "agent": "shop",
                "user_id": USER,
                "started_at": NOW,
                "input": "my violin was left behind",
            },
            {"trace_id": "t2", "agent": "shop", "user_id": "other", "started_at": NOW, "input": "the weather"},
        ]
    )
    never_explore.add(store, "shop", "user", "=HYPERLINK(1)", reason="+asked", by="Ada")
    store.close()
    return path


def _run(db, monkeypatch, *words, inbox=None):
    monkeypatch.setenv("TRIMTAB_INBOX", str(inbox or db.parent / "inbox"))
    return main([*words, "--db", str(db)])


def test_a_preview_changes_nothing_and_a_mistyped_id_deletes_nothing(db, monkeypatch, capsys):
    assert _run(db, monkeypatch, "forget-user", USER, "--preview") == 0
    assert "traces" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("somebody else\n"))
    assert _run(db, monkeypatch, "forget-user", USER) == 1
    assert "was not typed again" in capsys.readouterr().err
    assert _run(db, monkeypatch, "forget-user", USER, "--preview") == 0
    assert _run(db, monkeypatch, "forget-user", "nobody", "--yes") == 1


def test_forgetting_names_the_files_that_still_hold_the_id(db, monkeypatch, capsys, tmp_path):
    inbox = tmp_path / "inbox"
    (inbox / "done").mkdir(parents=True)
    (inbox / "done" / "march.jsonl").write_text(json.dumps({"user": USER}))
    (inbox / "done" / "april.jsonl").write_text("{}")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{USER}\n"))
    assert _run(db, monkeypatch, "forget-user", USER, "--json", inbox=inbox) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["rewritten"]
    assert report["rows"]["traces"] == 1
    assert [name for name in report["files"] if "march" in name]
    assert not [name for name in report["files"] if "april" in name]
    assert USER.encode() not in db.read_bytes()


def test_a_user_s_data_is_a_zip_of_their_rows_alone(db, monkeypatch, tmp_path, capsys):
    target = tmp_path / "zelda.zip"
    assert _run(db, monkeypatch, "export-user", USER, str(target)) == 0
    assert target.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(target) as file:
        traces = [json.loads(line) for line in file.read("traces.jsonl").splitlines()]
        assert "README.txt" in file.namelist()
    assert [(row["trace_id"], row["input"]) for row in traces] == [("t1", "my violin was left behind")]
    assert _run(db, monkeypatch, "export-user", USER, str(target)) == 1
    assert "the file exists" in capsys.readouterr().err


def test_the_log_is_verified_and_exported(db, monkeypatch, capsys):
    assert _run(db, monkeypatch, "audit", "verify", "--json") == 0
    assert json.loads(capsys.readouterr().out)["first_tampered"] is None
    assert _run(db, monkeypatch, "audit", "export") == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["actor"], row["detail"]["unit"]) == ("Ada", "=HYPERLINK(1)")
    assert _run(db, monkeypatch, "audit", "export", "--format", "csv", "--actor", "Ada") == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert json.loads(table[0]["detail"]) == row["detail"]
    assert _run(db, monkeypatch, "audit", "export", "--actor", "Bob") == 0
    assert capsys.readouterr().out == ""
    store = Store.open(db, clock=FixedClock(NOW))
    store.write(lambda connection: connection.execute("UPDATE audit_log SET actor = 'Bob'"))
    assert audit.verify(store) == 1
    store.close()
    assert _run(db, monkeypatch, "audit", "verify") == 1


def test_a_cell_that_begins_as_a_formula_does_is_text():
    from pipelines.commands.audit import _cell

    for text in ("=1+1", "+1", "-1", "@x", "\t=1", "  =1", "＝1"):
        assert _cell(text) == f"'{text}"
    assert _cell("lesson approve") == "lesson approve"
    assert _cell(7) == 7


def test_a_server_that_holds_the_file_does_the_same(db, monkeypatch):
    class Held:
        def privacy(self, action, told):
            return act(opened, Settings(), action, told)

    opened = Store.open(db, clock=FixedClock(NOW), threads=1)
    client = TestClient(
        Starlette(routes=routes(Held(), "token")), base_url="http://127.0.0.1", client=("127.0.0.1", 1),
        headers={"Authorization": "Bearer token"}, raise_server_exceptions=False,
    )  # fmt: skip

    def whole(self, method, path, body, silence=0.0):
        answer = client.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.content

    monkeypatch.setattr(RemoteOperations, "_whole", whole)
    remote = RemoteOperations(Presence.__new__(Presence))
    assert remote.privacy("audit-verify", {})["first_tampered"] is None
    assert remote.privacy("forget-preview", {"user_id": USER})["rows"]["traces"] == 1
    assert remote.privacy("export-user", {"user_id": USER, "operator": "Ada"})["zip"]
    assert remote.privacy("forget", {"user_id": USER, "operator": "Ada"})["rewritten"]
    rows = remote.privacy("audit-rows", {"since": "2026-11-20T00:00:00+00:00"})["rows"]
    assert [row["action"] for row in rows] == ["never explore add", "export user", "audit redact", "forget user"]
    assert USER not in json.dumps(rows)
    for told in (
        {"action": "magic", "told": {}}, {"action": "forget", "told": {}}, {"action": "forget", "told": []},
        {"action": "forget-preview", "told": {"user_id": "nobody"}}, {"action": "audit-rows", "told": {"since": "now"}},
        {"action": "forget", "told": {"user_id": "other", "operator": "trimtab"}},
    ):  # fmt: skip
        answer = client.post("/control/privacy", json=told)
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.json()["error"]
    opened.close()
