"""The files: the same seed gives the same bytes, the layouts are the documented ones, and nothing is not a number."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.simulate import Deployment, SimulationConfig, run, simulate, write
from store.errors import SettingsError

UPLOADS = ["traces.csv", "spans.jsonl.gz", "signals.csv", "clicks.csv"]
TRUTH = ["truth.json", "truth_traces.parquet", "truth_items.parquet"]

# The documented layouts without `source`, which is given at upload, and `links`, which join traces of other systems.
LAYOUTS = {
    "traces": (
        "trace_id agent agent_version user_id session_id task arm model model_fingerprint decision_id started_at "
        "ended_at status input output input_tokens output_tokens cost_usd metadata"
    ),
    "spans": (
        "trace_id span_id parent_span_id ordinal kind name started_at ended_at status status_message input output "
        "model input_tokens output_tokens cost_usd attributes agent agent_version user_id session_id task arm "
        "model_fingerprint decision_id"
    ),
    "signals": (
        "signal_id trace_id span_id session_id user_id kind name item value text position propensity solicited "
        "annotator_kind annotator_id occurred_at metadata"
    ),
}
REQUIRED = {"traces": ["trace_id"], "signals": ["kind"]}


def names_of(layout: str) -> set[str]:
    return set(LAYOUTS[layout].split())


def spans_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_the_same_seed_gives_the_same_bytes(small: Deployment, written: Path, tmp_path: Path) -> None:
    paths = write(simulate(small.config), tmp_path)
    assert [path.name for path in paths] == UPLOADS + TRUTH
    for path in paths:
        assert path.read_bytes() == (written / path.name).read_bytes(), path.name
    header = (tmp_path / "spans.jsonl.gz").read_bytes()[:10]
    assert header[3:8] == bytes(5)  # neither a name nor the time of writing


def test_another_seed_gives_other_files(small: Deployment, written: Path, tmp_path: Path) -> None:
    values = {**vars(small.config), "seed": small.config.seed + 1}
    for path in write(simulate(SimulationConfig(**values)), tmp_path):
        assert path.read_bytes() != (written / path.name).read_bytes(), path.name


def test_files_are_written_again_in_place(small: Deployment, written: Path) -> None:
    before = {name: (written / name).read_bytes() for name in UPLOADS + TRUTH}
    write(small, written)
    assert {name: (written / name).read_bytes() for name in UPLOADS + TRUTH} == before


def test_a_file_in_the_place_of_the_folder_is_refused(small: Deployment, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("taken")
    with pytest.raises(FileExistsError):
        write(small, tmp_path / "out")


@pytest.mark.parametrize("name", ["traces", "signals"])
def test_csv_files_have_the_columns_of_our_layouts(written: Path, name: str) -> None:
    frame = pl.read_csv(written / f"{name}.csv", infer_schema=False)
    assert set(frame.columns) == names_of(name)
    for column in REQUIRED[name]:
        assert frame[column].null_count() == 0, column


def test_span_lines_have_the_columns_of_our_layout(small: Deployment, written: Path) -> None:
    lines = spans_of(written / "spans.jsonl.gz")
    assert len(lines) == small.spans.height
    for line, row in zip(lines, small.spans.iter_rows(named=True), strict=True):
        assert set(line) <= names_of("spans")
        assert isinstance(line["attributes"], dict | None)
        assert line["attributes"] == (json.loads(row["attributes"]) if row["attributes"] else None)
        assert {name: line[name] for name in ("input", "output", "input_tokens", "cost_usd", "parent_span_id")} == {
            name: row[name] for name in ("input", "output", "input_tokens", "cost_usd", "parent_span_id")
        }


def test_csv_files_read_back_as_they_were_written(small: Deployment, written: Path) -> None:
    for name, frame in (("traces", small.traces), ("signals", small.signals)):
        schema = dict(frame.schema)
        times = [column for column, dtype in schema.items() if dtype == pl.Datetime("us", "UTC")]
        read = pl.read_csv(written / f"{name}.csv", schema_overrides={**schema, **dict.fromkeys(times, pl.String)})
        read = read.with_columns(pl.col(times).str.to_datetime(time_unit="us", time_zone="UTC"))
        assert read.equals(frame), name


def test_the_click_log_is_in_a_layout_of_its_own(small: Deployment, written: Path) -> None:
    clicks = pl.read_csv(written / "clicks.csv")
    assert {"user", "session", "item", "position", "clicked", "ts", "propensity"} <= set(clicks.columns)
    assert not {"user_id", "trace_id", "occurred_at", "kind"} & set(clicks.columns)
    start = small.config.start.timestamp() * 1000
    assert clicks["ts"].min() > start  # type: ignore[operator]
    assert clicks["ts"].max() < small.config.until.timestamp() * 1000  # type: ignore[operator]
    assert set(clicks["clicked"].unique()) == {0, 1}


def test_no_number_is_missing_its_value(small: Deployment, written: Path) -> None:
    frames = (small.traces, small.spans, small.signals, small.clicks, small.truth_traces, small.truth_items)
    for frame in frames:
        floats = frame.select(pl.selectors.float())
        assert floats.select(pl.all().is_finite().fill_null(True).all()).row(0) == (True,) * floats.width
    for name in ("traces.csv", "signals.csv", "clicks.csv"):
        cells = pl.read_csv(written / name, infer_schema=False)
        assert not any(
            cells[column].str.to_lowercase().is_in(["nan", "inf", "none", "null"]).any() for column in cells.columns
        )


def test_the_truth_is_strict_json(small: Deployment, written: Path) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(name)

    truth = json.loads((written / "truth.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert truth == json.loads(json.dumps(small.truth))
    assert truth["period"]["until"] == small.config.until.isoformat()
    assert pl.read_parquet(written / "truth_traces.parquet").equals(small.truth_traces)
    assert pl.read_parquet(written / "truth_items.parquet").equals(small.truth_items)


def test_run_counts_what_it_wrote(tmp_path: Path) -> None:
    counts = run(tmp_path / "new" / "folder", users=30, days=7, seed=1, traces=None)
    out = tmp_path / "new" / "folder"
    assert counts["traces"] == 300
    assert counts == {
        "traces": pl.read_csv(out / "traces.csv").height,
        "spans": len(spans_of(out / "spans.jsonl.gz")),
        "signals": pl.read_csv(out / "signals.csv", infer_schema=False).height,
        "clicks": pl.read_csv(out / "clicks.csv").height,
    }
    with pytest.raises(SettingsError):
        run(tmp_path, users=3, days=None, seed=1, traces=None)


def test_costs_are_what_tokens_cost(small: Deployment) -> None:
    prices = small.truth["measurement"]["cost"]["usd_per_million"]
    for row in small.spans.filter(pl.col("kind") == "llm").iter_rows(named=True):
        price = prices[row["model"]]
        cost = (row["input_tokens"] * price["input"] + row["output_tokens"] * price["output"]) / 1e6
        assert math.isclose(row["cost_usd"], cost, abs_tol=1e-9)
        assert row["input_tokens"] == -(-len(row["input"]) // 4)
