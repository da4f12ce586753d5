"""SQL in every parameter of every address, every field of every page, and every argument of every query."""

import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import duckdb
import pytest
from hostile_world import SQL, rows
from loop_data import NOW
from page_driver import APP, store_for_pages, untouched
from publishing import publisher
from streamlit.testing.v1 import AppTest

import store as package
from store.connection import Store
from store.errors import TrimtabError

PAGES = sorted(path.stem for path in (APP.parent / "views").glob("*.py"))
# What the engine says of SQL that it cannot read: an argument has become part of it.
# What takes the name of a table, which only code gives: a constant at every call.
NAMES_TABLES = ("adhoc.query", "backup.backup", "result_rows.remove")
BROKEN = re.compile(r"Parser Error|syntax error|Binder Error|Catalog Error|unterminated", re.IGNORECASE)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sql")
    with store_for_pages(folder / "trimtab.duckdb") as opened:
        publisher(opened, folder)(**rows())
        session = AppTest.from_file(str(APP), default_timeout=30)
        # Looking at a page is remembered: that is done by now.
        session.run()
        yield opened


def parameters() -> set[str]:
    """The names of every parameter that any page reads from the address."""
    named: set[str] = set()
    constants: dict[str, set[str]] = {}
    texts = [path.read_text() for path in APP.parent.rglob("*.py")]
    for text in texts:
        for name, value in re.findall(r"^(_?[A-Z][A-Z_]*)(?:: Final)? = \"([\w-]+)\"$", text, re.MULTILINE):
            constants.setdefault(name, set()).add(value)
    for text in texts:
        found = re.findall(r"key=([\w.\"]+),\s*(?:[^()]|\([^()]*\))*?bind=\"query-params\"", text)
        found += re.findall(r"query_params(?:\[|\.get\(|\.pop\()([\w.\"]+)", text)
        for name in found:
            last = name.rsplit(".", 1)[-1]
            # The filters of a page are one for each of these columns.
            named |= {last.strip('"')} if '"' in last else constants.get(last, {"agent", "model", "source"})
    return named


def test_the_parameters_are_found():
    assert {"q", "user", "trace", "audit_q", "find_user", "lesson", "settings", "from", "agent"} <= parameters()
    assert len(parameters()) > 55


@pytest.mark.parametrize("page", PAGES)
def test_sql_in_every_parameter_of_the_address_and_every_field_changes_and_breaks_nothing(store, page):
    app = AppTest.from_file(str(APP), default_timeout=30)
    app.switch_page(f"views/{page}.py")
    with untouched(store):
        for name in parameters() - {"from", "to"}:
            app.query_params[name] = SQL
        app.run()
        assert not app.exception, [error.value for error in app.exception]
        assert not [error.value for error in app.error if BROKEN.search(str(error.value))]
        # The page as it is drawn without them: more of its fields are there then.
        for name in parameters():
            if name in app.query_params:
                del app.query_params[name]
        app.run()
        fields = [field for field in app.text_input if not field.disabled]
        for field in fields:
            field.set_value(SQL[: field.proto.max_chars or None])
        if fields:
            app = fields[0].run()
            assert not app.exception
            assert not [error.value for error in app.error if BROKEN.search(str(error.value))]


def queries() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function of the store that takes a store and texts."""
    for module in pkgutil.iter_modules(package.__path__):
        loaded = importlib.import_module(f"store.{module.name}")
        for name, function in inspect.getmembers(loaded, inspect.isfunction):
            if function.__module__ == loaded.__name__ and not name.startswith("_"):
                yield f"{module.name}.{name}", function


def argument(kind: object) -> object:
    """A value of the type, hostile where it is a text. Raises: `LookupError` for a type that is none of these."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if typing.get_origin(kind) is typing.Union:
        options = typing.get_args(kind)
    for option in options:
        if option is str:
            return SQL
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            return SQL
        if typing.get_origin(option) in (list, tuple) and typing.get_args(option)[:1] == (str,):
            return typing.get_origin(option)([SQL])
        if option in (int, float, bool, datetime):
            return {int: 1, float: 1.0, bool: False, datetime: NOW}[typing.cast(Any, option)]
    raise LookupError(kind)


def called() -> Iterator[tuple[str, Callable[..., Any], dict[str, object]]]:
    for name, function in queries():
        told = list(inspect.signature(function, eval_str=True).parameters.values())
        if not told or told[0].annotation is not Store or name in NAMES_TABLES:
            continue
        try:
            arguments = {
                one.name: argument(one.annotation)
                for one in told[1:]
                if one.default is inspect.Parameter.empty or one.annotation in (str, str | None)
            }
        except LookupError:
            continue
        if SQL in arguments.values():
            yield name, function, arguments


def test_sql_in_every_argument_of_every_query_stays_an_argument(store):
    tried, broken = [], {}
    with store.read() as reader:
        tables = set(reader.any_frame("SELECT table_name FROM duckdb_tables()")["table_name"])
        traces = reader.value("SELECT count(*) FROM traces")
    for name, function, arguments in called():
        tried.append(name)
        try:
            answer = function(store, **arguments)
            if inspect.isgenerator(answer):
                next(answer, None)
        except TrimtabError as error:
            # Refused for what it is; not because the engine could not read it.
            if BROKEN.search(str(error)) or isinstance(error.__cause__, duckdb.ParserException):
                broken[name] = str(error)
        except (ValueError, KeyError, TypeError):
            # A word that is none of those known, where pages offer only those.
            pass
    assert broken == {}
    assert len(tried) > 60, tried
    with store.read() as reader:
        assert set(reader.any_frame("SELECT table_name FROM duckdb_tables()")["table_name"]) >= tables
        assert reader.value("SELECT count(*) FROM traces") == traces
