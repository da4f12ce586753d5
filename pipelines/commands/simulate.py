"""`simulate --out DIR`: the files of a simulated deployment, and the truth behind them."""

import argparse
from pathlib import Path

from pipelines import simulate
from store.settings import Settings

_SEED = 7


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "simulate", parents=[shared], help="write the files of a simulated deployment, and truth.json"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--users", type=int, metavar="N")
    parser.add_argument("--days", type=int, metavar="N")
    parser.add_argument(
        "--seed", type=int, default=_SEED, metavar="N", help=f"same seed, same files (default: {_SEED})"
    )
    parser.add_argument("--traces", type=int, metavar="N")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Simulate and write."""
    rows = simulate.run(arguments.out, arguments.users, arguments.days, arguments.seed, arguments.traces)
    print(f"{arguments.out}: " + ", ".join(f"{count:,} {name}" for name, count in rows.items()))
    return 0
