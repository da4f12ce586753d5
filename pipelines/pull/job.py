"""The job `pull`: pulls every source that is due, one after the other."""

import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from pipelines.ingest.inspection import inspect
from pipelines.ingest.load import BatchReport, Progress, load
from pipelines.jobs import JobContext, JobInterrupted, JobResult
from pipelines.pull.access import access
from pipelines.pull.check import system_of
from pipelines.pull.client import Client, Limits, Pace
from pipelines.pull.errors import PullError
from pipelines.pull.run import Pulled, failed, pull
from store import pull_sources
from store.connection import Store
from store.errors import FileRejected, IngestCancelled, IngestInterrupted
from store.pull_sources import PullSource, PullState, due_at
from store.settings import Settings


def has_work(store: Store, settings: Settings) -> bool:
    """Whether a source is due."""
    now = store.clock.now()
    return any(_is_due(source, state, now) for source, state in pull_sources.every(store))


def run(context: JobContext) -> JobResult:
    """Pull every source that is due; all that are not paused when none is, since then a person asks for it.

    A source that fails keeps its error and is tried again later; the others go on.
    Raises: the error of the store when it stops the work; `JobInterrupted`.
    """
    return pull_due(context, environ=os.environ, pace=_pace(context))


def pull_due(
    context: JobContext, *, environ: Mapping[str, str], pace: Pace, limits: Callable[[PullSource], Limits] | None = None
) -> JobResult:
    """As `run`, with secrets, time and limits from outside."""
    now = context.clock.now()
    known = [(source, state) for source, state in pull_sources.every(context.store) if not source.paused]
    due = [source for source, state in known if _is_due(source, state, now)]
    chosen = due or [source for source, state in known if not _asked_to_wait(state, now)]
    sentences = []
    rows = 0
    for number, source in enumerate(chosen):

        def tell(text: str, share: float = number / len(chosen)) -> None:
            context.progress(share, text)

        try:
            pulled = _pull_one(context, source, environ, pace, (limits or limits_of)(source), tell)
        except (IngestCancelled, IngestInterrupted) as error:
            raise JobInterrupted from error
        except PullError as error:
            sentences.append(f"{source.name} failed: {error}")
        else:
            rows += pulled.rows
            sentences.append(_sentence(source, pulled))
    nothing = "All sources ask to wait." if known else "No sources are set up to be pulled."
    return JobResult(rows, " ".join(sentences) or nothing)


def limits_of(source: PullSource) -> Limits:
    """What one run of a source may take."""
    return Limits(requests=source.requests_per_run, requests_per_second=source.requests_per_second)


def _pull_one(
    context: JobContext,
    source: PullSource,
    environ: Mapping[str, str],
    pace: Pace,
    limits: Limits,
    tell: Callable[[str], None],
) -> Pulled:
    def load_file(path: Path, file: str, name: str) -> BatchReport:
        def progress(value: Progress) -> None:
            tell(f"{file}: {value.phase}, {value.received:,} records")

        # Columns of unknown records are guessed when a person sends a file; nobody looks at the guess here.
        recipe = inspect(context.store, path, file=file, source=name).recipe
        if recipe.format.system != source.kind:
            raise FileRejected(
                file, f"Its records are none of {source.kind}'s that are known here ({recipe.label}).",
                "The other side may be a newer version; the file can be sent on the Data page once it is known.",
            )  # fmt: skip
        return load(context.store, path, file=file, source=name, progress=progress)

    try:
        opened = Client(source.base_url, access(source, environ), pace, limits)
    except PullError as error:
        failed(context.store, source, error)
        raise
    with opened as client:
        return pull(context.store, source, system_of(source), client, load=load_file, tell=tell)


def _is_due(source: PullSource, state: PullState, now: datetime) -> bool:
    return not source.paused and due_at(source, state) <= now


def _asked_to_wait(state: PullState, now: datetime) -> bool:
    """Whether the other side, and no failure, sets the time of the next run: no person outranks that."""
    return state.error is None and state.not_before is not None and state.not_before > now


def _sentence(source: PullSource, pulled: Pulled) -> str:
    text = f"{source.name}: {_counted(pulled.fetched, 'record')}, {_counted(pulled.rows, 'new row')}"
    if pulled.rejected:
        text += f", {_counted(pulled.rejected, 'record')} rejected (see the batches)"
    return f"{text}; {pulled.note}." if pulled.note else f"{text}."


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _pace(context: JobContext) -> Pace:
    """Real time; a wait ends early when the process does."""

    return Pace(
        lambda seconds: context.wait(seconds, "waiting before the next request"), time.monotonic, context.clock.now,
        context.random,
    )  # fmt: skip
