"""`python -m pipelines graduate`: on a file, and handed over to the server that holds it."""

import json
from pathlib import Path

import pytest
from graduation_world import AGENT, LESSON, NOW, fill, measure, open_world
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gateway.control import routes
from pipelines.__main__ import main
from pipelines.commands.remote import RemoteOperations
from pipelines.lessons.graduate.acts import act
from store import graduation
from store.clock import FixedClock
from store.presence import Presence
from store.settings import Settings


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    clock = FixedClock(NOW)
    opened = open_world(folder / "t.duckdb", clock)
    fill(opened, folder)
    measure(opened, clock, ["better"] * 4)
    opened.close()
    return (folder / "t.duckdb").read_bytes()


@pytest.fixture
def db(tmp_path, filled, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path(tmp_path / "t.duckdb")
    path.write_bytes(filled)
    return path


def test_the_whole_way_on_the_command_line(db, tmp_path, capsys):
    def call(*words):
        code = main(["graduate", words[0], "--db", str(db), *words[1:]])
        return code, capsys.readouterr()

    told = call("eligible")[1].out
    assert f"{LESSON}  {AGENT}  Title of {LESSON} +0.200 (+0.100 to +0.300)  may graduate" in told
    assert told.endswith("(n = 1,000)\n")
    code, told = call("export", AGENT, "--operator", "Ada", "--out", "data")
    assert code == 0
    assert "supervised: 22 examples of 24 candidates." in told.out
    assert "left out: 2 because the user is not learnt from" in told.out
    assert {path.name for path in (tmp_path / "data").iterdir()} >= {"manifest.json", "supervised.train.jsonl"}
    # Written from the store again, the same bytes.
    assert call("write", "1", "again")[0] == 0
    name = "supervised.train.jsonl"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "data" / name).read_bytes()
    assert call("write", "1", "again")[0] == 1
    code, told = call("propose", "1", "--model", "base-1", "--usd-per-million", "25", "--operator", "Ada", "--json")
    assert json.loads(told.out)["state"] == "proposed"
    code, told = call("approve", "1", "--operator", "Bob")
    assert (code, "TRIMTAB_MODEL" in told.err) == (1, True)
    assert "declined" in call("decline", "1", "--reason", "Later.", "--operator", "Bob")[1].out
    assert "running" in call("trial", AGENT, LESSON, "ft:base-1", "--operator", "Ada")[1].out
    code, told = call("confirm", "1", "--operator", "Ada")
    assert (code, "the trial is running" in told.err) == (1, True)
    assert "ended" in call("end", "1", "--operator", "Ada")[1].out
    told = call("status")[1].out
    assert ("Export 1" in told, "Fine-tuning 1" in told, "Trial 1" in told) == (True, True, True)
    assert call("export", "nobody", "--operator", "Ada")[0] == 1


def test_the_store_keeps_what_the_command_made(db, capsys):
    assert main(["graduate", "export", "--db", str(db), AGENT, LESSON, "--high", "0.99", "--operator", "Ada"]) == 0
    assert "0 of the 10 training examples" in capsys.readouterr().out
    opened = open_world(db)
    assert json.loads(graduation.export(opened, 1)["manifest"])["settings"]["high"] == 0.99
    opened.close()


def test_a_server_that_holds_the_file_does_the_same(db, monkeypatch, tmp_path):
    class Held:
        def graduate(self, action, told):
            return act(opened, Settings(), action, told)

    opened = open_world(db)
    headers = {"Authorization": "Bearer token"}
    client = TestClient(
        Starlette(routes=routes(Held(), "token")), base_url="http://127.0.0.1", client=("127.0.0.1", 1),
        headers=headers, raise_server_exceptions=False,
    )  # fmt: skip

    def whole(self, method, path, body, silence=0.0):
        answer = client.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.content

    monkeypatch.setattr(RemoteOperations, "_whole", whole)
    remote = RemoteOperations(Presence.__new__(Presence))
    made = remote.graduate("export", {"agent": AGENT, "lessons": [LESSON], "operator": "Ada"})
    assert made["manifest"]["methods"]["supervised"]["examples"] == 22
    assert len(remote.graduate("write", {"export": 1, "out": str(tmp_path / "there")})["paths"]) >= 3
    assert remote.graduate("status", {})["exports"][0]["export_id"] == 1
    for told in (
        {"action": "magic", "told": {}}, {"action": "export", "told": {}}, {"action": "export", "told": []},
        {"action": "approve", "told": {"tuning": 9, "operator": "Ada"}}, {"action": "write", "told": {"export": 1}},
    ):  # fmt: skip
        answer = client.post("/control/graduate", json=told)
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.json()["error"]
    opened.close()
