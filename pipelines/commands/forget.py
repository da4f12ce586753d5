"""`forget-user ID` and `export-user ID FILE`: what a person may ask of whoever keeps their data."""

import argparse
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

from pipelines.commands.access import operations, operator
from pipelines.terminal import printable
from store.errors import ActionRefused
from store.settings import Settings

_REFUSE = (
    "what is refused of them from now on: late = what is dated before now or not at all (default); always = whatever "
    "comes; never = nothing: what is sent again is stored again"
)


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("forget-user", parents=[shared], help="delete everything of one user, for good")
    parser.add_argument("user", metavar="ID", help="the user_id, as traces name it")
    parser.add_argument("--preview", action="store_true", help="only show what would go")
    parser.add_argument("--yes", action="store_true", help="do not ask for the id to be typed again")
    parser.add_argument("--refuse", choices=("late", "always", "never"), default="late", help=_REFUSE)
    parser.add_argument("--reason", default="", metavar="WHY", help="for the audit log; it must not name them")
    parser.add_argument("--json", action="store_true", help="print the report as a JSON object")
    parser.set_defaults(handler=run_forget)
    parser = commands.add_parser("export-user", parents=[shared], help="write everything of one user into a ZIP file")
    parser.add_argument("user", metavar="ID")
    parser.add_argument("file", type=Path, metavar="FILE", help="a new file, readable by you only")
    parser.set_defaults(handler=run_export)


def run_forget(arguments: argparse.Namespace, settings: Settings) -> int:
    """Forget a user, after a preview and a typed confirmation. Returns 1 when the file could not be rewritten yet."""
    with operations(settings, create=False) as work:
        foreseen = work.privacy("forget-preview", {"user_id": arguments.user})
        if arguments.preview:
            _print_preview(foreseen, arguments.json)
            return 0
        if not arguments.yes:
            _print_preview(foreseen, False)
            print("Type the id again to delete all this for good: ", end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().rstrip("\n") != arguments.user:
                raise ActionRefused("Forget a user", "the id was not typed again.", "Nothing was deleted.")
        told = {
            "user_id": arguments.user, "operator": operator(), "refuse": arguments.refuse, "reason": arguments.reason,
        }  # fmt: skip
        done = work.privacy("forget", told)
    if arguments.json:
        print(json.dumps(done))
    else:
        _print_report(done)
    return 0 if done["rewritten"] else 1


def run_export(arguments: argparse.Namespace, settings: Settings) -> int:
    """Write what there is of a user into a new ZIP file."""
    with operations(settings, create=False) as work:
        done = work.privacy("export-user", {"user_id": arguments.user, "operator": operator()})
    content = base64.b64decode(done["zip"])
    try:
        descriptor = os.open(arguments.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise ActionRefused(
            f"Writing {arguments.file}", "the file exists.", "Choose another name; nothing is overwritten."
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    print(f"{arguments.file}: {len(content):,} bytes")
    return 0


def _print_preview(foreseen: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(foreseen))
        return
    print("This would be deleted:")
    for table, count in sorted(foreseen["rows"].items(), key=lambda item: -item[1]):
        print(f"  {table:<22}{count:>12,} rows")
    _print_lessons(foreseen["lessons"])
    _print_exports(foreseen)


def _print_report(done: dict[str, Any]) -> None:
    print(f"Forgotten: {sum(done['rows'].values()):,} rows deleted, person {done['pseudonym']} in the audit log.")
    if done["cells"]:
        print(f"Taken out of {sum(done['cells'].values()):,} other texts; {done['audit_rows']:,} audit rows redacted.")
    _print_lessons(done["lessons"])
    _print_exports(done)
    if done["plain_id"]:
        print("The id is too plain to be looked for inside texts: only whole values of it were taken out.")
    for file in done["files"]:
        print(printable(f"  still to be looked at: {file}"))
    if done["rewritten"]:
        print("The database file was written anew: nothing of them is left in it. Make new backups, delete old ones.")
    else:
        print(f"The file could not be written anew yet; the job retention tries again. {done['problem']}")


def _print_lessons(lessons: list[dict[str, Any]]) -> None:
    for one in lessons:
        then = f", demoted to {one['demoted_to']}" if one["demoted_to"] else ""
        print(f"  lesson {one['lesson_id']} ({printable(one['title'])}) loses {one['lost']} of its evidence;", end=" ")
        print(f"{one['good']} good and {one['bad']} bad traces are left{then}")


def _print_exports(told: dict[str, Any]) -> None:
    for number in told["exports"]:
        print(f"  training export {number} is withdrawn: make a new one, and delete files made of it")
    for number in told["tunings"]:
        print(f"  fine-tuning {number} was trained with it: that cannot be taken back, train anew")
