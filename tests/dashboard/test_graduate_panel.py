"""The panel of graduation: what may graduate, training data, fine-tuning and trials, by a person's clicks."""

import pytest
from graduation_world import AGENT, LESSON, fill, measure
from lesson_library import force
from loop_data import HOSTILE
from page_driver import click, markup, shown, store_for_pages
from streamlit.testing.v1 import AppTest

from store import fine_tunings, graduation, graduation_trials, lessons


def page():
    from dashboard.learn.actions import notice
    from dashboard.lessons import graduate_panel

    notice()
    graduate_panel.panel(())


def opened():
    app = AppTest.from_function(page, default_timeout=60)
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "t.duckdb") as held:
        yield held


def test_an_empty_store_says_how_lessons_graduate(store):
    assert "No lesson may graduate yet" in shown(opened())


def test_what_a_lesson_lacks_is_named(store, tmp_path):
    fill(store, tmp_path, tasks=1)
    measure(store, store.clock, ["better", "better"])
    assert "2 of 3 runs" in shown(opened())


def test_from_payoff_to_training_data_to_a_job_to_a_trial(store, tmp_path):
    fill(store, tmp_path)
    measure(store, store.clock, ["better"] * 4)
    app = click(opened(), f"graduate_export_{AGENT}")
    assert "Export 1 is made" in shown(app)
    assert "Conversations: 22 of 24 candidates" in shown(app)
    app.text_input(key="tune_model_1").set_value("base-1")
    app.number_input(key="tune_price_1").set_value(25.0)
    click(app, "tune_go_1")
    assert fine_tunings.one(store, 1)["usd_per_million"] == 25.0
    # No model is configured here: it cannot be approved, and says what to do.
    assert "no model server is configured" in shown(click(app, "tune_approve_1"))
    app.text_area(key="tune_reason_1").set_value("Later.")
    click(app, "tune_decline_1")
    assert fine_tunings.one(store, 1)["state"] == "declined"
    app.text_input(key="trial_name").set_value("ft:base-1:shop")
    app = click(app, "trial_begin")
    assert lessons.one(store, LESSON)["holdout"] == 0.5
    assert "withheld from 50%" in shown(app)
    graduation_trials.look(
        store, 1, "absorbed", "No difference.",
        {"served": 900, "withheld": 900, "effect": 0.0, "lower": -0.01, "upper": 0.01},
    )  # fmt: skip
    app = click(opened(), "trial_graduate_1")
    assert lessons.one(store, LESSON)["state"] == "graduated"
    assert "Graduated" in shown(app)


def test_hostile_titles_and_messages_are_shown_as_they_are(store, tmp_path):
    fill(store, tmp_path)
    measure(store, store.clock, ["better"] * 4)
    store.write(lambda connection: connection.execute("UPDATE lesson_versions SET title = $title", {"title": HOSTILE}))
    app = opened()
    assert not [text for text in markup(app) if "onerror" in text]
    force(store, LESSON, agent="*")
    assert graduation.exports(store).is_empty()
