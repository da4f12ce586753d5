"""Loading one file: recognise, stage as a whole, then publish slice by slice.

Staging touches nothing that is stored, so a file that turns out to be cut short, corrupt, a bomb or too large for the
disk, and a load that is cancelled, leave the store as it was. Once staged, a batch only goes forward: a kill or a full
disk between slices is continued by the same command, by the next start, or by the inbox, without duplicates.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines.ingest import staging
from pipelines.ingest.chunks import CHUNK_BYTES
from pipelines.ingest.fidelity import Fidelity
from pipelines.ingest.mapping import Mapping
from pipelines.ingest.normalise import Normaliser
from pipelines.ingest.readers import Opened, open_records
from pipelines.ingest.recipe import Recipe, choose
from pipelines.ingest.repair import shape
from pipelines.ingest.staging import Manifest, SliceWriter, StagedSlice
from store import batches, sources
from store.connection import Store
from store.errors import DiskFull, FileRejected, IngestCancelled, IngestInterrupted, TrimtabError

# Publishing needs room for the rows, the log and a checkpoint beside the staged copy.
_ROOM_FACTOR = 1.5


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
) -> BatchReport:
    """Load a file into the store; loading it again changes nothing.

    Args: `path` of the file; `file` its name for people (default: the name in `path`); `source` where it comes from
    (default: by format); `mapping` of foreign columns (default: the one saved for the source, else guessed);
    `progress` is called now and then; `cancelled` is asked between chunks of
    about `chunk_bytes` of the file, each of which becomes one transaction.
    Raises: `FileRejected` when the file cannot be loaded, `IngestCancelled`, `DiskFull`: nothing of it was applied;
    `StoreError` when publishing had to stop, which the same call continues.
    """
    started = time.monotonic()
    name = file or path.name
    with store.ingest_lock:
        resume_publishing(store)
        opened = None
        batch_id = None
        try:
            batch_id = batches.begin(store, source=source or "", file_name=name, bytes_total=_size(path))
            opened = open_records(path, file=name)
            recipe = choose(opened, file=name, source=source, mapping=mapping, saved=sources.mapping_texts(store))
            folder, manifest = _take_over(store, batch_id, name, recipe, opened)
            batches.describe(
                store, batch_id, source=recipe.source, format=recipe.format.value, staging_dir=folder,
                mapping=recipe.mapping.to_json() if recipe.mapping else None,
            )  # fmt: skip
            _stage(opened, recipe, folder, manifest, name, progress, cancelled, chunk_bytes)
            _require_room(store, folder)
        except IngestInterrupted:
            raise
        except (TrimtabError, OSError) as error:
            raise _abandon(store, batch_id, name, error) from error
        finally:
            if opened is not None:
                opened.close()
        batches.publishing(store, batch_id, manifest.fidelity)
        _publish(store, batch_id, folder, manifest, progress)
        return report(store, batch_id, seconds=time.monotonic() - started)


def resume_publishing(store: Store, progress: Report | None = None) -> list[int]:
    """Carry on with every batch that was staged as a whole; returns the ids of those finished now."""
    finished = []
    for row in batches.unfinished(store).to_dicts():
        if row["state"] != "publishing":
            continue
        folder = Path(row["staging_dir"])
        manifest = Manifest.read(folder)
        if manifest is None or not manifest.complete:
            problem = f"its staged files in {folder} are gone; send the file again to load the rest"
            batches.finish(store, row["batch_id"], "failed", f"{row['file_name']}: {problem}.")
            continue
        _publish(store, row["batch_id"], folder, manifest, progress)
        finished.append(row["batch_id"])
    return finished


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


def _stage(
    opened: Opened,
    recipe: Recipe,
    folder: Path,
    manifest: Manifest,
    name: str,
    progress: Report | None,
    cancelled: Callable[[], bool] | None,
    chunk_bytes: int,
) -> None:
    """Read what the manifest does not hold yet, and mark it complete."""
    if manifest.complete:
        return
    received = sum(entry.received for entry in manifest.slices)
    repair = shape(opened.container.value, list(opened.columns), opened.delimiter)
    fidelity = Fidelity(recipe, manifest.fidelity, repair)
    with SliceWriter(folder) as writer:
        normaliser = Normaliser(recipe, opened, writer, fidelity)
        state = manifest.slices[-1].state if manifest.slices else None
        for chunk in opened.chunks(state, chunk_bytes=chunk_bytes):
            if cancelled is not None and cancelled():
                raise IngestCancelled(name)
            number = len(manifest.slices) + 1
            kinds, rejects = normaliser.stage(number, chunk)
            if rejects:
                writer.rejects(number, rejects)
            received += chunk.received
            manifest.slices.append(
                StagedSlice(kinds, chunk.received, len(rejects), opened.bytes_read, opened.state_after(chunk))
            )
            manifest.fidelity = fidelity.as_dict()
            manifest.write(folder)
            if progress is not None:
                progress(Progress("reading", opened.bytes_read, opened.bytes_total, received, 0, number))
    if received == 0:
        raise FileRejected(name, "it holds no records.", "Check that the export is not empty.")
    manifest.complete = True
    manifest.write(folder)


def _publish(store: Store, batch_id: int, folder: Path, manifest: Manifest, progress: Report | None) -> None:
    """Apply the slices that are not applied yet, then end the batch and remove its staging folder."""
    done = batches.one(store, batch_id)["slices_done"]
    received = sum(entry.received for entry in manifest.slices[:done])
    total = len(manifest.slices)
    for number, entry in enumerate(manifest.slices[done:], start=done + 1):
        rejects = staging.slice_file(folder, number, "rejects") if entry.rejected else None
        batches.apply_slice(
            store,
            batch_id,
            staging.staged_files(folder, number, entry),
            rejects,
            batches.SliceCounts(entry.received, entry.rejected, entry.bytes_done),
        )
        received += entry.received
        if progress is not None:
            progress(Progress("publishing", entry.bytes_done, manifest.slices[-1].bytes_done, received, number, total))
    batches.finish(store, batch_id, "done")
    staging.discard(folder)


def _take_over(store: Store, batch_id: int, name: str, recipe: Recipe, opened: Opened) -> tuple[Path, Manifest]:
    """The staging folder of this batch, with what a killed load of the same file has staged already."""
    folder = _staging_root(store) / f"{batch_id:08d}"
    manifest = Manifest(recipe.as_dict())
    for row in batches.unfinished(store).to_dicts():
        if row["batch_id"] == batch_id:
            continue
        # The ingest lock is held: whoever staged this batch is gone.
        earlier = Manifest.read(Path(row["staging_dir"])) if row["staging_dir"] else None
        if (
            row["file_name"] == name
            and earlier is not None
            and earlier.recipe == manifest.recipe
            and (not earlier.slices or opened.continues(earlier.slices[-1].state))
            and not folder.exists()
        ):
            Path(row["staging_dir"]).rename(folder)
            manifest = earlier
            why = f"The load stopped; batch {batch_id} continues it."
        else:
            staging.discard(Path(row["staging_dir"])) if row["staging_dir"] else None
            why = "The load stopped before the file was read as a whole; nothing of it was applied. Load it again."
        batches.finish(store, row["batch_id"], "failed", why)
    return folder, manifest


def _abandon(store: Store, batch_id: int | None, name: str, error: Exception) -> Exception:
    """End a batch of which nothing was applied; returns the error to raise."""
    if isinstance(error, OSError):
        full = error.errno == 28
        problem: Exception = (
            DiskFull(Path(name), str(error))
            if full
            else FileRejected(name, f"it cannot be read ({error.strerror or error}).", "Check the file and try again.")
        )
    else:
        problem = error
    if batch_id is not None:
        with suppress(TrimtabError):
            staging.discard(_staging_root(store) / f"{batch_id:08d}")
            state = "cancelled" if isinstance(error, IngestCancelled) else "failed"
            batches.finish(store, batch_id, state, str(problem))
    return problem


def _require_room(store: Store, folder: Path) -> None:
    """Refuse before publishing when the rows will not fit on the disk."""
    if store.path is None:
        return
    staged = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    free = shutil.disk_usage(store.path.parent).free
    if free < staged * _ROOM_FACTOR:
        raise DiskFull(store.path, f"the file needs about {staged * _ROOM_FACTOR:,.0f} bytes and {free:,} are free")


def _staging_root(store: Store) -> Path:
    if store.path is None:
        return Path(tempfile.gettempdir()) / f"trimtab-staging-{id(store):x}"
    return store.path.with_name(store.path.name + ".staging")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
