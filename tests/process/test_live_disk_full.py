"""Live data on a real small disk that fills up: refused with a reason, nothing acknowledged lost, and it goes on."""

import http.client
from collections.abc import Callable
from pathlib import Path

import pytest
from disk_space import fill
from live_traffic import Agent, Ledger, Message, Refusal, drive
from server_process import ServerProcess


def _sent(agent: Agent, port: int, message: Message) -> bool:
    """Whether a request on a connection of its own was acknowledged."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        before = agent.ledger.count("acknowledged")
        agent.send(connection, message)
        return agent.ledger.count("acknowledged") > before
    finally:
        connection.close()


def _until_refused(agent: Agent, port: int) -> None:
    for _ in range(100):
        if not _sent(agent, port, agent.spans(60, text_bytes=3_000)):
            return
    raise AssertionError("a full disk took 100 requests")


def _says_that_the_disk_is_full(refusal: Refusal) -> bool:
    later = refusal.headers.get("retry-after", "")
    return refusal.status in (503, 507) and later.isdigit() and int(later) >= 1 and "is full" in refusal.text


@pytest.mark.process
@pytest.mark.parametrize("checkpointing", [False, True], ids=["in the log", "in the file"])
def test_a_full_disk_refuses_and_goes_on_when_there_is_space(
    small_disk: Path, tmp_path: Path, hold_to_account: Callable[[Path, Ledger], None], checkpointing: bool
) -> None:
    """What fails is the log of a transaction, or folding it into the file, which puts the engine out of use."""
    db = small_disk / "live.duckdb"
    ledger = Ledger()
    agents = [Agent(f"agent-{number}", 200 + number, ledger) for number in range(4)]
    with ServerProcess(db, tmp_path / "server.log", checkpointing=checkpointing) as server:
        server.start()
        for agent in agents:
            assert _sent(agent, server.port, agent.spans(60))
        filler = fill(small_disk, 600_000)
        _until_refused(agents[0], server.port)
        for thread in drive(agents, server.port, lambda: ledger.count("refused") >= 20):
            thread.join(60)
            assert not thread.is_alive()
        assert ledger.losses == []
        assert [each for each in ledger.refused if not _says_that_the_disk_is_full(each)] == []
        assert server.get("/healthz")[0] == 200

        filler.unlink()
        refused = len(ledger.refused)
        for agent in agents:
            again, agent.open = agent.open, []
            for message in again:
                assert _sent(agent, server.port, message)
            assert _sent(agent, server.port, agent.spans(60))
        assert server.get("/readyz")[0] == 200
        assert len(ledger.refused) == refused
        server.terminate()
        assert server.ended() == 0
    hold_to_account(db, ledger)
    assert {id(message) for message in ledger.sent} == {id(message) for message in ledger.acknowledged}


@pytest.mark.process
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_server_that_ends_while_the_disk_is_full_loses_nothing(
    small_disk: Path, tmp_path: Path, hold_to_account: Callable[[Path, Ledger], None], killed: bool
) -> None:
    db = small_disk / "live.duckdb"
    ledger = Ledger()
    agent = Agent("agent", 300, ledger)
    with ServerProcess(db, tmp_path / "server.log") as server:
        server.start()
        for _ in range(10):
            assert _sent(agent, server.port, agent.spans(60))
        filler = fill(small_disk, 400_000)
        _until_refused(agent, server.port)
        if killed:
            server.kill()
        else:
            server.terminate()
            assert server.ended() == 0
        filler.unlink()
        server.start()
        again, agent.open = agent.open, []
        assert all(_sent(agent, server.port, message) for message in again)
        server.terminate()
        assert server.ended() == 0
    hold_to_account(db, ledger)
