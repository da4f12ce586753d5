"""`run JOB` and `jobs`: one job now; what is scheduled and how the last runs went."""

import argparse
import json
import sys
from typing import Any

from pipelines.commands.access import operations
from pipelines.jobs import REGISTRY
from pipelines.terminal import printable
from store.errors import UnknownJob
from store.settings import Settings


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("run", parents=[shared], help="run one job now")
    parser.add_argument("job", metavar="JOB", help=", ".join(REGISTRY))
    parser.add_argument("--json", action="store_true", help="print the outcome as a JSON object")
    parser.set_defaults(handler=run)
    parser = commands.add_parser("jobs", parents=[shared], help="what is scheduled, how the last runs went")
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    parser.set_defaults(handler=jobs)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run a job to its end. Returns 1 when it failed."""
    if arguments.job not in REGISTRY:
        raise UnknownJob(arguments.job, list(REGISTRY))
    outcome: dict[str, Any] = {}
    live = sys.stderr.isatty()
    with operations(settings, create=True) as work:
        for event in work.run(arguments.job):
            if event["event"] == "ended":
                outcome = {key: value for key, value in event.items() if key != "event"}
            elif event["event"] == "progress" and live:
                message = printable(event["message"])
                print(f"\r\033[K{event['progress']:4.0%} {message}", end="", file=sys.stderr, flush=True)
    if live:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    succeeded = outcome["status"] == "succeeded"
    if arguments.json:
        print(json.dumps(outcome))
    elif succeeded:
        print(printable(f"{arguments.job}: {outcome['message']} ({outcome['rows']:,} rows)", "\n"))
    if not succeeded:
        print(printable(f"error: job {arguments.job} {outcome['status']}: {outcome['error']}", "\n"), file=sys.stderr)
    return 0 if succeeded else 1


def jobs(arguments: argparse.Namespace, settings: Settings) -> int:
    """List the jobs."""
    with operations(settings, create=True) as work:
        listed = work.jobs()
    if arguments.json:
        print(json.dumps(listed, indent=2))
        return 0
    for job in listed:
        print(f"{job['job']:<14} at most every {_span(job['every_seconds'])}. {job['description']}")
        if job["status"] is None:
            print(f"{'':<14} never ran")
            continue
        taken = "" if job["seconds"] is None else f" in {job['seconds']:.1f} s"
        detail = printable(job["error"] or job["message"] or "", "\n")
        print(f"{'':<14} {job['status']}{taken}, started {job['started_at'][:19]}Z ({job['cause']}). {detail}".rstrip())
    return 0


def _span(seconds: float) -> str:
    for size, unit, one in ((604_800, "weeks", "week"), (86_400, "days", "day"), (3_600, "h", "hour"), (60, "min", "")):
        if seconds >= size:
            return one if one and seconds == size else f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
