"""The inbox: files put into a folder are loaded, then moved to `done/` or `failed/` beside a report.

The name of a sub-folder is the source of the files in it. Hidden files, `*.part` files and symbolic links are left
alone, and so is a file that changed within the last two seconds: it may still be on its way. A file that changes while
it is loaded stays and is loaded again, which adds what was missing. Nothing is overwritten: a name that is taken gets a
number. A kill between loading and moving is harmless, because loading a file again changes nothing.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.ingest.load import BatchReport, Progress, load
from pipelines.jobs import JobContext, JobInterrupted, JobResult
from store.audit import SCHEDULER
from store.connection import Store
from store.errors import IngestCancelled, IngestError, IngestInterrupted, TrimtabError
from store.settings import Settings

DONE, FAILED = "done", "failed"

_SETTLED = timedelta(seconds=2)


@dataclass(frozen=True)
class _Arrival:
    """A file in the inbox: where it is, its source, and by what a later change is noticed."""

    path: Path
    source: str | None
    state: tuple[int, int]


def has_work(store: Store, settings: Settings) -> bool:
    """Whether a file in the inbox is ready to be loaded."""
    return next(_ready(settings.inbox, store.clock.now()), None) is not None


def run(context: JobContext) -> JobResult:
    """Load every file that is ready, in the order of their names.

    Raises: the error of the store when one stops the work (the file stays and is tried again); an unexpected error of
    a loader after all files were tried (the file is in `failed/`).
    """
    inbox = context.settings.inbox
    arrivals = sorted(_ready(inbox, context.clock.now()), key=lambda arrival: str(arrival.path))
    counts = {DONE: 0, FAILED: 0}
    rows = 0
    defect: Exception | None = None
    for number, arrival in enumerate(arrivals):
        context.progress(number / len(arrivals), arrival.path.name)
        try:
            report = _load(context, arrival, number, len(arrivals))
        except (IngestCancelled, IngestInterrupted) as error:
            raise JobInterrupted from error
        except IngestError as error:
            outcome, content = FAILED, {"file": arrival.path.name, "error": str(error)}
        except (TrimtabError, JobInterrupted):
            raise
        except Exception as error:
            # A defect of a loader must not keep the other files waiting behind this one.
            defect = error
            outcome, content = FAILED, {"file": arrival.path.name, "error": f"unexpected error: {error!r}"}
        else:
            rows += report.traces + report.spans + report.signals
            outcome, content = _judge(report), asdict(report)
        if _state(arrival.path) == arrival.state:
            _put_away(inbox, arrival, outcome, content)
            counts[outcome] += 1
    if defect is not None:
        raise defect
    return JobResult(rows, f"Files loaded: {counts[DONE]}, failed: {counts[FAILED]}.")


def _load(context: JobContext, arrival: _Arrival, number: int, total: int) -> BatchReport:
    def progress(value: Progress) -> None:
        if value.phase == "reading":
            part = value.bytes_done / max(value.bytes_total, 1) / 2
        else:
            part = 0.5 + value.slices_done / max(value.slices_total, 1) / 2
        context.progress((number + part) / total, f"{arrival.path.name}: {value.phase}, {value.received:,} records")

    return load(context.store, arrival.path, source=arrival.source, progress=progress, actor=SCHEDULER)


def _judge(report: BatchReport) -> str:
    """A file of which not one record could be used has failed."""
    unusable = report.received > 0 and report.accepted + report.duplicate == 0
    return FAILED if report.state != "done" or unusable else DONE


def _ready(inbox: Path, now: datetime) -> Iterator[_Arrival]:
    """Files that are whole as far as can be told: nobody has written to them or moved them lately."""
    for path in _files(inbox, inbox):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        # The time of the last change of a file's data or name; nobody can set the second back.
        age = now - datetime.fromtimestamp(max(status.st_mtime, status.st_ctime), UTC)
        # A time in the future says nothing: the clocks of a network drive and of this machine differ.
        if timedelta(0) <= age < _SETTLED:
            continue
        parts = path.relative_to(inbox).parts
        yield _Arrival(path, parts[0] if len(parts) > 1 else None, (status.st_size, status.st_mtime_ns))


def _files(folder: Path, inbox: Path) -> Iterator[Path]:
    """Ordinary files below a folder, without links, hidden and partial files, and those put away."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if folder != inbox or entry.name not in (DONE, FAILED):
                yield from _files(Path(entry.path), inbox)
        elif entry.is_file(follow_symlinks=False) and not entry.name.endswith(".part"):
            yield Path(entry.path)


def _state(path: Path) -> tuple[int, int] | None:
    """By what a change of a file is noticed; None when it is gone."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _put_away(inbox: Path, arrival: _Arrival, outcome: str, content: dict[str, Any]) -> None:
    """Move a file to `done/` or `failed/`, under a name that is free, and write its report beside it."""
    folder = inbox / outcome / arrival.path.parent.relative_to(inbox)
    folder.mkdir(parents=True, exist_ok=True)
    target, report = _reserve(folder, arrival.path.name)
    try:
        arrival.path.replace(target)
    except OSError:
        target.unlink()
        report.unlink()
        raise
    report.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def _reserve(folder: Path, name: str) -> tuple[Path, Path]:
    """Take a name that neither a file nor a report has, by making both empty; returns their paths."""
    number = 0
    while True:
        number += 1
        target = folder / (name if number == 1 else _numbered(name, number))
        report = target.with_name(target.name + ".report.json")
        if target.exists() or report.exists():
            continue
        try:
            target.touch(exist_ok=False)
        except FileExistsError:
            continue
        try:
            report.touch(exist_ok=False)
        except FileExistsError:
            target.unlink()
            continue
        return target, report


def _numbered(name: str, number: int) -> str:
    """`trades-2.jsonl.gz` for `trades.jsonl.gz`: the number goes before the ending that tells the format."""
    path = Path(name)
    packed = path.suffix if path.suffix in (".gz", ".zst") else ""
    inner = Path(name.removesuffix(packed)) if packed else path
    return f"{inner.stem}-{number}{inner.suffix}{packed}"
