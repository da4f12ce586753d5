"""A finding on texts, which has no means and no effect: shown with the words, never with the text as markup."""

import json
from datetime import timedelta

import polars as pl
import pytest
from drift_world import CHANGED, SUMMARY
from loop_data import HOSTILE, NOW
from page_driver import markup, open_page, shown, store_for_pages, unescaped
from publishing import publisher

from dashboard.drift import words
from store import drift, links, users
from store.drift_events import WORDS

WHO = "ann"


@pytest.fixture
def world(tmp_path):
    """A user who asked about trains, then refunds, with a flagged finding and one that was scanned only."""
    with store_for_pages(tmp_path / "trimtab.duckdb") as store:
        begin = NOW - timedelta(days=40)
        traces = [
            {"trace_id": f"t{at}", "agent": "shop", "user_id": WHO, "session_id": f"t{at}",
             "started_at": begin + timedelta(hours=16 * at), "ended_at": begin + timedelta(hours=16 * at, seconds=1),
             "input": ("a train please" if begin + timedelta(hours=16 * at) < CHANGED else "my refund please")
             + (f" {HOSTILE}" if at % 2 else ""),
             "metadata": json.dumps({})}
            for at in range(60)
        ]  # fmt: skip
        publisher(store, tmp_path / "more")(traces=traces)
        links.refresh(store)
        users.count(store)
        base = dict.fromkeys(drift.FOUND) | {
            "level": "user", "metric": WORDS, "likelihood": "embedding", "events": 40, "events_total": 60,
            "statistic": 6.0, "q_value": 0.01, "changed_at": CHANGED, "before_n": 20, "after_n": 20,
        }  # fmt: skip
        found = pl.DataFrame(
            [
                {**base, "user_id": WHO, "p_value": 1e-5, "flagged": True},
                {**base, "user_id": "bob", "p_value": 0.6, "flagged": False, "changed_at": None},
            ],
            schema=drift.FOUND,
        )
        row = {"level": "user", "metric": WORDS, "likelihood": "embedding", "reason": "The values are texts.",
               "threshold": 0.0, "events": 60, "ignored": 0, "subjects": 2, "scanned": 2, "flagged": 1, "too_few": 0,
               "missing_median": None, "explained": 0.1}  # fmt: skip
        drift.record(
            store, found, SUMMARY, measured=pl.DataFrame([row], schema=drift.METRICS), data_version=1, code_version="t"
        )
        yield store


def test_the_list_and_the_finding_show_words_and_no_means(world):
    page = open_page("drift", everyone="true")
    assert not page.exception
    table = page.dataframe[0].value
    assert table["change"].tolist() == ["—"] * 2 or set(table["change"]) == {words.effect(None, "embedding")}
    assert table["before"].tolist() == ["n 20", "n 20"]
    row = drift.findings(world, user_id=WHO).row(0, named=True)
    page = open_page("drift", finding=words.identity(row))
    assert not page.exception
    said = unescaped(shown(page))
    assert "Share of sessions with the word" in said
    assert "no size in a unit" in said
    assert "shrunk" not in said.split("no size in a unit")[0].rsplit("embedding likelihood", 1)[-1]
    (listed,) = [frame.value for frame in page.dataframe if "word" in frame.value.columns]
    told = {row["word"]: (row["before"], row["after"]) for row in listed.to_dict("records")}
    assert told["refund"] == (0.0, 100.0)
    assert told["train"] == (100.0, 0.0)
    assert listed["word"].tolist().index("refund") < listed["word"].tolist().index("train")
    assert not any(piece in markup(page) for piece in ("<img", "](http", ":red["))


def test_a_user_without_a_change_and_the_heat_map_are_shown_too(world):
    page = open_page("users", user=WHO, metric=WORDS)
    assert not page.exception
    assert "Share of sessions with the word" in unescaped(shown(page))
    page = open_page("users", user="bob", metric=WORDS)
    assert not page.exception
    page = open_page("drift", tab="Heat map")
    assert not page.exception
    assert "other words" in unescaped(shown(page))
    page = open_page("drift", drift_user="bob", everyone="true")
    assert not page.exception
