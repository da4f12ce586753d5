"""Sections of the report on steering: answers under load, and choosing lessons."""

from pathlib import Path

from bench import choose_lessons, steer
from bench.measure import fresh_folder, ms
from bench.report import TITLES


def steer_section(work: Path, scale: int) -> list[str]:
    """Answers of POST /v1/steer under load, with pages and jobs beside it."""
    rate, seconds, users = 500.0, max(5.0, 60.0 / scale), 100_000
    figures, cold = steer.measure(
        fresh_folder(work / "steer"), rate=rate, seconds=seconds, traces=200_000 // scale, users=users
    )
    jobs = ", ".join(f"{name} {taken:.1f} s" for name, taken in figures.jobs) or "none ended"
    pages = [taken for each in figures.pages.values() for taken in each]
    refused = {status: count for status, count in figures.statuses.items() if status != "200"}
    lines = [
        "",
        f"## {TITLES['steer']}",
        "",
        f"{figures.questions:,} questions to POST /v1/steer, {rate:,.0f} a second for {seconds:,.0f} s, from a process",
        "of its own over 16 connections, while a visitor goes round the pages and the jobs of a night run one",
        f"after the other on {200_000 // scale:,} traces. The policy has four arms and the rates of {users:,} users.",
        "Answers count from when a question was due. The process that asks goes before all others, as if on a",
        "machine of its own; the steering process before pages, ingest and jobs where that is granted (as root).",
        "Aim: p99 under 10 ms, none lost, all logged; cold start under 3 s.",
        "",
        "| what | measured |",
        "|---|---|",
        f"| answers, ms p50 / p99 | {ms(figures.seconds)} |",
        f"| the slowest answer, ms | {1000 * max(figures.seconds):,.1f} |",
        f"| answered / refused | {figures.statuses.get('200', 0):,} / {refused or 0} |",
        f"| logged, of which distinct | {figures.logged:,}, {figures.distinct:,} |",
        f"| cold start: from an open store to the first answer of a new steering process, s | {cold:.2f} |",
        f"| start of the server until it is ready, s | {figures.begun_seconds:.2f} |",
        f"| processor seconds of the server, of its steering process | {figures.cpu_seconds:.1f}, "
        f"{figures.apart_cpu_seconds:.1f} |",
        f"| memory of the steering process, MB | {figures.apart_mb:.0f} |",
        f"| load average of the machine at the end | {figures.load:.1f} |",
        f"| a page meanwhile, ms p50 / p99 | {ms(pages)} |",
        f"| jobs that ended meanwhile | {jobs} |",
    ]
    print("\n".join(lines), flush=True)
    return lines


def choose_lessons_section(scale: int) -> list[str]:
    """The lessons of a request out of libraries of two sizes."""
    lines = [
        "",
        f"## {TITLES['choose-lessons']}",
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
                f"| {lessons:,} | {words:,} | {ms(taken, 2)} | {ms(figures.processor[words], 2)} | "
                f"{figures.chosen[words]:.1f} | {figures.compile_seconds:.2f} | {figures.memory_mb:.0f} |"
            )
            print(lines[-1], flush=True)
    return lines
