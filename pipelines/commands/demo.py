"""`demo`: a simulated deployment in the store, with every job run once. What is done already is not done again."""

import argparse
import shutil
import sys
from pathlib import Path

from pipelines import simulate
from pipelines.commands.access import opened
from pipelines.ingest.load import load
from store import batches, job_runs
from store.connection import Store
from store.settings import Settings

_SEED = 7
# Few users with long histories: enough events for drift to be found in some of them.
_USERS = 80
_TRACES_PER_USER = 150
_UPLOADS = ("traces.csv", "spans.jsonl.gz", "signals.csv", "clicks.csv")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("demo", parents=[shared], help="load a simulated deployment and run every job once")
    parser.add_argument("--users", type=int, metavar="N", help="how many users the deployment has")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Bring the store to where the demo starts. Returns 1 when a job failed."""
    failures = done = 0
    with opened(settings, create=True) as (store, _, runner):
        done += load_deployment(store, settings.db.with_name(settings.db.name + ".files"), arguments.users)
        for job in runner.registry.values():
            history = job_runs.history(store, job.name)
            if history.success is not None and not runner.has_work(job, history):
                continue
            outcome = runner.run(job.name, "manual")
            failures += outcome.status != "succeeded"
            done += 1
            print(f"{job.name}: {outcome.message or outcome.error}", file=sys.stdout if outcome.message else sys.stderr)
    if not done:
        print(f"{settings.db}: the demo is loaded and every job has run.")
    return 1 if failures else 0


def load_deployment(store: Store, folder: Path, users: int | None = None) -> int:
    """Simulate a deployment into `folder` unless it is there, and load the files that are not loaded yet.

    Returns how many files were loaded now. Raises: as `pipelines.ingest.load.load`.
    """
    if not folder.exists():
        # The folder gets its name when all files are in it.
        draft = folder.with_name(folder.name + ".part")
        shutil.rmtree(draft, ignore_errors=True)
        simulate.run(draft, users or _USERS, None, _SEED, (users or _USERS) * _TRACES_PER_USER)
        draft.rename(folder)
    recent = batches.recent(store, limit=1000)
    loaded = set(recent.filter(recent["state"] == "done")["file_name"].to_list())
    count = 0
    for name in _UPLOADS:
        if name not in loaded:
            report = load(store, folder / name)
            count += 1
            print(f"{name}: {report.accepted:,} of {report.received:,} records loaded")
    return count
