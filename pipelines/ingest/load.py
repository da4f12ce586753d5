"""Loading one file: recognise, stage as a whole, then publish slice by slice.

Staging touches nothing that is stored, so a file that turns out to be cut short, corrupt, a bomb or too large for the
disk, and a load that is cancelled, leave the store as it was. Once staged, a batch only goes forward: a kill or a full
disk between slices is continued by the same command, by the next start, or by the inbox, without duplicates.
"""

import errno
import os
import time
from collections.abc import Callable
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import duckdb

from pipelines.ingest import folders, staging
from pipelines.ingest.ahead import read_ahead
from pipelines.ingest.chunks import CHUNK_BYTES
from pipelines.ingest.fidelity import Fidelity
from pipelines.ingest.mapping import Mapping
from pipelines.ingest.normalise import Normaliser
from pipelines.ingest.readers import Opened, open_records
from pipelines.ingest.recipe import Recipe, choose
from pipelines.ingest.repair import shape
from pipelines.ingest.staging import Manifest, SliceWriter, StagedSlice
from store import batches, redaction, sources
from store.connection import Store
from store.errors import DiskFull, FileRejected, IngestCancelled, StoreClosed, StoreError, TrimtabError
from store.redaction import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.privacy.redaction import Redactor

# How often a load that waits for another one asks whether it is still wanted.
_WAIT_SECONDS = 0.1


@dataclass(frozen=True)
class Progress:
    """How far a load is; byte counts are of the file as it lies on disk."""

    phase: Literal["reading", "publishing"]
    bytes_done: int
    bytes_total: int
    received: int
    slices_done: int
    slices_total: int


@dataclass(frozen=True)
class BatchReport:
    """What became of one file: received = accepted + duplicate + rejected, in records of the file."""

    batch_id: int
    file: str
    source: str
    format: str
    state: str
    received: int
    accepted: int
    duplicate: int
    rejected: int
    traces: int
    spans: int
    signals: int
    seconds: float
    fidelity: dict[str, Any]
    error: str | None = None


Report = Callable[[Progress], None]


def load(
    store: Store,
    path: Path,
    *,
    file: str | None = None,
    source: str | None = None,
    mapping: Mapping | None = None,
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    actor: str | None = None,
) -> BatchReport:
    """Load a file into the store; loading it again changes nothing.

    Args: `path` of the file; `file` its name for people (default: the name in `path`); `source` where it comes from
    (default: by format); `mapping` of foreign columns (default: the one saved for the source, else guessed);
    `progress` is called now and then; `cancelled` is asked while another load is waited for and between chunks of
    about `chunk_bytes` of the file, each of which becomes one transaction; `actor` is whom the audit log will name once
    it is published (None: no row). What either of them raises ends the call and
    leaves what is staged, which the same call continues.
    Raises: `FileRejected` when the file cannot be loaded, `IngestCancelled`, `DiskFull`: nothing of it was applied;
    `StoreError` when publishing had to stop: the rest follows with the next load, of whatever file.
    """
    started = time.monotonic()
    name = shown(file or path.name)
    source = shown(source) if source else None
    watch = _Watch(name, progress, cancelled)
    with _turn(store, watch):
        resume_publishing(store)
        opened = None
        batch_id = None
        try:
            batch_id = batches.begin(
                store, source=source or "", file_name=name, bytes_total=_size(path), loaded_by=actor
            )
            if "\0" in str(path):
                raise FileRejected(name, "Its path holds a NUL byte.", "Check the path.")
            opened = open_records(path, file=name)
            recipe = choose(opened, file=name, source=source, mapping=mapping, saved=sources.mapping_texts(store))
            manifest = folders.take_over(store, batch_id, name, recipe, opened)
            batches.describe(
                store, batch_id, source=recipe.source, format=recipe.format.value,
                staging_dir=folders.folder_of(store, batch_id),
                mapping=recipe.mapping.to_json() if recipe.mapping else None,
            )  # fmt: skip
            redactor = _redactor(redaction.of(store, recipe.source))
            _stage(opened, recipe, folders.folder_of(store, batch_id), manifest, watch, chunk_bytes, redactor)
            folders.require_room(store, batch_id, manifest)
            watch.check()
        except Exception as error:
            if error is watch.raised:
                raise
            raise _abandon(store, batch_id, name, error) from error
        finally:
            if opened is not None:
                opened.close()
        batches.publishing(store, batch_id, manifest.fidelity)
        _publish(store, batch_id, name, manifest, watch)
        return report(store, batch_id, seconds=time.monotonic() - started)


def resume_publishing(store: Store) -> list[int]:
    """Carry on with every batch that was staged as a whole; returns the ids of those finished now.

    Call with the store's ingest lock held. A batch that cannot go on for another reason than a full disk ends as
    failed, so that it does not keep others from loading. Raises: `DiskFull`, `StoreClosed`.
    """
    finished = []
    for row in batches.unfinished(store).to_dicts():
        if row["state"] != "publishing":
            continue
        batch_id, name = row["batch_id"], row["file_name"]
        manifest = Manifest.read(folders.folder_of(store, batch_id))
        problem = "its staged files are gone"
        if manifest is not None and manifest.complete:
            try:
                _publish(store, batch_id, name, manifest, _Watch(name))
                finished.append(batch_id)
                continue
            except (DiskFull, StoreClosed):
                raise
            except StoreError as error:
                problem = str(error)
        done, total = row["slices_done"], len(manifest.slices) if manifest else 0
        where = f"after {done} of {total} parts" if total else f"after {done} parts"
        why = f"{name}: publishing stopped {where}: {problem}. Send the file again to load the rest."
        batches.finish(store, batch_id, "failed", why)
        folders.discard(store, batch_id)
    return finished


def shown(name: str) -> str:
    """A file name as it can be stored and printed: bytes that are no text become escapes."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


class _Watch:
    """Whoever waits for a load: is told of its progress, and may stop it between two chunks."""

    def __init__(self, name: str, progress: Report | None = None, cancelled: Callable[[], bool] | None = None) -> None:
        self._name, self._progress, self._cancelled = name, progress, cancelled
        self.raised: Exception | None = None

    def tell(self, value: Progress) -> None:
        """Report progress."""
        if self._progress is not None:
            try:
                self._progress(value)
            except Exception as error:
                self.raised = error
                raise

    def check(self) -> None:
        """Raises: `IngestCancelled` when the load is not wanted any more."""
        if self.let_stop():
            raise IngestCancelled(self._name)

    def let_stop(self) -> bool:
        """Whether the load is not wanted any more; gives a process that ends the chance to raise."""
        if self._cancelled is None:
            return False
        try:
            return self._cancelled()
        except Exception as error:
            self.raised = error
            raise


@contextmanager
def _turn(store: Store, watch: _Watch) -> "Iterator[None]":
    """Hold the ingest lock; a load that is not wanted any more stops waiting for it."""
    while not store.ingest_lock.acquire(timeout=_WAIT_SECONDS):
        watch.check()
    try:
        yield
    finally:
        store.ingest_lock.release()


def report(store: Store, batch_id: int, *, seconds: float) -> BatchReport:
    """The report of a batch as it stands. Raises: `NotFound`."""
    row = batches.one(store, batch_id)
    counts = {
        key: row[key]
        for key in ("received", "accepted", "duplicate", "rejected", "traces", "spans", "signals", "state", "error")
    }
    return BatchReport(
        batch_id=batch_id,
        file=row["file_name"],
        source=row["source"],
        format=row["format"] or "",
        seconds=round(seconds, 3),
        fidelity=Fidelity.parse(row["fidelity"]),
        **counts,
    )


def _redactor(rules: Rules) -> "Redactor | None":
    if not rules:
        return None
    # Imported here: most loads redact nothing.
    from pipelines.privacy.redaction import Redactor

    return Redactor(rules)


def _stage(
    opened: Opened,
    recipe: Recipe,
    folder: Path,
    manifest: Manifest,
    watch: _Watch,
    chunk_bytes: int,
    redactor: "Redactor | None",
) -> None:
    """Read what the manifest does not hold yet, and mark it complete."""
    if manifest.complete:
        return
    received = sum(entry.received for entry in manifest.slices)
    repair = shape(opened.container.value, list(opened.header_row), opened.delimiter)
    fidelity = Fidelity(recipe, manifest.fidelity, repair)
    state = manifest.slices[-1].state if manifest.slices else None
    chunks = read_ahead(opened, state, chunk_bytes=chunk_bytes)
    with closing(chunks), SliceWriter(folder, redactor=redactor) as writer:
        normaliser = Normaliser(recipe, opened, writer, fidelity)
        for chunk, bytes_read in chunks:
            watch.check()
            number = len(manifest.slices) + 1
            kinds, rejects = normaliser.stage(number, chunk)
            if rejects:
                writer.rejects(number, rejects)
            received += chunk.received
            manifest.slices.append(
                StagedSlice(
                    kinds, chunk.received, len(rejects), bytes_read, chunk.table.nbytes,
                    opened.state_after(chunk),
                )
            )  # fmt: skip
            manifest.fidelity = fidelity.as_dict()
            manifest.write(folder)
            watch.tell(Progress("reading", bytes_read, opened.bytes_total, received, 0, number))
    if received == 0:
        raise FileRejected(opened.name, "It holds no records.", "Check that the export is not empty.")
    manifest.complete = True
    manifest.write(folder)


def _publish(store: Store, batch_id: int, name: str, manifest: Manifest, watch: _Watch) -> None:
    """Apply the slices that are not applied yet, then end the batch and remove its staging folder."""
    folder = folders.folder_of(store, batch_id)
    done = batches.one(store, batch_id)["slices_done"]
    received = sum(entry.received for entry in manifest.slices[:done])
    total = len(manifest.slices)
    for number, entry in enumerate(manifest.slices[done:], start=done + 1):
        rejects = staging.slice_file(folder, number, "rejects") if entry.rejected else None
        counts = batches.SliceCounts(entry.received, entry.rejected, entry.bytes_done)
        try:
            batches.apply_slice(store, batch_id, staging.staged_files(folder, number, entry), rejects, counts)
        except DiskFull as error:
            rest = f"{name}: {number - 1} of {total} parts are loaded, the others follow with the next load or start."
            raise DiskFull(error.path, f"{rest} {error.detail}") from error
        received += entry.received
        watch.tell(Progress("publishing", entry.bytes_done, manifest.slices[-1].bytes_done, received, number, total))
        if number < total:
            watch.let_stop()
    batches.finish(store, batch_id, "done")
    folders.discard(store, batch_id)


def _abandon(store: Store, batch_id: int | None, name: str, error: Exception) -> Exception:
    """End a batch of which nothing was applied; returns the error to raise."""
    problem = _explained(store, name, error)
    if batch_id is not None:
        with suppress(TrimtabError):
            folders.discard(store, batch_id)
            state = "cancelled" if isinstance(error, IngestCancelled) else "failed"
            text = str(problem) if isinstance(problem, TrimtabError) else f"{name}: an unexpected error: {problem!r}"
            batches.finish(store, batch_id, state, text)
    return problem


def _explained(store: Store, name: str, error: Exception) -> Exception:
    """An error of the system or of the engine that stages rows, in words; any other as it is."""
    staging_folder = folders.root(store)
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull(staging_folder, f"{name}: {error}")
        return FileRejected(name, f"It cannot be read ({error.strerror or error}).", "Check the file and try again.")
    if isinstance(error, duckdb.Error):
        detail = (str(error).splitlines() or [type(error).__name__])[0][:300]
        if os.strerror(errno.ENOSPC) in str(error):
            return DiskFull(staging_folder, f"{name}: {detail}")
        if isinstance(error, duckdb.OutOfMemoryException):
            return FileRejected(name, f"Its records need more memory than there is ({detail}).", "Split its records.")
        return StoreError(f"{name}: its rows could not be staged: {detail}. Nothing of it was loaded.")
    return error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0
