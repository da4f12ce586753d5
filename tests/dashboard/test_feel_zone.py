"""Times in the viewer's zone or in UTC: texts and tables follow the choice, which is kept; reads of it cost nothing."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import streamlit as st
from loop_data import NOW
from page_driver import open_page, store_for_pages
from publishing import publisher

from dashboard.access.actor import LOCAL
from dashboard.ui import format as fmt
from store import visits
from store.connection import Store

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        publisher(opened, tmp_path)(
            traces=[{"trace_id": "t", "agent": "desk", "started_at": NOW - timedelta(hours=1), "status": "ok"}]
        )
        yield opened


@pytest.fixture
def of_berlin(monkeypatch):
    monkeypatch.setattr(fmt, "browser_zone", lambda: BERLIN)


def _read_at(app):
    return next(text.value for text in app.caption if "Shown at" in text.value)


def test_without_a_choice_times_are_utc(store, of_berlin):
    app = open_page("overview")
    assert "Shown at 2026-11-20 12:00:00 UTC" in _read_at(app)
    assert app.toggle(key="feel_zone").label == "Times of Berlin"
    assert app.toggle(key="feel_zone").value is False


def test_the_choice_holds_for_texts_and_tables_and_is_kept(store, of_berlin):
    app = open_page("overview")
    app.toggle(key="feel_zone").set_value(True).run()
    assert "Shown at 2026-11-20 13:00:00 CET" in _read_at(app)
    columns = app.dataframe[0].proto.columns
    assert "Newest (Berlin)" in columns
    assert '"timezone": "Europe/Berlin"' in columns
    assert "Shown at 2026-11-20 13:00:00 CET" in _read_at(open_page("overview"))
    store.write(lambda connection: None)
    with store.read() as reader:
        assert reader.value("SELECT zone FROM operator_visits WHERE operator = $who", {"who": LOCAL}) == "browser"


def test_whoever_is_in_utc_has_nothing_to_choose(store, monkeypatch):
    monkeypatch.setattr(fmt, "browser_zone", lambda: None)
    visits.set_zone(store, LOCAL, "browser")
    app = open_page("overview")
    assert not app.toggle
    assert "12:00:00 UTC" in _read_at(app)


def test_summer_and_winter_differ(monkeypatch):
    monkeypatch.setattr(fmt, "zone", lambda: BERLIN)
    assert fmt.when(datetime(2026, 7, 1, 12, tzinfo=UTC)) == "2026-07-01 14:00:00 CEST"
    assert fmt.when(datetime(2026, 12, 1, 23, 30, tzinfo=UTC), seconds=False) == "2026-12-02 00:30 CET"
    assert fmt.when(None) == fmt.NONE


def test_only_columns_of_moments_change(monkeypatch):
    config = {
        "at": st.column_config.DatetimeColumn("at (UTC)", format="HH:mm", timezone="UTC"),
        "bare": st.column_config.DatetimeColumn(format="HH:mm", timezone="UTC"),
        "n": st.column_config.NumberColumn("n (UTC)"), "gone": None,
    }  # fmt: skip
    assert fmt.columns(config) == config
    monkeypatch.setattr(fmt, "zone", lambda: ZoneInfo("America/Argentina/Buenos_Aires"))
    there = fmt.columns(config)
    assert (there["n"], there["gone"]) == (config["n"], None)
    assert there["at"]["label"] == "at (Buenos Aires)"
    assert there["bare"]["type_config"]["timezone"] == "America/Argentina/Buenos_Aires"
    assert config["at"]["label"] == "at (UTC)"


@pytest.mark.parametrize(
    ("said", "zone"),
    [("Europe/Berlin", BERLIN), ("UTC", None), ("Etc/UTC", None), ("Etc/GMT", None), (None, None), ("", None),
     ("../../etc/passwd", None), ("Mars/Base", None), ("x" * 5_000, None), ("/etc/localtime", None)],
)  # fmt: skip
def test_a_browser_may_say_anything(monkeypatch, said, zone):
    class Context:
        timezone = said

    monkeypatch.setattr(fmt.st, "context", Context())
    monkeypatch.setattr(fmt, "get_script_run_ctx", lambda **_: object())
    assert fmt.browser_zone() == zone


@pytest.mark.parametrize("page", ["overview", "users"])
def test_what_makes_pages_pleasant_costs_next_to_nothing_on_later_runs(store, monkeypatch, page):
    visits.arrive(store, LOCAL)
    store.clock.moment += timedelta(hours=2)
    asked = []
    read = Store.read

    def counted(self, **given):
        asked.append(1)
        return read(self, **given)

    app = open_page(page)
    monkeypatch.setattr(Store, "read", counted)
    app.run()
    with_it = len(asked)
    for place in ("sidebar.draw", "since.draw"):
        monkeypatch.setattr(f"dashboard.feel.{place}", lambda *_: None)
    monkeypatch.setattr("dashboard.notices.open_list.draw", lambda: None)
    asked.clear()
    app.run()
    # Two answers from the cache, each of which asks whether the data has changed; the page itself asks one less now.
    assert with_it <= len(asked) + 2
