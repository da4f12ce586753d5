"""`ingest FILE...`: load files, and say what became of every record."""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from pipelines.commands.access import operations, operator
from pipelines.ingest.mapping import Mapping
from pipelines.operations import Event
from store.errors import TrimtabError
from store.settings import Settings

_COUNTS = (
    "received",
    "accepted",
    "duplicate",
    "rejected",
    "format",
    "traces",
    "spans",
    "signals",
    "batch_id",
    "seconds",
)


class BadMapping(TrimtabError):
    """The file given as --map cannot be used."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("ingest", parents=[shared], help="load files; loading a file twice changes nothing")
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("--source", help="where the files come from (default: by their format)")
    parser.add_argument("--map", type=Path, metavar="MAP.toml", help="column mapping for the files (default: guessed)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a file")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Load the files. Returns 1 when one of them failed, or when none of its records could be used."""
    mapping = _mapping(arguments.map)
    screen = _Screen(as_json=arguments.json)
    with operations(settings, create=True) as work:
        for event in work.ingest(arguments.files, arguments.source, mapping, operator()):
            screen.show(event)
    return 1 if screen.failures else 0


def _mapping(path: Path | None) -> Mapping | None:
    if path is None:
        return None
    try:
        return Mapping.from_toml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadMapping(f"--map {path}: it cannot be read ({error}).") from error
    except TrimtabError as error:
        raise BadMapping(f"--map {path}: {error}") from error


class _Screen:
    """Prints events: one line a file, progress while a terminal watches, errors on standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self.failures = 0
        self._as_json = as_json
        self._live = sys.stderr.isatty()

    def show(self, event: Event) -> None:
        """Print one event."""
        if event["event"] == "progress":
            self._progress(event)
        elif event["event"] == "report":
            self._clear()
            self._report(event)
        elif event["event"] == "failed":
            self._clear()
            self._failed(event)

    def _report(self, event: Event) -> None:
        if self._as_json:
            print(
                json.dumps({"file": event["file"], "source": event["source"], **{key: event[key] for key in _COUNTS}})
            )
        else:
            print(
                f"{event['file']}: {event['format']} from {event['source']}, {event['seconds']:.1f} s\n"
                f"  {event['received']:,} received = {event['accepted']:,} accepted + {event['duplicate']:,} duplicate"
                f" + {event['rejected']:,} rejected\n"
                f"  new: {event['traces']:,} traces, {event['spans']:,} spans, {event['signals']:,} signals",
                flush=True,
            )
        if event["rejected"]:
            batch = event["batch_id"]
            print(
                f"{event['file']}: {event['rejected']:,} records were rejected. See why with:\n"
                f'  python -m pipelines sql "SELECT line, reason, raw FROM ingest_rejects WHERE batch_id = {batch}"\n'
                "or download, repair and send them again from the Data page.",
                file=sys.stderr,
            )
        if event["received"] and not event["accepted"] + event["duplicate"]:
            self.failures += 1

    def _failed(self, event: Event) -> None:
        self.failures += 1
        if self._as_json:
            nothing: dict[str, Any] = dict.fromkeys(_COUNTS)
            print(json.dumps({"file": event["file"], **nothing, "error": event["error"]}), flush=True)
        print(f"error: {event['error']}", file=sys.stderr)

    def _progress(self, event: Event) -> None:
        if not self._live:
            return
        done, total = event["bytes_done"], max(event["bytes_total"], 1)
        text = f"{event['file']}: {event['phase']} {done / total:4.0%}, {event['received']:,} records"
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:width]:<{width}}", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
