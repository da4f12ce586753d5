"""Drift: who changed, by how much, how many flags are expected to be false, and who could not be scanned."""

import pytest
from loop_data import HOSTILE, NOW, load_shop, run_loop, shop_file
from page_driver import markup, open_page, shown, store_for_pages
from publishing import publisher

from store import drift


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


@pytest.fixture
def loaded(tmp_path):
    """A store with the shop in it and the loop run."""
    with store_for_pages(tmp_path / "trimtab.duckdb", shop_file()) as opened:
        yield opened


def test_an_empty_store_says_what_a_scan_needs(store):
    assert "No scan yet" in shown(open_page("drift"))


def test_nobody_with_enough_events_is_said_with_what_is_missing(store, tmp_path):
    load_shop(store, tmp_path, traces=30)
    text = shown(open_page("drift"))
    assert "Nobody to scan" in text
    assert "8 users could not be scanned: each needs 20 events" in text


def test_a_flagged_user_is_shown_with_numbers_on_both_sides(loaded):
    page = open_page("drift")
    text = shown(page)
    assert "1 user of 1 changed" in text
    assert "about 0.05 of this to be a false flag" in text
    assert "7 users could not be scanned" in text
    row = page.dataframe[0].value.iloc[0]
    assert row["user"] == "ada"
    assert row["before"] == "1.00 (0.72 to 1.00, n 10)"
    assert row["after"] == "0.00 (0.00 to 0.28, n 10)"
    values = {metric.label: metric.value for metric in page.metric}
    assert values == {"before": "1.00", "after": "0.00", "change": "-1.00", "changed at": "2026-11-05"}
    assert len(page.get("plotly_chart")) == 1


def test_the_address_names_the_user(loaded):
    assert "was not scanned" in shown(open_page("drift", drift_user="nobody"))
    assert "ada" in [element.value for element in open_page("drift", drift_user="ada").text]


def test_no_change_is_an_answer(store, tmp_path):
    publisher(store, tmp_path)(
        signals=[
            {"signal_id": f"s{i}", "user_id": "steady", "kind": "thumb", "value": float(i % 2),
             "occurred_at": NOW.replace(minute=i % 60, hour=i // 60)}
            for i in range(80)
        ]
    )  # fmt: skip
    run_loop(store, "drift")
    page = open_page("drift")
    assert "No user of 1 has changed" in shown(page)
    assert page.dataframe[0].value["user"].tolist() == ["steady"]
    assert drift.findings(store)["flagged"].to_list() == [False]


def test_hostile_names_are_never_markup(store, tmp_path):
    load_shop(store, tmp_path, user=HOSTILE)
    page = open_page("drift")
    assert HOSTILE in [element.value for element in page.text]
    for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
        assert harmful not in markup(page)
