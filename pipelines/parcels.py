"""Pickles whose large frames travel as files: what two processes hand each other without holding it twice.

A frame inside a pickle is copied by the one side, written to the pipe, read and copied again by the other, and pickling
holds the interpreter's lock. Here a large one is written to a file and mapped into the memory of the process that reads
it: its pages are the system's to drop, and nothing of it stays with the allocator when the frame is let go.

The store itself does not travel: the other side has its own in its place (`store.export.StoreView` in a job's process).
"""

import io
import pickle
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc

from store.connection import Store

__all__ = ["LARGE", "Parcels"]

LARGE = 1 << 18  # bytes of a frame or an array from which on it is a file

_STORE = "the store"


class Parcels:
    """Packs and unpacks on one side. `folder` is where both sides find the files."""

    def __init__(self, folder: Path, store: Store) -> None:
        """`store` is what a store becomes that the other side packed."""
        self._folder = folder
        self._store = store

    def pack(self, content: object) -> bytes:
        """The pickle. Raises: what pickling raises, `OSError` when a file cannot be written."""
        buffer = io.BytesIO()
        _Packer(buffer, self._folder).dump(content)
        return buffer.getvalue()

    def unpack(self, content: bytes) -> Any:
        """What was packed; its files are removed. Raises: what unpickling raises."""
        return _Unpacker(io.BytesIO(content), self._store).load()


class _Packer(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, folder: Path) -> None:
        super().__init__(buffer, protocol=pickle.HIGHEST_PROTOCOL)
        self._folder = folder

    def persistent_id(self, content: Any) -> str | None:
        return _STORE if isinstance(content, Store) else None

    def reducer_override(self, content: Any) -> Any:
        if type(content) is pl.DataFrame and content.estimated_size() >= LARGE and pl.Object not in content.dtypes:
            path = self._new(".arrow")
            content.write_ipc(path, compression="uncompressed")
            return _frame, (path,)
        if type(content) is np.ndarray and content.nbytes >= LARGE and not content.dtype.hasobject:
            path = self._new(".npy")
            np.save(path, content)
            return _array, (path,)
        return NotImplemented

    def _new(self, suffix: str) -> str:
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=suffix, delete=False) as file:
            return file.name


class _Unpacker(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, store: Store) -> None:
        super().__init__(buffer)
        self._store = store

    def persistent_load(self, name: Any) -> Store:
        if name != _STORE:
            raise pickle.UnpicklingError(f"unknown thing {name!r}")
        return self._store


def _frame(path: str) -> pl.DataFrame:
    """The frame in a file, mapped: Polars' own reader would copy it."""
    try:
        frame = cast(pl.DataFrame, pl.from_arrow(pyarrow.ipc.open_file(pa.memory_map(path)).read_all()))
        # Types that only Polars knows.
        return frame if frame.schema == pl.read_ipc_schema(path) else pl.read_ipc(path)
    finally:
        # The mapping outlives the name, so nothing is left behind however this process ends.
        Path(path).unlink()


def _array(path: str) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="c"))
    finally:
        Path(path).unlink()
