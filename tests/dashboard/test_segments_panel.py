"""The Segments tab: a rule is previewed, saved, applied, changed and removed; hostile names stay text."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from loop_data import HOSTILE, NOW
from page_driver import click, open_page, shown, store_for_pages, unescaped
from publishing import publisher
from signing_in import REVIEWER, come, signing_in
from streamlit.testing.v1 import AppTest

from store import job_runs, segments
from store.connection import Store
from store.segment_conditions import Condition
from store.segments import Rule


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        publisher(opened, tmp_path)(
            traces=[
                {
                    "trace_id": f"t{user}{number}", "agent": "shop", "user_id": f"u{user}",
                    "started_at": NOW - number * timedelta(hours=1),
                    "metadata": json.dumps({"plan": "pro" if user else "free", "segment": HOSTILE}),
                }
                for user in range(4)
                for number in range(user + 1)
            ]
        )  # fmt: skip
        yield opened


def opened() -> AppTest:
    return open_page("settings", settings="Segments")


def finished(store: Store) -> None:
    """Wait for the run of the job that the page has started."""
    for _ in range(2_000):
        latest = job_runs.latest(store).filter(job="segments")
        if latest.height and latest["status"][0] != "running":
            return
    raise AssertionError("the job did not end")


def test_a_rule_is_previewed_saved_and_applied(store: Store) -> None:
    page = opened()
    assert "There is no rule" in shown(page)
    page.text_input(key="segment_new_name").set_value("payers")
    page.text_input(key="segment_new_0_key").set_value("plan")
    page.text_area(key="segment_new_0_metadata_values").set_value("pro\nteam")
    page.text_input(key="segment_new_reason").set_value("they pay").run()
    assert page.button(key="segment_new_save").disabled
    page = click(page, "segment_new_preview")
    assert "3 users of 4 would be in this segment" in shown(page)
    moved = next(frame.value for frame in page.dataframe if "to" in frame.value.columns)
    assert moved.to_dict("records") == [{"from": " ".join(HOSTILE.split()), "to": "payers", "users": 3}]
    page = click(page, "segment_new_save")
    assert "Version 1 of the rule is saved" in unescaped(shown(page))
    finished(store)
    assert segments.rules(store).select("segment", "users").rows() == [("payers", 3)]


def test_a_preview_is_of_what_is_saved(store: Store) -> None:
    page = opened()
    page.text_input(key="segment_new_name").set_value("x")
    page.selectbox(key="segment_new_0_field").set_value("traces").run()
    page.text_input(key="segment_new_0_traces_values").set_value("2").run()
    page = click(page, "segment_new_preview")
    assert "3 users of 4" in shown(page)
    assert not page.button(key="segment_new_save").disabled
    page.text_input(key="segment_new_0_traces_values").set_value("3").run()
    assert page.button(key="segment_new_save").disabled
    page.text_input(key="segment_new_0_traces_values").set_value("many").run()
    page = click(page, "segment_new_preview")
    assert "Expected a whole number" in unescaped(shown(page))
    assert segments.rules(store).is_empty()


def test_a_rule_is_changed_and_removed(store: Store) -> None:
    rule = Rule(HOSTILE[:40], 7, (Condition("traces", "at least", ("2",)), Condition("agent", "is one of", ("shop",))))
    segments.put(store, rule, reason=HOSTILE, operator="ada")
    page = opened()
    page.selectbox(key="segment_rule").set_value(rule.segment.strip()).run()
    prefix = f"segment_{rule.segment.strip()}_1"
    assert page.number_input(key=f"{prefix}_priority").value == 7
    assert page.text_area(key=f"{prefix}_1_agent_values").value == "shop"
    page.number_input(key=f"{prefix}_priority").set_value(8).run()
    page = click(page, f"{prefix}_preview")
    page.text_input(key=f"{prefix}_reason").set_value("later").run()
    page = click(page, f"{prefix}_save")
    assert segments.rules(store).select("version", "priority").rows() == [(2, 8)]
    finished(store)
    click(page, f"segment_{rule.segment.strip()}_2_removed")
    assert segments.rules(store).is_empty()
    finished(store)


def test_only_admins_save(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    signing_in(store, monkeypatch)
    page = opened()
    page.text_input(key="segment_new_name").set_value("x")
    page.selectbox(key="segment_new_0_field").set_value("traces").run()
    page.text_input(key="segment_new_0_traces_values").set_value("2").run()
    page.text_input(key="segment_new_reason").set_value("why").run()
    page = click(page, "segment_new_preview")
    come(monkeypatch, REVIEWER)
    page = click(page, "segment_new_save")
    assert page.button(key="segment_new_save").disabled
    assert segments.rules(store).is_empty()
