"""The loop closes: an agent asks, runs, reports what people thought, and from the next policy on runs the better arm.

Everything goes through the doors that agents and operators use: a real server, its HTTP routes, the client of the docs,
OTLP, signals, and jobs started from the command line.
"""

import http.client
import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server_process import ROOT, ServerProcess

sys.path.insert(0, str(ROOT / "docs" / "client"))
from trimtab_steer import Decision, Trimtab

AGENT = "support-bot"
QUALITY = {"plain": 0.45, "warm": 0.75}
REQUESTS = 1_200
PEOPLE = 120
_BATCH = 100


class Deployment:
    """People with requests, an agent that runs what it is told, and what they think of it."""

    def __init__(self, port: int, key: str, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._client = Trimtab(f"http://127.0.0.1:{port}", key, agent=AGENT, timeout=10.0, fallback_arm="plain")
        self._port, self._key = port, key
        self._number = 0

    def close(self) -> None:
        self._client.close()

    def run(self, requests: int) -> Counter[str]:
        """Serve requests of people in turn; returns how often each arm ran."""
        ran: Counter[str] = Counter()
        for _ in range(requests // _BATCH):
            spans, signals = [], []
            for _ in range(_BATCH):
                self._number += 1
                person = f"person-{self._random.integers(PEOPLE)}"
                decision = self._client.steer(user_id=person, session_id=f"session-{self._number}", task="refund")
                assert decision.source == "server", decision.note
                ran[decision.arm or ""] += 1
                spans.append(self._span(decision, person))
                signals.append(self._thumb(decision))
            self.request("POST", "/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
            self.request("POST", "/v1/signals", signals)
        return ran

    def request(self, method: str, path: str, body: object = None) -> Any:
        """An answer that says 2xx, as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            with connection.getresponse() as response:
                told = response.read()
                assert 200 <= response.status < 300, (path, response.status, told[:500])
                return json.loads(told)
        finally:
            connection.close()

    def _trace_id(self) -> str:
        return f"{self._number:032x}"

    def _span(self, decision: Decision, person: str) -> dict[str, Any]:
        now = time.time_ns()
        stated = {
            "gen_ai.agent.name": AGENT, "user.id": person, "session.id": f"session-{self._number}",
            "input.value": "Where is my refund?", "output.value": "It is on its way.", "steer.task": "refund",
            "steer.decision_id": decision.decision_id, "steer.arm": decision.arm,
        }  # fmt: skip
        return {
            "traceId": self._trace_id(), "spanId": f"{self._number:016x}", "name": "answer", "kind": 1,
            "startTimeUnixNano": str(now - 10**9), "endTimeUnixNano": str(now),
            "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in stated.items()],
        }  # fmt: skip

    def _thumb(self, decision: Decision) -> dict[str, Any]:
        """What this person says. Everybody says something, so nothing is learned from who speaks."""
        up = self._random.random() < QUALITY[decision.arm or ""]
        return {
            "trace_id": self._trace_id(), "kind": "thumb", "value": float(up), "solicited": True, "propensity": 1.0,
        }  # fmt: skip


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_job(name: str, db: Path) -> None:
    """Run a job to its end, after the run that the scheduler may have begun by itself."""
    for _ in range(240):
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", "run", name, "--db", str(db)],
            cwd=ROOT, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        if "is running already" not in done.stderr:
            assert done.returncode == 0, done.stderr
            return
        time.sleep(0.5)
    raise AssertionError(f"{name} did not come to its end")


@pytest.mark.process
@pytest.mark.timeout(600)
def test_the_better_arm_is_found_and_served(tmp_path: Path) -> None:
    db = tmp_path / "trimtab.duckdb"
    scopes = [part for scope in ("steer", "ingest", "admin") for part in ("--scope", scope)]
    made = command(
        "key", "create", "--db", str(db), *scopes, "--name", "bot", "--rate", "5000", "--burst", "9000", "--json"
    )
    with ServerProcess(db, tmp_path / "log") as server, ExitStack() as stack:
        server.start()
        bot = Deployment(server.port, json.loads(made)["key"], seed=5)
        stack.callback(bot.close)
        bot.request(
            "PUT", f"/v1/arms/{AGENT}/plain", {"kind": "prompt", "definition": {"prompt": "1"}, "baseline": True}
        )
        bot.request("PUT", f"/v1/arms/{AGENT}/warm", {"kind": "prompt", "definition": {"prompt": "2"}})
        run_job("policies", db)
        before = bot.request("GET", f"/v1/policies/{AGENT}")
        first = bot.run(REQUESTS)
        assert first["plain"] > first["warm"] > 0, "nothing is known: the baseline, and a little of the other"

        for job in ("link-signals", "rewards", "policies"):
            run_job(job, db)
        after = bot.request("GET", f"/v1/policies/{AGENT}")
        assert after["version"] > before["version"]
        for arm in after["arms"]:
            assert abs(arm["mean"] - QUALITY[arm["arm"]]) < 4 * arm["sd"], "its interval is about the truth"
            assert arm["sd"] < 0.1
        second = bot.run(REQUESTS // 4)
        assert second["warm"] / sum(second.values()) > 0.8

        server.terminate()
        assert server.ended() == 0
    held = json.loads(
        command(
            "sql",
            "--db",
            str(db),
            "--format",
            "json",
            "SELECT count(*) AS n, count(DISTINCT decision_id) AS distinct_ids, "
            "count(*) FILTER (explore) AS explored, avg(rate) AS rate FROM decisions",
        )
    )[0]
    asked = REQUESTS + REQUESTS // 4
    assert held["n"] == held["distinct_ids"] == asked
    assert abs(held["explored"] - asked * held["rate"]) < 4 * (asked * held["rate"]) ** 0.5
