"""Writing a deployment as the files a customer would upload, in different formats, and its truth beside them."""

import gzip
import json
from pathlib import Path

import polars as pl

from pipelines.simulate.deployment import Deployment

__all__ = ["write"]

_TIME = "%Y-%m-%dT%H:%M:%S%.3fZ"
_ROWS_AT_ONCE = 50_000


def write(deployment: Deployment, out: Path) -> list[Path]:
    """Write traces.csv, spans.jsonl.gz, signals.csv and clicks.csv to upload, and truth.json with its two tables.

    Returns the paths, those to upload first. `out` is made if needed; files of the same names are replaced. The same
    deployment gives the same bytes. Raises NotADirectoryError or FileExistsError when `out` is a file.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / name for name in ("traces.csv", "spans.jsonl.gz", "signals.csv", "clicks.csv")]
    deployment.traces.write_csv(paths[0], datetime_format=_TIME)
    _write_spans(deployment.spans, paths[1])
    deployment.signals.write_csv(paths[2], datetime_format=_TIME)
    deployment.clicks.write_csv(paths[3])

    truth = [out / name for name in ("truth.json", "truth_traces.parquet", "truth_items.parquet")]
    truth[0].write_text(json.dumps(deployment.truth, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    deployment.truth_traces.write_parquet(truth[1])
    deployment.truth_items.write_parquet(truth[2])
    return paths + truth


def _write_spans(spans: pl.DataFrame, path: Path) -> None:
    """One JSON object a line; `attributes` is an object, spliced in as the JSON text that it is."""
    with path.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=3, mtime=0) as file:
        for part in spans.iter_slices(_ROWS_AT_ONCE):
            file.write("".join(_lines(part).to_list()).encode())


def _lines(spans: pl.DataFrame) -> pl.Series:
    scalars = spans.drop("attributes").with_columns(pl.col("started_at", "ended_at").dt.strftime(_TIME))
    lines = scalars.select(pl.struct(pl.all()).struct.json_encode().alias("object")).with_columns(spans["attributes"])
    return lines.select(
        pl.concat_str(
            pl.col("object").str.strip_suffix("}"),
            pl.lit(', "attributes": '),
            pl.col("attributes").fill_null("null"),
            pl.lit("}\n"),
        )
    ).to_series()
