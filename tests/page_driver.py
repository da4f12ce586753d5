"""Pages under test: the whole app by AppTest on a store of the test's own, opened at one page."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from loop_data import NOW
from streamlit.testing.v1 import AppTest

from dashboard import answers, runtime
from pipelines.ingest.loads import Loads
from pipelines.runner import Runner
from store.clock import FixedClock
from store.connection import Store
from store.settings import Settings

APP = Path(__file__).resolve().parents[1] / "dashboard" / "app.py"


@contextmanager
def store_for_pages(path: Path, content: bytes | None = None) -> Iterator[Store]:
    """A store, empty or of a database file's `content`, that pages see; its clock stands at `loop_data.NOW`."""
    if content is not None:
        path.write_bytes(content)
    store = Store.open(path, clock=FixedClock(NOW), threads=1)
    # Tests change the store behind the pages and look at once.
    settings = Settings(page_age_seconds=0)
    loads = Loads(store)
    runner = Runner(store, settings, loads=loads)
    runtime.install(runtime.Runtime(store, settings, store.clock, loads, runner))
    try:
        yield store
    finally:
        runtime.install(None)
        loads.close()
        store.close()


def open_page(page: str, **query: str) -> AppTest:
    """The page `views/<page>.py` with these query parameters, after its first run; no other page is drawn before it."""
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.switch_page(f"views/{page}.py")
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def much_comes_in(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """As if agents sent much, as long as the one entry of the list says so, and as if reading took no time."""
    monkeypatch.setattr(answers, "_HELD_FOR", 0.0)
    monkeypatch.setattr(answers, "_QUICK_SECONDS", 1e9)
    sending = [True]
    gateway: Any = SimpleNamespace(intake=SimpleNamespace(busy=lambda: sending[0]))
    runtime.install(replace(runtime.current(), settings=Settings(page_age_seconds=3_600), gateway=gateway))
    return sending


def click(app: AppTest, key: str) -> AppTest:
    """Press the button with this key."""
    app.button(key=key).click().run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def field(elements: Sequence[Any], prefix: str) -> Any:
    """The one widget of these whose key begins so."""
    (found,) = [element for element in elements if (element.key or "").startswith(prefix)]
    return found


def shown(app: AppTest) -> str:
    """Everything that the page says in Markdown, captions, plain text, code and messages."""
    kinds = (
        app.title,
        app.subheader,
        app.markdown,
        app.caption,
        app.text,
        app.code,
        app.success,
        app.warning,
        app.error,
    )
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def labels(app: AppTest) -> str:
    """The labels of buttons, expanders and popovers, which a browser reads as Markdown, without what is escaped."""
    found = [element.label for element in (*app.button, *app.expander)]
    found += [block.proto.popover.label for block in app.get("popover")]
    return re.sub(r"\\.", "", "\n".join(found))


def unescaped(text: str) -> str:
    """Markdown as a reader sees it, who sees no zero-width space."""
    return text.replace("\\", "").replace("\u200b", "")


@contextmanager
def untouched(store: Store) -> Iterator[None]:
    """Nothing is written to the store in here but that somebody was there: no other table changes a row."""

    def content() -> dict[str, Any]:
        with store.read() as reader:
            tables = reader.any_frame("SELECT table_name FROM duckdb_tables() WHERE NOT temporary")["table_name"]
            return {
                name: reader.any_frame(f'SELECT count(*), sum(hash(t)::HUGEINT)::VARCHAR FROM "{name}" AS t').rows()
                for name in tables
                if name != "operator_visits"
            }

    before = content()
    yield
    assert content() == before


def markup(app: AppTest) -> str:
    """Only what a browser reads as Markdown, without what is escaped: text of traces must never stand in it."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.success, app.warning, app.error, app.info)
    return re.sub(r"\\.", "", "\n".join(str(element.value) for kind in kinds for element in kind))
