"""A server that is told to stop while agents send: each request is stored and acknowledged, or not acknowledged."""

import http.client
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from live_traffic import Agent, Ledger, drive
from server_process import ServerProcess, wait_for_end


@pytest.mark.process
def test_a_stop_under_load_answers_what_is_in_flight(
    tmp_path: Path, hold_to_account: Callable[[Path, Ledger], None]
) -> None:
    db = tmp_path / "live.duckdb"
    ledger = Ledger()
    agents = [Agent(f"agent-{number}", 400 + number, ledger) for number in range(6)]
    with ServerProcess(db, tmp_path / "server.log") as server:
        for _ in range(3):
            server.start()
            acknowledged, refused, lost = ledger.count("acknowledged"), len(ledger.refused), ledger.lost
            threads = drive(agents, server.port, lambda: False)
            ledger.wait_for("acknowledged", acknowledged + 20)
            # The next request is on its way when the signal comes.
            ledger.wait_for("sent", ledger.count("sent") + 1)
            in_flight = ledger.count("sent") - sum(ledger.count(each) for each in ("acknowledged", "refused", "lost"))
            beside = server.children()
            server.terminate()
            before = ledger.count("acknowledged")
            assert server.ended() == 0
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()
            assert all(
                each.status == 503 and int(each.headers["retry-after"]) >= 1 for each in ledger.refused[refused:]
            )
            # Connections are closed after the answer that is under way, which loses a request that follows it.
            assert ledger.lost - lost <= len(agents)
            assert in_flight == 0 or ledger.count("acknowledged") > before
            wait_for_end(beside)
            assert server.children() == []
    events = {each: ledger.count(each) for each in ("opened", "acknowledged", "refused", "lost")}
    assert events["opened"] == events["acknowledged"] + events["refused"] + events["lost"]
    hold_to_account(db, ledger)


@pytest.mark.process
def test_requests_that_the_server_has_are_stored_and_answered_before_it_stops(
    tmp_path: Path, hold_to_account: Callable[[Path, Ledger], None]
) -> None:
    """So large that their decoder is not done, or not even started, when the signal comes."""
    db = tmp_path / "live.duckdb"
    ledger = Ledger()
    agents = [Agent(f"agent-{number}", 600 + number, ledger) for number in range(3)]
    with ServerProcess(db, tmp_path / "server.log") as server:
        server.start()
        connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in agents]
        messages = [agent.spans(3_000) for agent in agents]
        threads = [
            threading.Thread(target=agent.send, args=sent)
            for agent, *sent in zip(agents, connections, messages, strict=True)
        ]
        for thread in threads:
            thread.start()
        while b"trimtab_ingest_pending_requests 3.0" not in server.get("/metrics")[2]:
            assert ledger.count("acknowledged") == ledger.count("lost") == 0
        server.terminate()
        assert server.ended() == 0
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert (len(ledger.acknowledged), ledger.losses, ledger.refused) == (3, [], [])
    for connection in connections:
        connection.close()
    hold_to_account(db, ledger)


@pytest.mark.process
def test_a_client_that_never_ends_its_request_does_not_hold_up_the_stop(
    tmp_path: Path, hold_to_account: Callable[[Path, Ledger], None]
) -> None:
    db = tmp_path / "live.duckdb"
    ledger = Ledger()
    agent = Agent("agent", 500, ledger)
    stalled, other = (http.client.HTTPConnection("127.0.0.1", timeout=60) for _ in range(2))
    with ServerProcess(db, tmp_path / "server.log", grace_seconds=1.0) as server:
        server.start()
        stalled.port = other.port = server.port
        message = agent.spans(3)
        stalled.putrequest("POST", message.path)
        for name, value in (*message.headers.items(), ("Content-Length", str(len(message.body)))):
            stalled.putheader(name, value)
        stalled.endheaders(message.body[:20])
        # The server reads its connections in turn, so this answer says that it has read the first half too.
        assert agent.send(other, agent.spans(3))
        server.terminate()
        assert server.ended(30) == 0
    stalled.close()
    other.close()
    hold_to_account(db, ledger)
