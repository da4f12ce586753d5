"""`draft-lessons`: what a dry run shows and costs, that it sends nothing, and the job by its command."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drafting_world import INJECTION, fill, good, settings

from pipelines.__main__ import main
from pipelines.commands.remote import RemoteOperations
from pipelines.lessons.drafting.preview import preview
from store import drafting, llm_calls
from store.connection import Store
from store.presence import Presence
from tests.pipelines.judges.model_server import KEY, ModelServer, model_server

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        running.mind = good
        yield running


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: ModelServer
) -> Run:
    """Runs the command on a store with two groups, a model configured; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("TRIMTAB_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("TRIMTAB_DB", str(tmp_path / "t.duckdb"))
    store = Store.open(tmp_path / "t.duckdb", threads=1)
    fill(store, tmp_path, ("refund", "exchange"))
    store.close()

    def command(*arguments: str, model: bool = True, **more: str) -> tuple[int, str, str]:
        chosen = {
            "MODEL": "fake", "MODEL_BASE_URL": server.url, "MODEL_API": "chat", "MODEL_PRICES": "fake=2/8",
            "MODEL_KEY_ENV": "MODEL_KEY",
        }  # fmt: skip
        with monkeypatch.context() as patch:
            for name, value in {**(chosen if model else {}), **more}.items():
                patch.setenv(f"TRIMTAB_{name}", value)
            patch.setenv("MODEL_KEY", KEY)
            capsys.readouterr()
            try:
                code = main(["draft-lessons", *arguments])
            except SystemExit as stop:
                code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def test_a_dry_run_shows_the_prompt_and_its_cost_and_sends_nothing(run: Run, server: ModelServer) -> None:
    code, out, err = run("--dry-run")
    assert code == 0
    assert INJECTION in out
    assert "--- system\nYou compare recorded runs" in out
    assert "Agent shop, task refund" in err
    assert "Nothing was sent." in err
    assert "which holds 100% of the rollouts' text" in err
    assert server.asked == []
    code, out, err = run("--dry-run", "--task", "exchange", "--json", MODEL_BATCHES="true")
    shown = json.loads(out)
    assert (code, err, shown["task"], shown["batch"], shown["not_now"]) == (0, "", "exchange", True, None)
    assert 0 < shown["likely"]["usd"] < shown["most"]["usd"]


def test_the_job_asks_what_the_dry_run_has_shown_for_no_more_than_it_said(
    run: Run, server: ModelServer, tmp_path: Path
) -> None:
    shown = json.loads(run("--dry-run", "--json")[1])
    code, out, _ = run(DRAFTED_PER_RUN="1")
    assert code == 0
    assert "1 lesson proposed" in out
    (asked,) = server.asked
    assert asked.turns == [(message["role"], message["text"]) for message in shown["messages"]]
    store = Store.open(tmp_path / "t.duckdb", threads=1)
    try:
        assert llm_calls.spent(store).usd <= shown["most"]["usd"]
        assert preview(store, settings(server)).task == "exchange"
        again = preview(store, settings(server), task="refund").not_now
        assert again is not None
        assert "asked about on the same data: proposed" in again
        assert drafting.recent(store).height == 1
    finally:
        store.close()


def test_without_a_model_the_prompt_is_shown_and_no_cost(run: Run) -> None:
    code, _, err = run("--dry-run", model=False)
    assert code == 0
    assert "$" not in err
    assert "No model is configured (TRIMTAB_MODEL)" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dry-run", "--task", "nowhere"), "there is no task with good and bad traces"),
        (("--dry-run", "--agent", "nobody"), "of agent nobody"),
        (("--task", "refund"), "--dry-run"),
    ],
)
def test_what_cannot_be_shown_is_an_error(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = run(*arguments)
    assert code == 1
    assert said in err


def test_a_trace_does_not_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "t.duckdb", threads=1)
    store.write(lambda connection: connection.execute(
        "UPDATE spans SET output = chr(27) || '[2J' || output WHERE span_id = '3-refund'").fetchall())  # fmt: skip
    store.close()
    _, out, _ = run("--dry-run")
    assert "\x1b" not in out
    assert "[2Jrefund made" in out


def test_a_server_that_holds_the_file_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def whole(self: RemoteOperations, *what: object) -> bytes:
        asked.append(what)
        return b'{"task": "t"}'

    monkeypatch.setattr(RemoteOperations, "_whole", whole)
    presence = Presence.__new__(Presence)
    assert RemoteOperations(presence).draft_preview("a", None) == {"task": "t"}
    assert asked == [("POST", "/control/draft-preview", {"agent": "a", "task": None})]
