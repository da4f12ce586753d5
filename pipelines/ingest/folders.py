"""The folders in which batches are staged beside the store: where they are, what is left in them, and room."""

import shutil
from pathlib import Path

from pipelines.ingest import staging
from pipelines.ingest.readers import Opened
from pipelines.ingest.recipe import Recipe
from pipelines.ingest.staging import Manifest
from store import batches
from store.connection import Store
from store.errors import DiskFull

# Rows lie in the log as they are, until it is folded into the file at this size (see `Store.open`), and in the file
# compressed about as well as in their slices.
_LOG_BYTES = 256 << 20
_LOG_FACTOR = 1.3
_FILE_FACTOR = 1.5

_WHY_CONTINUED = "The load stopped; batch {} continues it."
_WHY_LOST = "The load stopped before the file was read as a whole; nothing of it was applied. Load it again."


def root(store: Store) -> Path:
    """The folder of all staging folders of a store."""
    return store.folder("staging")


def folder_of(store: Store, batch_id: int) -> Path:
    """Where a batch is staged: by its number, so that a store that was moved still finds it."""
    return root(store) / f"{batch_id:08d}"


def discard(store: Store, batch_id: int) -> None:
    """Remove what is staged of a batch."""
    staging.discard(folder_of(store, batch_id))


def take_over(store: Store, batch_id: int, name: str, recipe: Recipe, opened: Opened) -> Manifest:
    """What a killed load of the same file has staged already, now in the folder of this batch.

    Everything else that killed loads left is cleared: the ingest lock is held, so whoever staged it is gone.
    """
    folder = folder_of(store, batch_id)
    staging.discard(folder)
    manifest = Manifest(recipe.as_dict())
    for row in reversed(batches.unfinished(store).to_dicts()):
        if row["batch_id"] == batch_id:
            continue
        left = folder_of(store, row["batch_id"])
        earlier = Manifest.read(left)
        if (
            row["file_name"] == name
            and earlier is not None
            and earlier.slices
            and not manifest.slices
            and earlier.recipe == manifest.recipe
            and opened.continues(earlier.slices[-1].state)
        ):
            left.rename(folder)
            manifest = earlier
            batches.finish(store, row["batch_id"], "failed", _WHY_CONTINUED.format(batch_id))
        else:
            batches.finish(store, row["batch_id"], "failed", _WHY_LOST)
    _clear_orphans(store, {folder})
    return manifest


def require_room(store: Store, batch_id: int, manifest: Manifest) -> None:
    """Refuse before publishing when the rows will not fit on the disk. Raises: `DiskFull`."""
    if store.path is None:
        return
    folder = folder_of(store, batch_id)
    staged = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    rows = sum(entry.row_bytes for entry in manifest.slices) * _LOG_FACTOR
    largest = max((entry.row_bytes for entry in manifest.slices), default=0) * _LOG_FACTOR
    needed = int(min(rows, _LOG_BYTES + largest) + staged * _FILE_FACTOR)
    free = shutil.disk_usage(store.path.parent).free
    if free < needed:
        raise DiskFull(store.path, f"loading it needs about {needed:,} bytes and {free:,} are free")


def _clear_orphans(store: Store, kept: set[Path]) -> None:
    """Remove folders that no batch needs: a kill can come between the end of a batch and the removal of its folder."""
    if root(store).is_dir():
        for folder in root(store).iterdir():
            if folder not in kept:
                staging.discard(folder)
