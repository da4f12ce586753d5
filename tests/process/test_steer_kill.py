"""Steering through servers that are killed with SIGKILL, or stopped, under load: what is there afterwards, once."""

import http.client
import json
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
from server_process import ServerProcess
from steering_policies import policy_of

from store import decisions, policies
from store.connection import Store

_CLIENTS = 4
_SESSIONS = 40


@dataclass
class Answers:
    """What clients were answered: the decision, its session and arm, in the order of answers."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    arrived: threading.Condition = field(init=False)
    received: list[tuple[str, str, str]] = field(default_factory=list)
    other: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.arrived = threading.Condition(self.lock)

    def wait_for(self, count: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.received) >= count, 60)


def ask_until_it_ends(port: int, seed: int, answers: Answers, stop: threading.Event) -> None:
    """Ask on one connection until told to stop, or until the server is gone."""
    chance = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        while not stop.is_set():
            session = f"s-{chance.randrange(_SESSIONS)}"
            body = json.dumps({"agent": "support-bot", "session_id": session, "user_id": f"u-{seed}"})
            connection.request("POST", "/v1/steer", body, {"Content-Type": "application/json"})
            with connection.getresponse() as response:
                told = json.loads(response.read())
            with answers.arrived:
                if response.status == 200:
                    answers.received.append((told["decision_id"], session, told["arm"]))
                    answers.arrived.notify_all()
                else:
                    answers.other.append(response.status)
    except (OSError, http.client.HTTPException, ValueError):
        return  # it is gone, perhaps in the middle of an answer
    finally:
        connection.close()


def under_load(server: ServerProcess, answers: Answers, seed: int, stop: threading.Event) -> list[threading.Thread]:
    threads = [
        threading.Thread(target=ask_until_it_ends, args=(server.port, 100 * seed + number, answers, stop), daemon=True)
        for number in range(_CLIENTS)
    ]
    for thread in threads:
        thread.start()
    return threads


def prepared(db: Path) -> None:
    store = Store.open(db, threads=1)
    policies.publish(store, policy_of(), cause="operator")
    store.close()


def held_by(db: Path) -> tuple[list[str], dict[str, set[str]]]:
    """The decisions in the store, and the arms of each session."""
    store = Store.open(db, threads=1)
    try:
        frame = decisions.recent(store, limit=1_000_000)
    finally:
        store.close()
    arms: dict[str, set[str]] = {}
    for session, arm in frame.select("session_id", "arm").rows():
        arms.setdefault(session, set()).add(arm)
    return frame["decision_id"].to_list(), arms


def in_no_file_yet(server: ServerProcess) -> int:
    """How many decisions a kill would lose at this moment."""
    lines = server.get("/metrics")[2].decode().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("trimtab_steer_log_fresh "))))


def ids_in_files(db: Path) -> set[str]:
    found = set()
    for path in db.with_name(f"{db.name}.decisions").glob("*.arrow"):
        found |= set(pl.read_ipc(path)["decision_id"])
    return found


@pytest.mark.process
def test_what_was_in_a_file_when_the_server_was_killed_is_stored_once(tmp_path: Path) -> None:
    db = tmp_path / "steer.duckdb"
    prepared(db)
    answers = Answers()
    safe: set[str] = set()
    moments = random.Random(3)
    left_in_files = 0
    with ServerProcess(db, tmp_path / "server.log") as server:
        for life in range(2):
            server.start()
            stop = threading.Event()
            first = under_load(server, answers, 2 * life, stop)
            answers.wait_for(len(answers.received) + 100)
            stop.set()
            for thread in first:
                thread.join(60)
            while in_no_file_yet(server):
                threading.Event().wait(0.02)
            safe |= {each[0] for each in answers.received[-100:]}
            threads = under_load(server, answers, 2 * life + 1, threading.Event())
            answers.wait_for(len(answers.received) + 100)
            threading.Event().wait(moments.uniform(0.1, 0.7))
            server.kill()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()
            left = ids_in_files(db)
            left_in_files += len(left)
            safe |= left
        server.start()
        server.terminate()
        assert server.ended() == 0
    assert left_in_files > 0, "no kill fell between a file and its transaction"
    stored, arms = held_by(db)
    assert len(stored) == len(set(stored))
    assert len(safe) > 200
    assert safe <= set(stored)
    # Sessions go on with their arm over the kills.
    assert all(len(each) == 1 for each in arms.values())
    assert all({each[2]} == arms[each[1]] for each in answers.received if each[1] in arms)
    assert answers.other == []
    assert list(db.with_name(f"{db.name}.decisions").glob("*.arrow")) == []


@pytest.mark.process
def test_a_server_that_is_stopped_stores_everything_it_answered(tmp_path: Path) -> None:
    db = tmp_path / "steer.duckdb"
    prepared(db)
    answers = Answers()
    with ServerProcess(db, tmp_path / "server.log") as server:
        server.start()
        threads = under_load(server, answers, 1, threading.Event())
        answers.wait_for(500)
        server.terminate()
        assert server.ended() == 0
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    stored, _ = held_by(db)
    assert len(stored) == len(set(stored))
    assert {each[0] for each in answers.received} <= set(stored)
    assert set(answers.other) <= {503}
