"""`key create`, `key list` and `key revoke`: the API keys by which agents reach the gateway."""

import argparse
import json
import math
import sys
from typing import Any

from pipelines.commands.access import operations, operator
from store.api_keys import DEFAULT_RATE_PER_SECOND, SCOPES
from store.settings import Settings


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("key", help="make, list and revoke API keys, also while the server runs")
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", parents=[shared], help="make a key; its text is shown this once")
    create.add_argument(
        "--scope", dest="scopes", action="append", required=True, choices=list(SCOPES),
        help="what it may do, repeatable: " + "; ".join(f"{scope}: {does}" for scope, does in SCOPES.items()),
    )  # fmt: skip
    create.add_argument("--name", help="for people, and the source of what is sent with it (default: its scopes)")
    create.add_argument(
        "--rate", type=_rate, metavar="N", help=f"requests a second (default: {DEFAULT_RATE_PER_SECOND:g})"
    )
    create.add_argument("--burst", type=_burst, metavar="N", help="requests at once (default: two seconds of the rate)")
    create.add_argument("--json", action="store_true", help="print the key with its settings as a JSON object")
    create.set_defaults(handler=run_create)
    listing = actions.add_parser("list", parents=[shared], help="the keys without their secrets, newest first")
    listing.add_argument("--json", action="store_true", help="print a JSON array")
    listing.set_defaults(handler=run_list)
    revoke = actions.add_parser("revoke", parents=[shared], help="put a key out of force, at once and for good")
    revoke.add_argument("key_id", metavar="ID", help="the id of the key, as `key list` shows it")
    revoke.set_defaults(handler=run_revoke)


def run_create(arguments: argparse.Namespace, settings: Settings) -> int:
    """Make a key. Its text alone goes to standard output, so that a script can take it."""
    with operations(settings, create=True) as work:
        made = work.create_key(arguments.scopes, arguments.name, arguments.rate, arguments.burst, operator())
    if arguments.json:
        print(json.dumps(made))
        return 0
    print(made["key"], flush=True)
    print(
        f"Key {made['key_id']} ({made['name']}) may {_allowed(made)}. Keep its text: it is not shown again. "
        "Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`.",
        file=sys.stderr,
    )
    return 0


def run_list(arguments: argparse.Namespace, settings: Settings) -> int:
    """List the keys."""
    with operations(settings, create=False) as work:
        keys = work.keys()
    if arguments.json:
        print(json.dumps(keys, indent=2))
        return 0
    if not keys:
        print("There are no keys. Make one with `python -m pipelines key create --scope ingest`.")
    for key in keys:
        state = f"revoked {_moment(key['revoked_at'])}" if key["revoked_at"] else "in force"
        used = f"last used {_moment(key['last_used_at'])}" if key["last_used_at"] else "never used"
        print(f"{key['key_id']}  {state}, {used}. {key['name']}: may {_allowed(key)}.")
    return 0


def run_revoke(arguments: argparse.Namespace, settings: Settings) -> int:
    """Revoke a key."""
    with operations(settings, create=False) as work:
        key = work.revoke_key(arguments.key_id, operator())
    print(f"Key {key['key_id']} ({key['name']}) is out of force since {_moment(key['revoked_at'])}.")
    return 0


def _allowed(key: dict[str, Any]) -> str:
    return f"{', '.join(key['scopes'])} at {key['rate_per_second']:g} requests/s ({key['burst']:,} at once)"


def _moment(text: str) -> str:
    return f"{text[:19].replace('T', ' ')} UTC"


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number of requests a second greater than 0")
    return rate


def _burst(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of requests of at least 1")
    return int(text)
