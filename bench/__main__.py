"""Run the benchmarks and write bench/RESULTS.md.

Run as: python -m bench [--work DIR] [--quick] [--only SECTION ...]    (make bench)

With --only, the sections named are measured and replaced in the report that is there; the others stay. The soak runs
only when it is named.
"""

import argparse
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import (
    choose_lessons,
    contrast,
    fits,
    ingest,
    live,
    nightly,
    off_policy,
    pages,
    peers,
    server,
    soak,
    steer,
    stopping,
)
from bench.measure import alone, quantile
from bench.planted_causes import interval

_HERE = Path(__file__).parent
# The sections in the order of the report, with their titles there.
_TITLES = {
    "server": "The server",
    "live": "Live ingest",
    "soak": "Live ingest over minutes",
    "ingest": "Files into the store",
    "pages": "Queries of the pages",
    "fits": "Fits beside their peers",
    "nightly": "The nightly jobs",
    "steer": "Steering",
    "choose-lessons": "Choosing lessons",
    "contrast": "Contrasting rollouts",
    "off-policy": "Off-policy estimates beside obp",
    "stopping": "Stopping rules",
}


def main() -> None:
    """Measure everything, then write the report."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks; writes bench/RESULTS.md.")
    parser.add_argument("--work", type=Path, default=_HERE / "work", help="folder for files and stores (about 25 GB)")
    parser.add_argument("--short", action="store_true", help="a fifth of a million spans, without the large sizes")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the size; writes to the work folder only")
    parser.add_argument("--only", nargs="+", choices=list(_TITLES), metavar="SECTION", help=f"of {', '.join(_TITLES)}")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="environments of the peers (default: WORK/peers)")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the soak (default: 10)")
    parser.add_argument("--rate", type=float, default=5000.0, help="spans/s of the soak (default: 5000)")
    arguments = parser.parse_args()
    work: Path = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    scale = 100 if arguments.quick else 5 if arguments.short else 1
    target = work / "RESULTS.md" if arguments.quick else _HERE / "RESULTS.md"
    short: bool = arguments.short
    environments: Path = (arguments.peers or work / "peers").resolve()
    measures: dict[str, Callable[[], list[str]]] = {
        "server": lambda: _server(work),
        "live": lambda: _live(work, scale, environments),
        "soak": lambda: _soak(work, arguments.minutes * 60 / scale, arguments.rate),
        "ingest": lambda: _ingest(work, scale, short),
        "pages": lambda: _pages(work, scale, short),
        "fits": lambda: _fits(work, scale, environments),
        "nightly": lambda: _nightly(work, scale),
        "steer": lambda: _steer(work, scale),
        "choose-lessons": lambda: _choose_lessons(scale),
        "contrast": lambda: _contrast(work, scale),
        "off-policy": lambda: _off_policy(scale, environments),
        "stopping": lambda: _stopping(scale),
    }
    if arguments.only:
        head, sections = _read(target)
        head = head or _head(scale, short)
    else:
        head, sections = _head(scale, short), {}
    for name in arguments.only or [name for name in measures if name != "soak"]:
        lines = measures[name]()
        if arguments.only:
            lines[2:2] = ["", f"Measured again {_when()}."]
        sections[_TITLES[name]] = lines
        _write(target, head, sections)
    print(f"written: {target}")


def _read(report: Path) -> tuple[list[str], dict[str, list[str]]]:
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


def _write(report: Path, head: list[str], sections: dict[str, list[str]]) -> None:
    order = list(_TITLES.values())
    titles = sorted(sections, key=lambda title: order.index(title) if title in order else len(order))
    lines = head + [line for title in titles for line in sections[title]]
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _when() -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=_HERE, check=False
    )
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit.stdout.strip() or 'unknown'}"


def _head(scale: int, short: bool) -> list[str]:
    names = ("duckdb", "polars", "pyarrow", "streamlit", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        "# Benchmarks",
        "",
        "Written by `make bench`. Read the ratios: the machine is shared and small.",
        "",
        f"- when: {_when()}",
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
        repeated = "not measured"
        if count <= 1_000_000:
            again = alone(ingest.trimtab, file, str(work / f"load-{form}-{spans}.duckdb"))
            if again.value["duplicate"] != spans:
                raise RuntimeError(f"loading {form} again: {again.value}")
            repeated = f"{spans / again.seconds:,.0f}"
        lines.append(
            f"| {form} | {spans:,} | {spans / plain.seconds:,.0f} | {spans / ours.seconds:,.0f} | "
            f"{ours.seconds / plain.seconds:.2f} | {repeated} | {ours.peak_mb:,.0f} |"
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


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _ms(seconds: list[float]) -> str:
    """p50 / p99 in milliseconds."""
    return f"{quantile(seconds, 0.5) * 1000:,.0f} / {quantile(seconds, 0.99) * 1000:,.0f}"


def _live(work: Path, scale: int, environments: Path) -> list[str]:
    lines = [
        "",
        f"## {_TITLES['live']}",
        "",
        "Gzip protobuf requests of 512 spans with about 1 KB of text each, five to a trace, over OTLP HTTP from",
        "clients on the same cores; spans/s count until the last span can be queried. Peers get the same requests",
        "(fewer) with their default stores, from 1, 8 and 24 clients; the fastest is shown, against our fastest.",
        "Aim: 20,000 spans/s on two cores, p99 of acknowledgements under 500 ms, queryable within 1 s,",
        "15 x MLflow and 100 x Phoenix.",
        "",
        "| what | spans | spans/s | acknowledged, ms p50 / p99 | 429s | peak MB, all processes | Trimtab is |",
        "|---|---|---|---|---|---|---|",
    ]
    loads = []
    for connections in (4, 12):
        ours = live.measure(_fresh(work / "live"), max(20, 1800 // scale), connections)
        loads.append(ours)
        lines.append(
            f"| Trimtab, clients: {2 * connections} | {ours.spans:,} | {ours.rate:,.0f} | "
            f"{_ms(ours.sent.acknowledged)} | {ours.sent.busy} | {ours.peak_family_mb:,.0f} | |"
        )
        print(lines[-1], flush=True)
    fastest = max(loads, key=lambda load: load.rate)
    for peer in peers.PEERS:
        title = f"{peer.name} {peer.version}"
        try:
            figures = peers.measure(peer, environments, work / "peer", max(4, 16 // scale))
        except peers.NotInstallable as error:
            lines.append(f"| {title} | | {peer.published} (published; not installable here: {error}) | | | | |")
        else:
            best = figures.best
            lines.append(
                f"| {title}, clients: {best.clients} | {best.spans:,} | {best.rate:,.0f} | "
                f"{_ms(best.sent.acknowledged)} | {best.sent.busy} | {figures.peak_mb:,.0f} | "
                f"{fastest.rate / best.rate:,.1f} x |"
            )
        print(lines[-1], flush=True)
    return [
        *lines,
        "",
        f"Queryable, of a request a second beside the fastest load: {_ms(fastest.since_sent)} ms after it was sent,",
        f"{_ms(fastest.since_acknowledged)} ms after it was acknowledged (the query included). The server process",
        f"alone peaked at {fastest.peak_mb:,.0f} MB. A peer may acknowledge before the spans can be queried.",
    ]


def _soak(work: Path, seconds: float, rate: float) -> list[str]:
    figures = soak.measure(_fresh(work / "soak"), max(seconds, 10.0), rate)
    memory = [figures.tenth(number) for number in (1, 5, 9)]
    lines = [
        "",
        f"## {_TITLES['soak']}",
        "",
        f"{figures.spans:,} spans in {figures.seconds:,.0f} s at a pace of {rate:,.0f} spans/s; a visitor goes round",
        "the pages meanwhile. Acknowledgements count from when a request was due.",
        "Aim: memory flat, pages within 2 x of idle.",
        "",
        "| what | measured |",
        "|---|---|",
        f"| acknowledged, ms p50 / p99 | {_ms(figures.sent.acknowledged)} |",
        f"| queryable after that, ms p50 / p99 | {_ms(figures.since_acknowledged)} |",
        f"| told to wait (429) | {figures.sent.busy} |",
        f"| MB of the server, second / sixth / last tenth | {' / '.join(f'{each[0]:,.0f}' for each in memory)} |",
        f"| the same with its decoder | {' / '.join(f'{each[1]:,.0f}' for each in memory)} |",
        "",
        "Rendering a page, ms p50 / p99. Idle is measured afterwards, on the full store: unchanged since the last",
        "visit (answers are cached), and with one request right before each visit",
        "(nothing is cached, as during ingest).",
        "",
        "| page | idle, unchanged | idle, just changed | during ingest | times idle (p50, just changed) |",
        "|---|---|---|---|---|",
    ]
    for name in soak.PAGES:
        idle, changed, during = figures.idle[name], figures.changed[name], figures.during[name]
        ratio = quantile(during, 0.5) / quantile(changed, 0.5)
        lines.append(f"| {name or 'overview'} | {_ms(idle)} | {_ms(changed)} | {_ms(during)} | {ratio:.2f} |")
    print("\n".join(lines[8:]), flush=True)
    return lines


def _off_policy(scale: int, environments: Path) -> list[str]:
    lines = [
        "",
        f"## {_TITLES['off-policy']}",
        "",
        "IPS, SNIPS, DM, DR, SWITCH and DRos of decisions with ten arms, from the same arrays; obp 0.5.5 in its own",
        "environment. Our intervals hold at every look and come with diagnostics and the tuning of SWITCH and DRos;",
        "obp's are its 100 bootstraps. Aim on a million: 5 times faster for points, 50 times with intervals.",
        "",
        "| decisions | points, s | obp, s | times faster | with intervals, s | obp, s | times faster | apart |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in off_policy.measure(environments, scale):
        cells = [f"{row.decisions:,}", f"{row.points:.3f}"]
        if row.peer_points is None or row.peer_intervals is None:
            cells += ["not installed", "", f"{row.intervals:.3f}", "not installed", "", ""]
        else:
            cells += [f"{row.peer_points:.3f}", f"{row.peer_points / row.points:,.1f}", f"{row.intervals:.3f}"]
            cells += [f"{row.peer_intervals:.1f}", f"{row.peer_intervals / row.intervals:,.0f}", f"{row.apart:.0e}"]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def _stopping(scale: int) -> list[str]:
    lines = [
        "",
        f"## {_TITLES['stopping']}",
        "",
        "Arms with binary rewards, 20,000 pulls drawn evenly or 10,000 drawn by steering (Thompson sampling, floor",
        "of .05). TensorZero's published track-and-stop rule and ours on the same streams, with",
        f"{stopping.EVERY} pulls between looks unless said otherwise. Wrong: a winner that is not the best arm, at any",
        "look; with equal arms any. Where draws follow outcomes, means by arm mix up arm and time: ours weighs each",
        "decision by its logged propensity, which holds in a world that drifts and takes longer in one that does not.",
        "Aim: wrong in at most 5 % of runs, also with a look at every pull.",
        "",
        "| arms | rule | runs | wrong winner | right winner | median pulls to it |",
        "|---|---|---|---|---|---|",
    ]
    for row in stopping.measure(scale):
        pulls = "" if row.decisions is None else f"{row.decisions:,.0f}"
        lines.append(f"| {row.setting} | {row.rule} | {row.runs:,} | {row.wrong:.1%} | {row.right:.1%} | {pulls} |")
        print(lines[-1], flush=True)
    return lines


def _fits(work: Path, scale: int, environments: Path) -> list[str]:
    lines = [
        "",
        f"## {_TITLES['fits']}",
        "",
        "The same data for both; a peer runs in its own environment where it is installed. Apart: the largest",
        "difference between the two answers. Known: how far ours is from the simulated truth.",
        "",
        "| fit | seconds | peer, seconds | times faster | apart | known |",
        "|---|---|---|---|---|---|",
    ]
    for row in fits.measure(work, environments, scale):
        peer = f"{row.peer} {row.peer_seconds:.2f}" if row.peer_seconds is not None else row.peer
        times = f"{row.times:,.1f}" if row.times is not None else ""
        apart = f"{row.apart:.1e}" if row.apart is not None else ""
        lines.append(f"| {row.what} | {row.seconds:.3f} | {peer} | {times} | {apart} | {row.note} |")
        print(lines[-1], flush=True)
    return lines


def _nightly(work: Path, scale: int) -> list[str]:
    traces, users = 1_000_000 // scale, 100_000 // scale
    figures, peak_mb = nightly.measure(_fresh(work / "nightly"), traces, users)
    lines = [
        "",
        f"## {_TITLES['nightly']}",
        "",
        f"{traces:,} traces of {users:,} users with {5 * traces:,} spans and signals of ten kinds, each job once on",
        "a store that no job has seen. Aim: under 5 minutes and 6 GB on two cores.",
        "",
        "| job | seconds | what it said |",
        "|---|---|---|",
        *(f"| {row.job} | {row.seconds:.1f} | {row.message.replace('|', '/')[:160]} |" for row in figures),
        "",
        f"Together {sum(row.seconds for row in figures):,.0f} s, peak {peak_mb:,.0f} MB.",
    ]
    print("\n".join(lines), flush=True)
    return lines


def _steer(work: Path, scale: int) -> list[str]:
    rate, seconds, users = 500.0, max(5.0, 60.0 / scale), 100_000
    figures, cold = steer.measure(
        _fresh(work / "steer"), rate=rate, seconds=seconds, traces=200_000 // scale, users=users
    )
    jobs = ", ".join(f"{name} {taken:.1f} s" for name, taken in figures.jobs) or "none ended"
    pages = [taken for each in figures.pages.values() for taken in each]
    refused = {status: count for status, count in figures.statuses.items() if status != "200"}
    lines = [
        "",
        f"## {_TITLES['steer']}",
        "",
        f"{figures.questions:,} questions to POST /v1/steer, {rate:,.0f} a second for {seconds:,.0f} s, from a process",
        "of its own over 16 connections, while a visitor goes round the pages and the jobs of a night run one",
        f"after the other on {200_000 // scale:,} traces. The policy has four arms and the rates of {users:,} users.",
        "Answers count from when a question was due. Aim: p99 under 10 ms, none lost, all logged; cold start",
        "under 3 s.",
        "",
        "| what | measured |",
        "|---|---|",
        f"| answers, ms p50 / p99 | {_ms(figures.seconds)} |",
        f"| the slowest answer, ms | {1000 * max(figures.seconds):,.1f} |",
        f"| answered / refused | {figures.statuses.get('200', 0):,} / {refused or 0} |",
        f"| logged, of which distinct | {figures.logged:,}, {figures.distinct:,} |",
        f"| cold start: from an open store to the first answer of a new steering process, s | {cold:.2f} |",
        f"| start of the server until it is ready, s | {figures.begun_seconds:.2f} |",
        f"| processor seconds of the server, of its steering process | {figures.cpu_seconds:.1f}, "
        f"{figures.apart_cpu_seconds:.1f} |",
        f"| memory of the steering process, MB | {figures.apart_mb:.0f} |",
        f"| load average of the machine at the end | {figures.load:.1f} |",
        f"| a page meanwhile, ms p50 / p99 | {_ms(pages)} |",
        f"| jobs that ended meanwhile | {jobs} |",
    ]
    print("\n".join(lines), flush=True)
    return lines


def _choose_lessons(scale: int) -> list[str]:
    lines = [
        "",
        f"## {_TITLES['choose-lessons']}",
        "",
        "The lessons of a request out of a library, within 2,000 tokens: scope, condition against the input by TF-IDF,",
        "knapsack, draws and text. Half of the library is for the request's kind of task or for all. A request of",
        "1,200 words is cut to 6,000 characters. Aim with 5,000 lessons: under 2 ms.",
        "",
        "| lessons | words of the request | ms p50 / p99 | of the processor, p50 / p99 | chosen | prepared, s | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for lessons in (500, 5_000):
        figures = choose_lessons.measure(lessons, max(20_000 // scale // 10, 100))
        for words, taken in figures.wall.items():
            lines.append(
                f"| {lessons:,} | {words:,} | {_fine_ms(taken)} | {_fine_ms(figures.processor[words])} | "
                f"{figures.chosen[words]:.1f} | {figures.compile_seconds:.2f} | {figures.memory_mb:.0f} |"
            )
            print(lines[-1], flush=True)
    return lines


def _contrast(work: Path, scale: int) -> list[str]:
    figures = contrast.measure(_fresh(work / "contrast"), scale)
    seeds = range(1, max(20 // scale, 2) + 1)
    found = contrast.causes(work / "causes", seeds)
    planted, missed = sum(one.planted for one in found), sum(len(one.missed) for one in found)
    findings, false = sum(one.findings for one in found), sum(len(one.false) for one in found)
    low, high = interval(planted - missed, planted)
    least, most = interval(false, findings)
    lines = [
        "",
        f"## {_TITLES['contrast']}",
        "",
        f"{figures.traces:,} traces in {figures.groups:,} groups, five spans each: comparing calls that are in memory,",
        "and all that the job does before it writes (reading, comparing, coverage, drafts). Aim: under 60 s on two",
        "cores. Processor seconds are those of all threads together.",
        "",
        "| what | seconds | processor seconds | peak MB |",
        "|---|---|---|---|",
        f"| comparing | {figures.seconds:.1f} | {figures.processor_seconds:.1f} | {figures.peak_mb:,.0f} |",
        f"| with reading and drafting | {figures.whole_seconds:.1f} | {figures.whole_processor_seconds:.1f} | "
        f"{figures.whole_peak_mb:,.0f} |",
        "",
        f"{figures.tested:,} patterns tested, {figures.findings:,} findings.",
        "",
        f"Planted causes of {len(found)} simulated deployments (4,000 traces, rewards fitted from signals), each a",
        "seed; what counts as found and as false is in bench/planted_causes.py. Aim: at least 90 % found, at most 5 %",
        "of findings false.",
        "",
        "| planted | found | 95 % interval | findings | false | 95 % interval |",
        "|---|---|---|---|---|---|",
        f"| {planted:,} | {1 - missed / planted:.1%} | {low:.1%} to {high:.1%} | {findings:,} | "
        f"{false / max(findings, 1):.1%} | {least:.1%} to {most:.1%} |",
    ]
    print("\n".join(lines), flush=True)
    return lines


def _fine_ms(seconds: list[float]) -> str:
    return f"{1000 * quantile(seconds, 0.5):.2f} / {1000 * quantile(seconds, 0.99):.2f}"


if __name__ == "__main__":
    main()
