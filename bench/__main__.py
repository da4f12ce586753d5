"""Run the benchmarks and write bench/RESULTS.md.

Run as: python -m bench [--work DIR] [--quick] [--only SECTION ...]    (make bench)

With --only, the sections named are measured and replaced in the report that is there; the others stay. The soak and the
operators, also those on a large store, run only when they are named.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from bench import report
from bench.report import HERE, TITLES
from bench.sections import drift, learning, loading, steering


def main() -> None:
    """Measure everything, then write the report."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks; writes bench/RESULTS.md.")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="folder for files and stores (about 25 GB)")
    parser.add_argument("--short", action="store_true", help="a fifth of a million spans, without the large sizes")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the size; writes to the work folder only")
    parser.add_argument("--only", nargs="+", choices=list(TITLES), metavar="SECTION", help=f"of {', '.join(TITLES)}")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="environments of the peers (default: WORK/peers)")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the soak (default: 10)")
    parser.add_argument("--rate", type=float, default=5000.0, help="spans/s of the soak (default: 5000)")
    arguments = parser.parse_args()
    work: Path = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    scale = 100 if arguments.quick else 5 if arguments.short else 1
    target = work / "RESULTS.md" if arguments.quick else HERE / "RESULTS.md"
    short: bool = arguments.short
    environments: Path = (arguments.peers or work / "peers").resolve()
    measures: dict[str, Callable[[], list[str]]] = {
        "server": lambda: loading.server_section(work),
        "live": lambda: loading.live_section(work, scale, environments),
        "soak": lambda: loading.soak_section(work, arguments.minutes * 60 / scale, arguments.rate),
        "operators": lambda: loading.operators_section(work, arguments.minutes * 60 / scale, arguments.rate / 5),
        "large": lambda: loading.large_section(work, scale, arguments.minutes * 18 / scale, arguments.rate / 5),
        "ingest": lambda: loading.ingest_section(work, scale, short),
        "pages": lambda: loading.pages_section(work, scale, short),
        "fits": lambda: learning.fits_section(work, scale, environments),
        "nightly": lambda: learning.nightly_section(work, scale),
        "steer": lambda: steering.steer_section(work, scale),
        "choose-lessons": lambda: steering.choose_lessons_section(scale),
        "contrast": lambda: learning.contrast_section(work, scale),
        "off-policy": lambda: learning.off_policy_section(scale, environments),
        "stopping": lambda: learning.stopping_section(scale),
        "drift": lambda: drift.drift_section(scale, environments),
    }
    if arguments.only:
        head, sections = report.read(target)
        head = head or report.head(scale, short)
    else:
        head, sections = report.head(scale, short), {}
    for name in arguments.only or [name for name in measures if name not in ("soak", "operators", "large")]:
        lines = measures[name]()
        if arguments.only:
            lines[2:2] = ["", f"Measured again {report.when()}."]
        sections[TITLES[name]] = lines
        report.write(target, head, sections)
    print(f"written: {target}")


if __name__ == "__main__":
    main()
