"""`backup FILE` and `restore FILE`."""

import argparse
import sys
from pathlib import Path

from pipelines.commands.access import operations, operator
from store.backup import forgotten_since, restore
from store.backup_check import Checked, check
from store.clock import SystemClock
from store.settings import Settings


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("backup", parents=[shared], help="copy the store into a new file, also while in use")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--verify", action="store_true", help="restore it into a scratch folder and read all of it")
    parser.set_defaults(handler=run_backup)
    parser = commands.add_parser("restore", parents=[shared], help="put a backup in the place of the store")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--force", action="store_true", help="replace a store that exists; it is moved aside")
    parser.add_argument("--check", action="store_true", help="only say whether it could be restored and is sound")
    parser.set_defaults(handler=run_restore)


def run_backup(arguments: argparse.Namespace, settings: Settings) -> int:
    """Back up the store. Returns 1 when the backup was made and is not sound."""
    with operations(settings, create=False) as work:
        made = work.backup(arguments.file, operator())
    print(f"{made['path']}: {made['rows']:,} rows, {made['bytes']:,} bytes")
    return _told(check(Path(made["path"]), Path(made["path"]).parent)) if arguments.verify else 0


def run_restore(arguments: argparse.Namespace, settings: Settings) -> int:
    """Restore a backup. The store's file must not be open anywhere. With --check returns 1 when it is not sound."""
    if arguments.check:
        return _told(check(arguments.file, arguments.file.resolve().parent))
    aside = restore(arguments.file, settings.db, clock=SystemClock(), force=arguments.force)
    print(f"{settings.db} is now {arguments.file}." + (f" What was there is {aside}." if aside else ""))
    again = forgotten_since(settings.db, aside) if aside else 0
    if again:
        print(f"warning: it holds {again} people again who were forgotten since: forget them again.", file=sys.stderr)
    return 0


def _told(checked: Checked) -> int:
    if checked.problems:
        print(f"error: it is not sound: {'; '.join(checked.problems)}.", file=sys.stderr)
        return 1
    audited = f"audit log of {checked.audit_rows:,} rows whole, newest hash {checked.newest_hash}"
    print(f"restored and read in {checked.seconds:.1f} s: {checked.rows:,} rows, {audited}")
    return 0
