"""Exploration, the tabs Guardrails and Ledger."""

from datetime import timedelta

import polars as pl
import pytest
from explore_data import AGENT, steered_file
from loop_data import NOW
from page_driver import click, open_page, shown, store_for_pages

from dashboard.explore import guardrail_words, ledger
from dashboard.explore.decision_list import why
from dashboard.ui.theme import LIGHT
from pipelines.exploration import regret
from store import decisions, exploration, guardrails, logged_decisions


@pytest.fixture
def steered(tmp_path):
    """A store with the steered agent."""
    with store_for_pages(tmp_path / "trimtab.duckdb", steered_file()) as opened:
        yield opened


def define(page, kind, **values):
    """The page after a guardrail of this kind was to be defined."""
    page.selectbox(key="guardrail_kind_shop").set_value(kind).run()
    for field, value in values.items():
        key = f"guardrail_{field}_shop_{kind}" if field in ("subject", "threshold") else f"guardrail_{field}_shop"
        found = [each for each in page.main if getattr(each, "key", None) == key]
        found[0].set_value(value)
    return click(page, "guardrail_define_shop")


def test_every_kind_has_words_and_a_form():
    assert set(guardrail_words.KINDS) == set(guardrails.KINDS)
    assert set(guardrail_words.SUBJECTS) | set(guardrail_words.THRESHOLDS) == set(guardrails.KINDS)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("off_limits_tool", {"subject": "delete_account"}, ("delete_account", None)),
        ("off_limits_site", {"subject": "Example.com"}, ("example.com", None)),
        ("max_spend_usd", {"threshold": 0.25}, (None, 0.25)),
        (
            "safety_floor", {"subject": "error_rate", "threshold": 0.1, "then": "switch_off", "arm": "b"},
            ("error_rate", 0.1),
        ),
    ],
)  # fmt: skip
def test_a_guardrail_is_defined(steered, kind, values, expected):
    page = define(open_page("exploration", tab="Guardrails"), kind, **values)
    row = guardrails.listed(steered, agent=AGENT).row(0, named=True)
    assert (row["kind"], row["subject"], row["threshold"], row["state"]) == (kind, *expected, "on")
    assert (row["arm"], row["on_violation"]) == (values.get("arm"), values.get("then", "alert"))
    assert guardrail_words.kind_words(kind) in shown(page).replace("\\", "")


def test_what_the_store_refuses_is_said(steered):
    page = define(open_page("exploration", tab="Guardrails"), "off_limits_site", subject="not a host")
    assert "Expected a host such as" in shown(page).replace("\\", "")
    page = define(page, "max_actions_per_minute", threshold=2.5)
    assert "a whole number from 1" in shown(page).replace("\\", "")
    assert guardrails.listed(steered).is_empty()


def test_switching_off_wants_a_reason(steered):
    guardrails.define(steered, AGENT, kind="max_spend_usd", threshold=1.0, by="Ada")
    page = click(open_page("exploration", tab="Guardrails"), "guardrail_switch_shop")
    assert "Write why it may be switched off" in shown(page)
    page.text_input(key="guardrail_reason_shop").set_value("a test")
    page = click(page, "guardrail_switch_shop")
    assert guardrails.listed(steered)["state"].to_list() == ["off"]
    click(page, "guardrail_switch_shop")
    assert guardrails.listed(steered)["state"].to_list() == ["on"]


def test_violations_link_to_their_traces(steered):
    rail = guardrails.define(steered, AGENT, kind="off_limits_tool", subject="rm", by="Ada")
    rows = [
        {"agent": AGENT, "guardrail_id": rail, "trace_id": f"t{place:04}", "span_id": "1", "arm": "b",
         "occurred_at": NOW - timedelta(hours=place), "detail": f"rm was called {place}", "action": "alert"}
        for place in range(6)
    ]  # fmt: skip
    guardrails.add_violations(steered, pl.DataFrame(rows, schema=guardrails.FOUND))
    page = open_page("exploration", tab="Guardrails")
    assert "rm was called 0" in shown(page)
    assert "trace=t0000" in str(page.get("page_link")[0].proto)
    held = next(f.value for f in page.dataframe if "violations" in f.value.columns)
    assert (held["violations"].tolist(), held["traces"].tolist()) == ([6], [6])
    listed = next(f.value for f in page.dataframe if "detail" in f.value.columns)
    assert len(listed) == 6


def test_safety_floors_show_each_look(steered):
    rail = guardrails.define(
        steered, AGENT, kind="safety_floor", subject="reward", threshold=0.05, on_violation="switch_off", by="Ada"
    )
    for place in range(3):
        look = {
            "agent": AGENT, "guardrail_id": rail, "arm": "b", "n_arm": 200 + place, "n_baseline": 300, "estimate": -0.1,
            "lower": -0.2, "upper": -0.02 * place, "verdict": "can't tell yet", "basis": "randomised",
        }  # fmt: skip
        guardrails.add_looks(
            steered, pl.DataFrame([look], schema={name: guardrails.LOOKS[name] for name in guardrails.SEEN_LOOK})
        )
        steered.clock.moment += timedelta(hours=1)
    page = open_page("exploration", tab="Guardrails")
    looks = next(f.value for f in page.dataframe if "floor" in f.value.columns)
    assert looks["limits"].tolist() == ["-0.2000 to -0.0400"]
    assert "Dashed: the floor, -0.05" in shown(page)


def test_the_ledger_adds_up_and_shows_the_budget(steered):
    exploration.set_bounds(
        steered, AGENT, "agent", "", floor=None, cap=None, dial=None, daily_regret_budget=1.0, solicit_rate=None,
        automatic=None, by="Ada",
    )  # fmt: skip
    page = open_page("exploration", tab="Ledger")
    figures = {metric.label: metric.value for metric in page.metric}
    # 700 decisions of .01 and .04 points each; 36 of them on a whole day, 1.44 points.
    assert (figures["Expected regret"], figures["Worst-case regret"]) == ("7.00 points", "28.00 points")
    whole = regret.realised(
        logged_decisions.read(steered, AGENT).with_columns(
            decided_at=pl.lit(NOW, logged_decisions.LOGGED["decided_at"])
        )
    ).row(0, named=True)
    assert whole["realised"] < 0  # planted: b is better, and b is what was explored
    assert figures["Realised regret"] == f"{whole['realised']:+,.2f} points"
    days = decisions.ledger(steered, AGENT, NOW - timedelta(days=29))
    within = sum(1 for value in days["worst_regret"] if value <= 1.0)
    assert f"{within} of {days.height} days within 1; highest 1.44" in shown(page)
    assert "a had the highest mean among 2 eligible arms." in shown(page)


def test_the_figure_of_the_ledger_has_a_line_at_the_budget(steered):
    days = decisions.ledger(steered, AGENT, NOW - timedelta(days=29))
    drawn = ledger.figure(days, 1.5, LIGHT)
    assert [shape.y0 for shape in drawn.layout.shapes] == [1.5]
    assert not ledger.figure(days, None, LIGHT).layout.shapes
    assert sum(drawn.data[0].y) == pytest.approx(28.0)


DECIDED = {
    "arm": "b", "greedy_arm": "a", "arms": ["a", "b"], "propensities": [0.9, 0.1], "rate": 0.1, "allowed_rate": 0.2,
    "budget_scale": 1.0, "sticky": False, "draw": 0.9512, "explore": True, "propensity": 0.1, "expected_regret": 0.003,
    "worst_regret": 0.02, "solicit": False, "solicit_propensity": 0.02, "note": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "It might be left with probability 10.0 % (20.0 % allowed). The draw was 0.9512. b came up, exploring"),
        ({"rate": 0.0, "allowed_rate": 0.0}, "Nothing was explored: the rate was 0."),
        ({"budget_scale": 0.25}, "taken times 0.25"),
        ({"sticky": True}, "The session had its arm already"),
        ({"solicit": True}, "told to ask for feedback (probability 2.0 %)"),
        ({"note": "the user opted out"}, "Note: the user opted out"),
    ],
)
def test_why_an_arm_in_words(changes, said):
    assert said in why({**DECIDED, **changes})
