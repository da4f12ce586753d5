"""Run the benchmarks and write bench/RESULTS.md.

Run as: python -m bench [--work DIR] [--quick]    (make bench)
"""

import argparse
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import ingest, pages, server
from bench.measure import alone

_HERE = Path(__file__).parent


def main() -> None:
    """Measure everything, then write the report."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks; writes bench/RESULTS.md.")
    parser.add_argument("--work", type=Path, default=_HERE / "work", help="folder for files and stores (about 25 GB)")
    parser.add_argument("--short", action="store_true", help="a fifth of a million spans, without the large sizes")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the size; writes to the work folder only")
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    scale = 100 if arguments.quick else 5 if arguments.short else 1
    target = work / "RESULTS.md" if arguments.quick else _HERE / "RESULTS.md"
    short: bool = arguments.short
    sections = (lambda: _server(work), lambda: _ingest(work, scale, short), lambda: _pages(work, scale, short))
    lines = _head(scale, short)
    for section in sections:
        lines += section()
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"written: {target}")


def _head(scale: int, short: bool) -> list[str]:
    names = ("duckdb", "polars", "pyarrow", "streamlit", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=_HERE, check=False
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        "# Benchmarks",
        "",
        "Written by `make bench`. Read the ratios: the machine is shared and small.",
        "",
        f"- when: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit.stdout.strip() or 'unknown'}",
        f"- machine: {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.machine()}",
        f"- versions: Python {platform.python_version()}, {versions}",
        *(
            ["- SHORT RUN: 200,000 spans; the full sizes (1, 5 and 10 million) were not measured in this run"]
            if short
            else []
        ),
        *(["- QUICK RUN: sizes are a hundredth of the full ones"] if scale == 100 else []),
    ]


def _ingest(work: Path, scale: int, short: bool) -> list[str]:
    lines = [
        "",
        "## Files into the store",
        "",
        "Spans with about 1 KB of text, five to a trace. Bare is DuckDB alone loading the same file into one typed",
        "table on disk; Trimtab recognises, checks every record, stages, removes duplicates, keeps rejects, and rolls",
        "up traces.",
        "Aim: within 3 x of bare.",
        "",
        "| file | spans | bare DuckDB rows/s | Trimtab rows/s | times slower | all again, rows/s | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    cases = [("csv", 1_000_000), ("jsonl", 1_000_000), ("parquet", 1_000_000), ("csv", 5_000_000)]
    for form, count in cases[:3] if short else cases:
        spans = count // scale
        plain, ours = ingest.compare(work, form, spans)
        file = str(ingest.spans_file(work, form, spans))
        again = alone(ingest.trimtab, file, str(work / f"load-{form}-{spans}.duckdb"))
        if again.value["duplicate"] != spans:
            raise RuntimeError(f"loading {form} again: {again.value}")
        lines.append(
            f"| {form} | {spans:,} | {spans / plain.seconds:,.0f} | {spans / ours.seconds:,.0f} | "
            f"{ours.seconds / plain.seconds:.2f} | {spans / again.seconds:,.0f} | {ours.peak_mb:,.0f} |"
        )
        print(lines[-1], flush=True)
        ingest.fresh(work / f"load-{form}-{spans}.duckdb")
        Path(file).unlink()
    return lines


def _pages(work: Path, scale: int, short: bool) -> list[str]:
    lines = [
        "",
        "## Queries of the pages",
        "",
        "Milliseconds, p50 / p95. Aim: p95 under 150 ms, full text under 1 s. Full text stops when its time budget is",
        "spent and says how far it came.",
        "",
    ]
    sizes = [count // scale for count in ((1_000_000,) if short else (1_000_000, 10_000_000))]
    answers = []
    for size in sizes:
        path = pages.filled(work, size)
        answers.append(alone(pages.queries, str(path), 60).value)
        print(size, answers[-1], flush=True)
    lines += ["| query | " + " | ".join(f"{size:,} spans" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for name in answers[0]:
        cells = " | ".join(f"{answer[name][0]:,.0f} / {answer[name][1]:,.0f}" for answer in answers)
        lines.append(f"| {name} | {cells} |")
    return lines


def _server(work: Path) -> list[str]:
    folder = work / "server"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    figures = server.measure(folder / "trimtab.duckdb")
    return [
        "",
        "## The server",
        "",
        "| what | measured | aim |",
        "|---|---|---|",
        f"| start until the first page answers | {figures.start_seconds:.1f} s | 5 s |",
        f"| resident memory when idle, empty store | {figures.idle_mb:,.0f} MB | 400 MB |",
    ]


if __name__ == "__main__":
    main()
