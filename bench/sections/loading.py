"""Sections of the report on loading: the server, live ingest, files and the queries of the pages."""

from pathlib import Path

from bench import bare, ingest, live, operators, pages, peers, server, soak
from bench.live import SPANS
from bench.measure import alone, fresh_folder, ms, quantile
from bench.report import TITLES

# Of each of the two client processes.
_CONNECTIONS = (4, 5, 12)


def server_section(work: Path) -> list[str]:
    """How long the server takes to start, and its memory when idle."""
    figures = server.measure(fresh_folder(work / "server") / "trimtab.duckdb")
    return [
        "",
        f"## {TITLES['server']}",
        "",
        "| what | measured | aim |",
        "|---|---|---|",
        f"| start until the first page answers | {figures.start_seconds:.1f} s | 5 s |",
        f"| resident memory when idle, empty store | {figures.idle_mb:,.0f} MB | 400 MB |",
    ]


def live_section(work: Path, scale: int, environments: Path) -> list[str]:
    """Live ingest, ours and the peers', as fast as it goes."""
    lines = [
        "",
        f"## {TITLES['live']}",
        "",
        "Gzip protobuf requests of 512 spans with about 1 KB of text each, five to a trace, over OTLP HTTP from",
        "clients on the same cores; spans/s count until the last span can be queried. Peers get the same requests",
        "(fewer) with their default stores, from 1, 8 and 24 clients; the fastest is shown, against our fastest.",
        "Aim: 20,000 spans/s on two cores, p99 of acknowledgements under 500 ms, queryable within 1 s,",
        "15 x MLflow and 100 x Phoenix. Bare is an endpoint that decodes, commits and acknowledges and does nothing",
        "else (`bench/bare.py`): what this machine can do at most. The 20,000 were asked of one where it does 24,000.",
        "",
        "| what | spans | spans/s | acknowledged, ms p50 / p99 | 429s | peak MB, all processes | Trimtab is |",
        "|---|---|---|---|---|---|---|",
    ]
    loads = []
    for connections in _CONNECTIONS:
        ours = live.measure(fresh_folder(work / "live"), max(20, 1800 // scale), connections)
        loads.append(ours)
        lines.append(
            f"| Trimtab, clients: {2 * connections} | {ours.spans:,} | {ours.rate:,.0f} | "
            f"{ms(ours.sent.acknowledged)} | {ours.sent.busy} | {ours.peak_family_mb:,.0f} | |"
        )
        print(lines[-1], flush=True)
    fastest = max(loads, key=lambda load: load.rate)
    for load, connections in zip(loads, _CONNECTIONS, strict=True):
        rate, sent = bare.measure(fresh_folder(work / "live"), max(20, 900 // scale), connections)
        lines.append(
            f"| bare, clients: {2 * connections} | {SPANS * max(20, 900 // scale):,} | {rate:,.0f} | "
            f"{ms(sent.acknowledged)} | {sent.busy} | | {load.rate / rate:,.2f} x |"
        )
        print(lines[-1], flush=True)
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
                f"{ms(best.sent.acknowledged)} | {best.sent.busy} | {figures.peak_mb:,.0f} | "
                f"{fastest.rate / best.rate:,.1f} x |"
            )
        print(lines[-1], flush=True)
    return [
        *lines,
        "",
        f"Queryable, of a request a second beside the fastest load: {ms(fastest.since_sent)} ms after it was sent,",
        f"{ms(fastest.since_acknowledged)} ms after it was acknowledged (the query included). The server process",
        f"alone peaked at {fastest.peak_mb:,.0f} MB. A peer may acknowledge before the spans can be queried.",
    ]


def soak_section(work: Path, seconds: float, rate: float) -> list[str]:
    """Live ingest at a pace for `seconds`, at `rate` spans a second, with a visitor on the pages."""
    figures = soak.measure(fresh_folder(work / "soak"), max(seconds, 10.0), rate)
    memory = [figures.tenth(number) for number in (1, 5, 9)]
    least = [figures.least(number) for number in (1, 5, 9)]
    lines = [
        "",
        f"## {TITLES['soak']}",
        "",
        f"{figures.spans:,} spans in {figures.seconds:,.0f} s at a pace of {rate:,.0f} spans/s; a visitor goes round",
        "the pages meanwhile. Acknowledgements count from when a request was due.",
        "Aim: memory flat, pages within 2 x of idle.",
        "",
        "| what | measured |",
        "|---|---|",
        f"| acknowledged, ms p50 / p99 | {ms(figures.sent.acknowledged)} |",
        f"| queryable after that, ms p50 / p99 | {ms(figures.since_acknowledged)} |",
        f"| told to wait (429) | {figures.sent.busy} |",
        f"| MB of the server, second / sixth / last tenth | {' / '.join(f'{each[0]:,.0f}' for each in memory)} |",
        f"| the same of all its processes | {' / '.join(f'{each[1]:,.0f}' for each in memory)} |",
        f"| the least MB of the server in each | {' / '.join(f'{each[0]:,.0f}' for each in least)} |",
        f"| the same of all its processes | {' / '.join(f'{each[1]:,.0f}' for each in least)} |",
        "",
        "Rendering a page, ms p50 / p99. Idle is measured afterwards, on the full store, with the same pause between",
        "two pages: unchanged since the last visit (answers are held), and with one request right before each visit",
        "(nothing is held then; during ingest answers are, for ten seconds). Times idle are of the p50,",
        "first of the one, then of the other.",
        "",
        "| page | idle, unchanged | idle, just changed | during ingest | times idle |",
        "|---|---|---|---|---|",
    ]
    for name in soak.PAGES:
        idle, changed, during = figures.idle[name], figures.changed[name], figures.during[name]
        times = " / ".join(f"{quantile(during, 0.5) / quantile(each, 0.5):.2f}" for each in (idle, changed))
        lines.append(f"| {name or 'overview'} | {ms(idle)} | {ms(changed)} | {ms(during)} | {times} |")
    print("\n".join(lines[8:]), flush=True)
    return lines


def operators_section(work: Path, seconds: float, rate: float) -> list[str]:
    """Four operators beside ingest and jobs."""
    figures = operators.measure(fresh_folder(work / "operators"), seconds, rate, 250_000)
    return _operators(TITLES["operators"], figures, rate)


def large_section(work: Path, scale: int, seconds: float, rate: float) -> list[str]:
    """The same on a store of 2 million traces and 10 million spans."""
    store = pages.filled(work, 10_000_000 // scale)
    figures = operators.measure(fresh_folder(work / "large"), seconds, rate, store=store)
    return _operators(TITLES["large"], figures, rate)


def _operators(title: str, figures: operators.OperatorsFigures, rate: float) -> list[str]:
    times = [each[2] for each in figures.seen]
    begun, ended = figures.minute(last=False), figures.minute(last=True)
    lines = [
        "",
        f"## {title}",
        "",
        f"{operators.OPERATORS} sessions that go round all pages with .5 to 1.5 s on each, {rate:,.0f} spans/s into a",
        f"store that held {figures.held:,} spans, the scheduled jobs beside them; {figures.seconds:,.0f} s after two",
        "minutes to settle. What takes long to read is held for up to a minute while data streams in.",
        "",
        "| what | measured | aim |",
        "|---|---|---|",
        f"| first page from an opened socket, s | {', '.join(f'{each:.2f}' for each in figures.first)} | 2 |",
        f"| pages rendered, ms p50 / p99 | {ms(times)} | 300 |",
        f"| memory of the server in the first and the last minute, MB | {begun:,.0f} / {ended:,.0f} "
        f"({(ended / begun - 1) * 100:+.0f} %) | 20 % |",
        f"| acknowledged, ms p50 / p99 | {ms(figures.sent.acknowledged)} | |",
        f"| lines of the log that tell an error | {len(figures.complaints)} | 0 |",
        "",
        "| page | rendered | ms p50 / p99 | bytes over the web socket, median / largest |",
        "|---|---|---|---|",
    ]
    for name in operators.PAGES:
        own = [each for each in figures.seen if each[0] == name]
        if own:
            sizes = [float(each[3]) for each in own]
            lines.append(
                f"| {name or 'overview'} | {len(own)} | {ms([each[2] for each in own])} | "
                f"{quantile(sizes, 0.5):,.0f} / {max(sizes):,.0f} |"
            )
    lines += [f"- log: `{line[:200]}`" for line in figures.complaints[:10]]
    return lines


def ingest_section(work: Path, scale: int, short: bool) -> list[str]:
    """Files into the store, beside DuckDB alone."""
    lines = [
        "",
        f"## {TITLES['ingest']}",
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


def pages_section(work: Path, scale: int, short: bool) -> list[str]:
    """The queries that the pages make, on stores of growing size."""
    lines = [
        "",
        f"## {TITLES['pages']}",
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
