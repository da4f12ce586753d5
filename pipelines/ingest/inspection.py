"""Looking at a file before loading it: what it is, how its columns would be read, what the first rows become."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.ingest.chunks import Reject
from pipelines.ingest.fidelity import Fidelity
from pipelines.ingest.guess import Guess
from pipelines.ingest.mapping import Mapping
from pipelines.ingest.normalise import Normaliser
from pipelines.ingest.readers import open_records
from pipelines.ingest.recipe import Recipe, choose
from pipelines.ingest.staging import SliceWriter, slice_file
from store import sources
from store.connection import Store
from store.errors import FileRejected

# Enough records to judge a mapping by, few enough to answer at once.
PREVIEW_BYTES = 256 << 10
PREVIEW_ROWS = 200

REJECTS = pl.Schema(
    {"record_no": pl.Int64, "line": pl.Int64, "column": pl.String, "reason": pl.String, "raw": pl.String}
)


@dataclass(frozen=True)
class Inspection:
    """What the beginning of a file shows. `previews` holds the rows as they would be stored, by fact table."""

    file: str
    container: str
    recipe: Recipe
    columns: list[str]
    sample: list[dict[str, Any]]
    received: int
    previews: dict[str, pl.DataFrame] = field(default_factory=dict)
    rejects: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REJECTS))
    fidelity: dict[str, Any] = field(default_factory=dict)

    @property
    def mapping(self) -> Mapping | None:
        """The column mapping in force; None for formats that need none."""
        return self.recipe.mapping

    @property
    def guess(self) -> Guess | None:
        """How the mapping was guessed, when it was."""
        return self.recipe.guess


def inspect(
    store: Store,
    path: Path,
    *,
    file: str | None = None,
    source: str | None = None,
    mapping: Mapping | None = None,
) -> Inspection:
    """Read the beginning of a file as loading it would.

    Args: as `pipelines.ingest.load.load`.
    Raises: `FileRejected` when the file cannot be loaded.
    """
    name = file or path.name
    opened = open_records(path, file=name)
    try:
        recipe = choose(opened, file=name, source=source, mapping=mapping, saved=sources.mapping_texts(store))
        fidelity = Fidelity(recipe)
        chunk = next(iter(opened.chunks(chunk_bytes=PREVIEW_BYTES)), None)
        if chunk is None:
            raise FileRejected(name, "It holds no records.", "Check that the export is not empty.")
        with tempfile.TemporaryDirectory() as folder, SliceWriter(Path(folder)) as writer:
            kinds, rejects = Normaliser(recipe, opened, writer, fidelity).stage(1, chunk)
            previews = {
                kind: pl.read_parquet(slice_file(Path(folder), 1, kind), n_rows=PREVIEW_ROWS).drop(
                    "content_hash", "record_no"
                )
                for kind in kinds
            }
        return Inspection(
            file=name,
            container=opened.container.value,
            recipe=recipe,
            columns=list(opened.columns),
            sample=opened.sample[:PREVIEW_ROWS],
            received=chunk.received,
            previews=previews,
            rejects=_frame(rejects[:PREVIEW_ROWS]),
            fidelity=fidelity.as_dict(),
        )
    finally:
        opened.close()


def _frame(rejects: list[Reject]) -> pl.DataFrame:
    rows = [(r.record_no, r.line, r.column, r.reason, r.raw) for r in rejects]
    return pl.DataFrame(rows, schema=REJECTS, orient="row")
