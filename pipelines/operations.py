"""What the command line can ask of a store, done where the store is open: in the command's own process or in the server
that holds the file (the control routes expose the same functions).

Long work is an iterator of events, plain dictionaries that JSON can hold, the last of which tells how it ended:

    ingest   {"event": "progress", "file", "phase", "bytes_done", "bytes_total", "received"}, then for each file
             {"event": "report", ...BatchReport} or {"event": "failed", "file", "error"}
    run      {"event": "progress", "job", "progress", "message"}, then {"event": "ended", ...Outcome}

An event {"event": "waiting"} now and then keeps the line open. Closing the iterator of an ingest cancels the load.
"""

import threading
from collections.abc import Generator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from pipelines.ingest.loads import Loads, LoadStatus
from pipelines.ingest.mapping import Mapping
from pipelines.runner import Claim, Outcome, Runner, due_at
from store import adhoc, api_keys, job_runs
from store.backup import backup
from store.connection import Store

Event = dict[str, Any]

_POLL_SECONDS = 0.2
# Every so many polls without news an event is sent all the same.
_WAITING_POLLS = 5


class Operations(Protocol):
    """What a command can ask for, wherever the store is open."""

    def ingest(self, paths: list[Path], source: str | None, mapping: Mapping | None, operator: str) -> Generator[Event]:
        """Load files one after the other; `operator` is whom the audit log names."""
        ...

    def run(self, job: str) -> Generator[Event]:
        """Run a job now. Raises: `UnknownJob`, `JobAlreadyRunning`."""
        ...

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs in order, each with its schedule and its latest run."""
        ...

    def sql(self, text: str, timeout: float | None) -> pl.DataFrame:
        """Run one reading statement. Raises: `StoreError`."""
        ...

    def backup(self, path: Path, operator: str) -> dict[str, Any]:
        """Copy the store into a new file. Raises: `ActionRefused`, `StoreError`."""
        ...

    def create_key(
        self, scopes: list[str], name: str | None, rate: float | None, burst: int | None, operator: str
    ) -> dict[str, Any]:
        """Make an API key; the answer holds its text as `key`, for this once. Raises: `ActionRefused`."""
        ...

    def keys(self) -> list[dict[str, Any]]:
        """All API keys, newest first, without their secrets."""
        ...

    def revoke_key(self, key_id: str, operator: str) -> dict[str, Any]:
        """Put an API key out of force. Raises: `NotFound`."""
        ...

    def draft_preview(self, agent: str | None, task: str | None) -> dict[str, Any]:
        """What asking the model for lessons would say and cost. Raises: `ActionRefused`, `SettingsError`."""
        ...

    def graduate(self, action: str, told: dict[str, Any]) -> dict[str, Any]:
        """An action of `pipelines.lessons.graduate.acts`. Raises: `ActionRefused`, `NotFound`, `SettingsError`."""
        ...

    def privacy(self, action: str, told: dict[str, Any]) -> dict[str, Any]:
        """An action of `pipelines.privacy.acts`. Raises: `ActionRefused`, `NotFound`, `StoreError`."""
        ...


class LocalOperations:
    """Operations on a store that is open in this process."""

    def __init__(self, store: Store, loads: Loads, runner: Runner, stopping: threading.Event) -> None:
        self._store = store
        self._loads = loads
        self._runner = runner
        self._stopping = stopping

    def ingest(self, paths: list[Path], source: str | None, mapping: Mapping | None, operator: str) -> Generator[Event]:
        """Load files one after the other; a file that fails does not keep the next from loading."""
        for path in paths:
            yield from self._ingest(path, source, mapping, operator)

    def run(self, job: str) -> Generator[Event]:
        """Run a job now, in a thread of its own. Closing the iterator does not stop the run."""
        claim = self._runner.claim(job, "manual")
        news: list[tuple[float, str]] = []
        outcomes: list[Outcome] = []
        ended = threading.Event()

        def work() -> None:
            try:
                outcomes.append(self._runner.execute(claim, lambda *progress: news.append(progress)))
            finally:
                ended.set()

        threading.Thread(target=work, name=f"job-{job}", daemon=True).start()
        return self._follow(claim, news, outcomes, ended)

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs in order, each with its schedule and its latest run."""
        listed = []
        for job in self._runner.registry.values():
            history = job_runs.history(self._store, job.name)
            latest = history.latest
            due = due_at(job, history)
            listed.append(
                {
                    "job": job.name,
                    "description": job.description,
                    "every_seconds": job.every.total_seconds(),
                    "due_at": due.isoformat() if due else None,
                    "status": latest.status if latest else None,
                    "started_at": latest.started_at.isoformat() if latest else None,
                    "seconds": (latest.finished_at - latest.started_at).total_seconds()
                    if latest and latest.finished_at
                    else None,
                    "cause": latest.cause if latest else None,
                    "attempt": latest.attempt if latest else None,
                    "rows": latest.rows if latest else None,
                    "message": latest.message if latest else None,
                    "error": latest.error if latest else None,
                }
            )
        return listed

    def sql(self, text: str, timeout: float | None) -> pl.DataFrame:
        """Run one reading statement. Raises: `StoreError`."""
        return adhoc.query(self._store, text, timeout=timeout)

    def backup(self, path: Path, operator: str) -> dict[str, Any]:
        """Copy the store into a new file. Raises: `ActionRefused`, `StoreError`."""
        made = backup(self._store, path, by=operator)
        return {"path": str(made.path), "bytes": made.bytes, "rows": made.rows}

    def create_key(
        self, scopes: list[str], name: str | None, rate: float | None, burst: int | None, operator: str
    ) -> dict[str, Any]:
        """Make an API key; the answer holds its text as `key`, for this once. Raises: `ActionRefused`."""
        made = api_keys.create(
            self._store, scopes=scopes, name=name, rate_per_second=rate, burst=burst, operator=operator
        )
        return {"key": made.text, **self._key(made.key.key_id)}

    def keys(self) -> list[dict[str, Any]]:
        """All API keys, newest first, without their secrets."""
        return [
            {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
            for row in api_keys.listed(self._store).iter_rows(named=True)
        ]

    def revoke_key(self, key_id: str, operator: str) -> dict[str, Any]:
        """Put an API key out of force. Raises: `NotFound`."""
        return self._key(api_keys.revoke(self._store, key_id, operator=operator).key_id)

    def draft_preview(self, agent: str | None, task: str | None) -> dict[str, Any]:
        """What asking the model for lessons would say and cost. Raises: `ActionRefused`, `SettingsError`."""
        # Imported here: what reads lessons loads libraries that few commands need.
        from pipelines.lessons.drafting.preview import preview

        return asdict(preview(self._store, self._runner.settings, agent, task))

    def graduate(self, action: str, told: dict[str, Any]) -> dict[str, Any]:
        """An action of `pipelines.lessons.graduate.acts`. Raises: `ActionRefused`, `NotFound`, `SettingsError`."""
        from pipelines.lessons.graduate.acts import act

        return act(self._store, self._runner.settings, action, told)

    def privacy(self, action: str, told: dict[str, Any]) -> dict[str, Any]:
        """An action of `pipelines.privacy.acts`. Raises: `ActionRefused`, `NotFound`, `StoreError`."""
        from pipelines.privacy.acts import act

        return act(self._store, self._runner.settings, action, told)

    def _key(self, key_id: str) -> dict[str, Any]:
        return next(key for key in self.keys() if key["key_id"] == key_id)

    def _ingest(self, path: Path, source: str | None, mapping: Mapping | None, operator: str) -> Generator[Event]:
        ended = threading.Event()

        def after(_: LoadStatus) -> None:
            ended.set()

        load_id = self._loads.submit(path, source=source, mapping=mapping, actor=operator, after=after)
        status = self._loads.status(load_id)
        if status is None:
            raise LookupError(load_id)
        told = None
        silent = 0
        try:
            while not ended.wait(_POLL_SECONDS) and not self._stopping.is_set():
                progress, silent = status.progress, silent + 1
                if progress is not None and progress != told:
                    told, silent = progress, 0
                    yield {"event": "progress", "file": status.file, **asdict(progress)}
                elif silent >= _WAITING_POLLS:
                    silent = 0
                    yield {"event": "waiting"}
        except GeneratorExit:
            self._loads.cancel(load_id)
            raise
        if status.report is not None and status.state == "done":
            yield {"event": "report", **asdict(status.report)}
        else:
            stopped = f"{status.file}: Trimtab is stopping; send the file again and it continues."
            yield {"event": "failed", "file": status.file, "error": status.error or stopped}

    def _follow(
        self, claim: Claim, news: list[tuple[float, str]], outcomes: list[Outcome], ended: threading.Event
    ) -> Generator[Event]:
        told, silent = 0, 0
        while not ended.wait(_POLL_SECONDS) and not self._stopping.is_set():
            silent += 1
            if len(news) > told:
                told, silent = len(news), 0
                fraction, message = news[-1]
                yield {"event": "progress", "job": claim.job.name, "progress": fraction, "message": message}
            elif silent >= _WAITING_POLLS:
                silent = 0
                yield {"event": "waiting"}
        why = "Trimtab is stopping; the run is finished or caught up later."
        outcome = outcomes[0] if outcomes else Outcome(claim.run_id, claim.job.name, "interrupted", None, None, why)
        yield {"event": "ended", **asdict(outcome)}
