"""The command line: `python -m pipelines COMMAND`. See `python -m pipelines --help`.

Exits 0 on success, 1 when the work failed, 2 on wrong usage, with the error on standard error.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pipelines.commands.ingest import BadMapping
from store.errors import SettingsError, TrimtabError, UnknownJob
from store.settings import Settings

# The modules of `pipelines.commands` whose commands there are, in the order of the help text.
MODULES = (
    "ingest",
    "jobs",
    "sql",
    "simulate",
    "demo",
    "backup",
    "key",
    "source",
    "draft",
    "graduate",
    "forget",
    "audit",
)


def parser() -> argparse.ArgumentParser:
    """All commands with their arguments."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--db", type=Path, metavar="PATH", help="the database file (default: TRIMTAB_DB)")
    top = argparse.ArgumentParser(prog="python -m pipelines", description="Trimtab's command line.")
    commands = top.add_subparsers(dest="command", required=True)
    for module in MODULES:
        import_module(f"pipelines.commands.{module}").register(commands, shared)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    arguments = parser().parse_args(argv)
    try:
        settings = Settings.load(overrides={"db": arguments.db})
        code: int = arguments.handler(arguments, settings)
        sys.stdout.flush()
    except (SettingsError, UnknownJob, BadMapping) as error:
        return _report(error, 2)
    except BrokenPipeError:
        # Whoever read the output has enough; nothing more can be told there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (TrimtabError, OSError) as error:
        return _report(error, 1)
    except KeyboardInterrupt:
        print("error: interrupted; what was not finished can be sent again.", file=sys.stderr)
        return 1
    return code


def _report(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
