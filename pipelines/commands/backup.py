"""`backup FILE` and `restore FILE`."""

import argparse
from pathlib import Path

from pipelines.commands.access import operations
from store.backup import restore
from store.clock import SystemClock
from store.settings import Settings


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("backup", parents=[shared], help="copy the store into a new file, also while in use")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.set_defaults(handler=run_backup)
    parser = commands.add_parser("restore", parents=[shared], help="put a backup in the place of the store")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--force", action="store_true", help="replace a store that exists; it is moved aside")
    parser.set_defaults(handler=run_restore)


def run_backup(arguments: argparse.Namespace, settings: Settings) -> int:
    """Back up the store."""
    with operations(settings, create=False) as work:
        made = work.backup(arguments.file)
    print(f"{made['path']}: {made['rows']:,} rows, {made['bytes']:,} bytes")
    return 0


def run_restore(arguments: argparse.Namespace, settings: Settings) -> int:
    """Restore a backup. The store's file must not be open anywhere."""
    aside = restore(arguments.file, settings.db, clock=SystemClock(), force=arguments.force)
    print(f"{settings.db} is now {arguments.file}." + (f" What was there is {aside}." if aside else ""))
    return 0
