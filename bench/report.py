"""The report: its sections in their order, its head, and reading and writing it."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
# The sections in the order of the report, with their titles there.
TITLES: Final = {
    "server": "The server",
    "live": "Live ingest",
    "soak": "Live ingest over minutes",
    "operators": "Four operators at once",
    "large": "Four operators at once, on a large store",
    "ingest": "Files into the store",
    "pages": "Queries of the pages",
    "fits": "Fits beside their peers",
    "nightly": "The nightly jobs",
    "steer": "Steering",
    "choose-lessons": "Choosing lessons",
    "contrast": "Contrasting rollouts",
    "off-policy": "Off-policy estimates beside obp",
    "stopping": "Stopping rules",
    "drift": "Change detection beside river",
}


def read(report: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The head of a report, and its sections by title, each from the empty line before its title on."""
    head: list[str] = []
    sections: dict[str, list[str]] = {}
    present = head
    for line in report.read_text(encoding="utf-8").splitlines() if report.exists() else []:
        if line.startswith("## "):
            while present and not present[-1]:
                present.pop()
            present = sections.setdefault(line[3:], [""])
        present.append(line)
    return head, sections


def write(report: Path, head: list[str], sections: dict[str, list[str]]) -> None:
    """Write the head and the sections, these in their order; a section without a place in it comes last."""
    order = list(TITLES.values())
    titles = sorted(sections, key=lambda title: order.index(title) if title in order else len(order))
    lines = head + [line for title in titles for line in sections[title]]
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")


def when() -> str:
    """Now, and the commit that is measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False
    )
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit.stdout.strip() or 'unknown'}"


def head(scale: int, short: bool) -> list[str]:
    """The head of a report: when, on what, with which versions, and how large."""
    names = ("duckdb", "polars", "pyarrow", "streamlit", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        "# Benchmarks",
        "",
        "Written by `make bench`. Read the ratios: the machine is shared and small.",
        "",
        f"- when: {when()}",
        f"- machine: {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.machine()}",
        f"- versions: Python {platform.python_version()}, {versions}",
        *(
            ["- SHORT RUN: 200,000 spans; the full sizes (1, 5 and 10 million) were not measured in this run"]
            if short
            else []
        ),
        *(["- QUICK RUN: sizes are a hundredth of the full ones"] if scale == 100 else []),
    ]
