"""The panel of pulled sources: adding, testing, pausing, changing and removing one."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from loop_data import NOW
from page_driver import click, markup, shown, store_for_pages
from streamlit.testing.v1 import AppTest

from store import audit, pull_sources
from store.connection import Store
from store.pull_sources import PullSource, PullState
from tests.pipelines.pull.fake_servers import BASIC, PUBLIC, SECRET, serving

HOSTILE = "<img src=x> **bold** :red[x] [a](http://evil.test)"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("LF_PUBLIC", PUBLIC)
    monkeypatch.setenv("LF_SECRET", SECRET)
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


def panel() -> AppTest:
    def page() -> None:
        from dashboard.intake.sources_panel import sources_panel
        from dashboard.learn import actions
        from dashboard.runtime import current

        actions.heading("Data")
        sources_panel(current())

    app = AppTest.from_function(page, default_timeout=30)
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def source(url: str = "http://127.0.0.1:1", **more: object) -> PullSource:
    made = PullSource("lf", "langfuse", url, NOW - timedelta(days=3, hours=1), None, "LF_PUBLIC", "LF_SECRET")
    return replace(made, **more)  # type: ignore[arg-type]


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: str(metric.value) for metric in app.metric}


def test_without_sources_it_says_what_could_be_here(store: Store) -> None:
    app = panel()
    assert "Nothing is pulled" in shown(app)
    assert app.selectbox(key="source_chosen").value == "A new source"


def test_a_source_is_added_by_the_form_and_tested(store: Store) -> None:
    with serving() as server:
        server.authorization = BASIC
        app = panel()
        key = "source_form_new"
        app.text_input(key=f"{key}_name").input("lf")
        app.text_input(key=f"{key}_url").input(server.url)
        app.text_input(key=f"{key}_user").input("LF_PUBLIC")
        app.text_input(key=f"{key}_secret").input("LF_SECRET")
        click(app, f"{key}_save")
        kept, _ = pull_sources.one(store, "lf")
        assert (kept.base_url, kept.user_variable, kept.since.date()) == (
            server.url, "LF_PUBLIC", (NOW - timedelta(days=30)).date(),
        )  # fmt: skip
        assert "waits for its first pull" in shown(app)
        click(app, "source_test_lf")
        assert "It answers, and holds no records yet" in shown(app).replace("\\", "")
        server.authorization = "Basic other"
        click(app, "source_test_lf")
        assert "access was refused" in shown(app).replace("\\", "")
        assert SECRET not in shown(app)


def test_what_cannot_be_kept_is_told(store: Store) -> None:
    app = panel()
    app.text_input(key="source_form_new_name").input("lf")
    app.text_input(key="source_form_new_url").input("ftp://x.test")
    click(app, "source_form_new_save")
    assert "Expected an address" in shown(app).replace("\\", "")
    assert pull_sources.every(store) == []


def test_the_state_of_a_source_is_shown(store: Store) -> None:
    kept = pull_sources.add(store, source(), operator="ann")
    state = PullState(
        watermark=NOW - timedelta(minutes=5), started_at=NOW - timedelta(minutes=2), completed_at=NOW,
        finished_at=NOW - timedelta(minutes=2), rows=12_345, last_rows=7, fetched=20_000,
    )  # fmt: skip
    pull_sources.save_state(store, kept, state)
    app = panel()
    assert metrics(app) == {
        "Last pull": "2 min ago", "Newest record": "5 min ago", "Rows brought": "12,345", "Next pull": "in 3 min",
    }  # fmt: skip
    assert "up to date" in shown(app)
    pull_sources.save_state(store, kept, replace(state, failures=2, error=HOSTILE, not_before=NOW))
    app = panel()
    assert "failed 2 times in a row" in shown(app)
    assert HOSTILE in [code.value for code in app.code]
    assert "<img" not in markup(app)


def test_pausing_changing_and_removing(store: Store) -> None:
    pull_sources.add(store, source(), operator="ann")
    app = panel()
    click(app, "source_pause_lf")
    assert pull_sources.one(store, "lf")[0].paused
    assert metrics(app)["Next pull"] == "when resumed"
    click(app, "source_pause_lf")
    assert not pull_sources.one(store, "lf")[0].paused
    app.selectbox(key="source_chosen").select("lf").run()
    app.number_input(key="source_form_lf_every").set_value(900)
    click(app, "source_form_lf_save")
    # The time of day of a date that was not touched stays.
    assert pull_sources.one(store, "lf")[0] == source(every_seconds=900)
    click(app, "source_remove_lf")
    assert pull_sources.every(store) == []
    assert "Nothing is pulled" in shown(app)
    assert audit.recent(store)["actor"].to_list()[0] == "local operator"


def test_names_of_servers_are_text(store: Store) -> None:
    made = PullSource("px", "phoenix", "http://127.0.0.1:1", NOW, project=":red[x] **y**")
    pull_sources.add(store, made, operator="ann")
    text = markup(panel())
    assert ":red[" not in text
    assert "**y" not in text
