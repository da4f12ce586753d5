"""Live data through servers that are killed with SIGKILL: what was acknowledged is there afterwards, once."""

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from live_traffic import Agent, Ledger, drive
from server_process import ServerProcess, wait_for_end

_AGENTS = 4


def _killed_under_load(server: ServerProcess, agents: list[Agent], ledger: Ledger, moments: random.Random) -> int:
    """One life of a server, up to a moment by chance; returns how many processes it had beside its own."""
    server.start()
    begun = {event: ledger.count(event) for event in ("opened", "sent", "acknowledged")}
    threads = drive(agents, server.port, lambda: False)
    event = moments.choice(["opened", "sent", "acknowledged"])
    ledger.wait_for(event, begun[event] + moments.choice((1, 5, 20, 60)))
    # The moment itself falls anywhere in what follows: decoding, the commit, the answer.
    threading.Event().wait(moments.uniform(0, 0.05))
    beside = server.children()
    server.kill()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    # One that was just being started is found by its environment a moment later; it ends by itself like the others.
    for _ in range(3):
        wait_for_end(server.children())
    assert server.children() == []
    return len(beside)


@pytest.mark.process
@pytest.mark.parametrize(
    ("kills", "checkpointing"), [(20, False), (5, True)], ids=["the server as it is", "while the log is folded"]
)
def test_everything_acknowledged_survives_kills_under_load(
    tmp_path: Path, hold_to_account: Callable[[Path, Ledger], None], kills: int, checkpointing: bool
) -> None:
    db = tmp_path / "live.duckdb"
    ledger = Ledger()
    agents = [Agent(f"agent-{number}", 100 + number, ledger) for number in range(_AGENTS)]
    moments = random.Random(20 if checkpointing else 7)
    with ServerProcess(db, tmp_path / "server.log", checkpointing=checkpointing) as server:
        beside = [_killed_under_load(server, agents, ledger, moments) for _ in range(kills)]
    assert any(beside), "no life was long enough to start its decoder"
    assert ledger.lost >= kills
    assert len(ledger.acknowledged) >= 5 * kills
    hold_to_account(db, ledger)
