"""`sql "SELECT ..."`: one reading statement over the store."""

import argparse
import json
import math
import shutil
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import polars as pl

from pipelines.commands.access import operations
from store.settings import Settings

_TIMEOUT_SECONDS = 60.0


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("sql", parents=[shared], help="run one reading statement")
    parser.add_argument("sql", metavar="SQL", help='such as "SELECT agent, count(*) FROM traces GROUP BY agent"')
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")
    parser.add_argument(
        "--timeout", type=_seconds, default=_TIMEOUT_SECONDS, metavar="SECONDS", help="stop it then (default: 60)"
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run the statement and print its rows."""
    with operations(settings, create=False) as work:
        frame = work.sql(arguments.sql, arguments.timeout)
    if arguments.format == "json":
        print(json.dumps([{key: _plain(value) for key, value in row.items()} for row in frame.to_dicts()], indent=1))
    elif arguments.format == "csv":
        sys.stdout.write(flat(frame).write_csv())
    else:
        print(_table(frame))
    return 0


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with lists and structures as JSON and bytes as hexadecimal digits, which CSV can hold."""
    nested = [name for name, kind in frame.schema.items() if kind.is_nested() or kind in (pl.Binary, pl.Object)]
    texts = {
        name: pl.Series(
            name,
            [_text(value) for value in frame[name].to_list()],
            dtype=pl.String,
        )
        for name in nested
    }
    return frame.with_columns(**texts)


def _text(value: object) -> str | None:
    plain = _plain(value)
    return plain if plain is None or isinstance(plain, str) else json.dumps(plain)


def _table(frame: pl.DataFrame) -> str:
    width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else -1
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=width,
        fmt_str_lengths=200,
        fmt_table_cell_list_len=20,
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
    ):
        return f"{frame}\n{len(frame):,} row{'' if len(frame) == 1 else 's'}"


def _plain(value: object) -> object:
    """A value as JSON can hold it; JSON has no infinity and no not-a-number."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            # Sums of whole numbers arrive as decimals without a fraction.
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case _:
            return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError("expected a number of seconds above 0, up to 86400")
    return value
