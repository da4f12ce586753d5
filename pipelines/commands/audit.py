"""`audit verify` and `audit export`: whether the log is as it was written, and the log as a file."""

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from typing import Any

from pipelines.commands.access import operations
from pipelines.operations import Operations
from store.settings import Settings

_COLUMNS = ("sequence", "occurred_at", "actor", "action", "subject", "detail", "nonce", "previous_hash", "hash")
# What spreadsheets take for the begin of a formula (OWASP, CSV injection).
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("audit", help="verify and export the log of what operators did")
    actions = parser.add_subparsers(dest="action", required=True)
    verify = actions.add_parser(
        "verify", parents=[shared], help="look for rows that were changed, removed or reordered"
    )
    verify.add_argument("--json", action="store_true", help="print a JSON object")
    verify.set_defaults(handler=run_verify)
    export = actions.add_parser("export", parents=[shared], help="print the rows, oldest first")
    export.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="default: jsonl")
    for name, help in (
        ("actor", "who did it"), ("action-named", "such as 'lesson approve'"), ("subject", "such as 'lesson 1a2b'"),
        ("text", "in subject or detail"), ("since", "ISO 8601 with its offset"), ("until", "ISO 8601 with its offset"),
    ):  # fmt: skip
        export.add_argument(f"--{name}", metavar="X", help=f"only rows: {help}")
    export.set_defaults(handler=run_export)


def run_verify(arguments: argparse.Namespace, settings: Settings) -> int:
    """Verify the chain. Returns 1 when it was tampered with."""
    with operations(settings, create=False) as work:
        found = work.privacy("audit-verify", {})
    broken = found["first_tampered"]
    if arguments.json:
        print(json.dumps(found))
    elif broken is None:
        print(f"The log is as it was written: {found['rows']:,} rows, newest hash {found['newest_hash']}.")
    else:
        print(f"error: the log was tampered with, first at row {broken:,}.", file=sys.stderr)
    return 0 if broken is None else 1


def run_export(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the chosen rows."""
    names = ("actor", "action_named", "subject", "text", "since", "until")
    chosen = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    with operations(settings, create=False) as work:
        if arguments.format == "csv":
            table = csv.writer(sys.stdout)
            table.writerow(_COLUMNS)
            for row in _rows(work, chosen):
                table.writerow([_cell(row[name]) for name in _COLUMNS])
        else:
            for row in _rows(work, chosen):
                print(json.dumps({**row, "detail": json.loads(row["detail"])}, ensure_ascii=False))
    return 0


def _rows(work: Operations, chosen: dict[str, Any]) -> Iterator[dict[str, Any]]:
    after = -1
    while rows := work.privacy("audit-rows", {**chosen, "after": after})["rows"]:
        yield from rows
        after = rows[-1]["sequence"]


def _cell(value: Any) -> Any:
    """A text that begins as a formula does gets an apostrophe before it, which spreadsheets take as "this is text"."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" \0").startswith(_FORMULA) else value
