"""Panels on reward models: versions side by side, putting one in use, weights, arms by segment, calibration."""

from dataclasses import replace

import polars as pl
import pytest
from loop_data import HOSTILE
from page_driver import click, markup, shown, store_for_pages
from publishing import publisher
from streamlit.testing.v1 import AppTest

from store import audit, reward_versions, rewards
from store.reward_versions import Report


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


@pytest.fixture
def versions(store, tmp_path):
    """Two versions: one in use, one candidate with a worse Brier score and a full report."""
    publisher(store, tmp_path)(traces=[{"trace_id": f"t{i}", "agent": "shop", "arm": "a"} for i in range(4)])
    for number, brier in ((1, 0.18), (2, 0.21)):
        rewards.publish(store, _fitted(number, brier))
    return store


def _fitted(number, brier):
    rows = [
        (held, metric, value, value - 0.01, value + 0.01, 120, 60, "solicited")
        for held in ("users and tasks", "users", "tasks")
        for metric, value in (("brier", brier), ("log_loss", 0.5), ("ece", 0.02), ("spearman", 0.4))
    ]
    bins = [
        (held, at, 0.3 + at / 5, 0.3 + at / 5, 0.2 + at / 5, 0.4 + at / 5, 40, "solicited")
        for held in ("users and tasks", "users", "tasks")
        for at in range(3)
    ]
    report = Report(
        activate=number == 1,
        reason="the first version" if number == 1 else "its Brier score is worse",
        metrics=pl.DataFrame(rows, schema=reward_versions.METRICS, orient="row"),
        calibration=pl.DataFrame(bins, schema=reward_versions.BINS, orient="row"),
        weights=pl.DataFrame(
            [(None, HOSTILE, "step", -1.2, 0.1, 40, 0.1), (None, "rare", "text", 3.0, 0.1, 3, 0.01)],
            schema=reward_versions.WEIGHTS, orient="row",
        ),
        segment_means=pl.DataFrame(
            [("shop", HOSTILE, HOSTILE, 0.61, 0.02, 30, 50, 9), ("shop", "b", "few", 0.5, None, 1, 2, 1)],
            schema=reward_versions.SEGMENT_MEANS, orient="row",
        ),
    )  # fmt: skip
    frame = pl.DataFrame({"trace_id": [f"t{i}" for i in range(4)], "mean": number / 10, "sd": 0.1, "signals": 1})
    return rewards.Fitted("trace_model", {}, frame, pl.DataFrame(schema=rewards.CELLS), 4, 1, "0.1", report)


def _versions():
    from dashboard.learn import actions, model_panels
    from dashboard.ui import theme

    actions.notice()
    model_panels.versions(theme.current())


def _others(version):
    import polars

    from dashboard.learn import calibration_panels, model_panels
    from dashboard.ui import theme

    model_panels.feature_weights(version, theme.current())
    model_panels.arm_by_segment(version)
    model_panels.choice_of_arm({"choice_of_arm": [{"agent": "shop", "text": "No claim: nothing to tell."}]})
    model_panels.stated_weights(polars.DataFrame({"agent": ["shop"], "segment": ["busy"]}))
    calibration_panels.show(version, theme.current())


def _calibration(version):
    from dashboard.learn import calibration_panels
    from dashboard.ui import theme

    calibration_panels.show(version, theme.current())


def _choice():
    from dashboard.learn import model_panels

    lift = {"agent": "shop", "text": "Adds.", "lift": 0.1, "n": 900, "groups": 300, "switched": 0.25}
    model_panels.choice_of_arm({"choice_of_arm": [lift]})


def test_the_choice_of_arm_says_in_words_what_it_rests_on():
    text = shown(_run(_choice))
    assert "One fixed look; cross-validated by person; rewards of the model stand in for outcomes." in text
    assert "n 900 requests of 300 people" in text


def _run(function, *args):
    app = AppTest.from_function(function, default_timeout=30, args=args).run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def test_an_empty_store_says_what_is_missing(store):
    assert "No reward model yet" in shown(_run(_versions))
    text = shown(_run(_others, 1))
    for said in (
        "No feature weights",
        "No arms or segments to compare",
        "Calibration cannot be checked",
        "No weight is set",
    ):
        assert said in text


def test_versions_stand_side_by_side_with_n_and_intervals(versions):
    page = _run(_versions)
    table = page.dataframe[0].value
    assert table["version"].tolist() == [2, 1]
    assert table["state"].tolist() == ["candidate", "active"]
    assert table["Brier score"].tolist() == [
        "0.2100 (0.2000 to 0.2200), n 120 solicited",
        "0.1800 (0.1700 to 0.1900), n 120 solicited",
    ]
    assert set(table["calibration error"]) == {"not enough data: 120 of 200 answers asked for at random"}
    assert "a candidate that waits for you: its Brier score is worse" in shown(page)


def test_a_version_is_put_in_use_only_with_reason_and_confirmation(versions):
    page = click(_run(_versions), "activate")
    assert "was not confirmed" in shown(page)
    page.checkbox(key="activate_confirmed").check()
    assert "no reason was given" in shown(click(page, "activate"))
    assert reward_versions.active(versions)["reward_model_id"] == 1
    page.checkbox(key="activate_confirmed").check()
    page.text_input(key="activate_reason").set_value("looks better to me")
    page = click(page, "activate")
    assert "Version 2 is in use from now on" in shown(page).replace("\\", "")
    assert reward_versions.active(versions)["reward_model_id"] == 2
    assert audit.recent(versions)["action"].to_list() == ["reward model activate"]


def test_weights_arms_and_calibration_come_with_n_and_hostile_names_stay_text(versions):
    page = _run(_others, 1)
    text = shown(page)
    frames = [frame.value for frame in page.dataframe]
    weights = next(frame for frame in frames if "share" in frame.columns)
    assert weights["feature"].tolist() == [HOSTILE]
    arms = next(frame for frame in frames if "arm" in frame.columns)
    assert arms.iloc[0][HOSTILE] == "0.610 ± 0.039, n 30 of 50"
    assert arms[["few", HOSTILE]].to_numpy().tolist() == [
        ["fewer than 30", "0.610 ± 0.039, n 30 of 50"], ["fewer than 30", "fewer than 30"],
    ]  # fmt: skip
    assert "As of the last fit" in text
    assert "Calibration error: not enough data: 120 of 200 answers asked for at random" in text
    assert not page.metric
    assert "n 120 labels: what people answered who were asked at random" in text
    assert "No claim: nothing to tell." in text
    for harmful in ("<img", "](http", "**bold", ":red["):
        assert harmful not in markup(page)


@pytest.mark.parametrize(("labels", "bins", "told"), [(200, 5, True), (199, 5, False), (400, 4, False)])
def test_a_calibration_error_needs_enough_labels_and_bins(store, tmp_path, labels, bins, told):
    publisher(store, tmp_path)(traces=[{"trace_id": f"t{i}", "agent": "shop"} for i in range(4)])
    diagram = [("users and tasks", at, 0.5, 0.5, 0.4, 0.6, labels // bins, "solicited") for at in range(bins)]
    report = Report(
        metrics=pl.DataFrame(
            [("users and tasks", "ece", 0.0312, 0.02, 0.05, labels, 60, "solicited")],
            schema=reward_versions.METRICS, orient="row",
        ),
        calibration=pl.DataFrame(diagram, schema=reward_versions.BINS, orient="row"),
    )  # fmt: skip
    rewards.publish(store, replace(_fitted(1, 0.2), report=report))
    page = _run(_calibration, 1)
    assert [one.value for one in page.metric] == (["0.031 (0.020 to 0.050)"] if told else [])
    assert ("not enough data" in shown(page)) is not told


def test_too_few_traces_of_every_arm_and_segment_say_how_many_are_missing(store, tmp_path):
    publisher(store, tmp_path)(traces=[{"trace_id": f"t{i}", "agent": "shop"} for i in range(4)])
    few = pl.DataFrame(
        [("shop", arm, "busy", 0.5, 0.1, 1, 12, 3) for arm in "ab"], schema=reward_versions.SEGMENT_MEANS, orient="row"
    )
    rewards.publish(store, replace(_fitted(1, 0.2), report=Report(segment_means=few)))
    page = _run(_others, 1)
    assert "12 of at least 30 traces of one arm in one segment" in shown(page)


def test_the_weight_between_stated_and_revealed_is_set_from_the_page(versions):
    page = _run(_others, 1)
    page.selectbox(key="stated_agent").set_value(1)
    page.slider(key="stated_weight").set_value(0.8)
    page.text_input(key="stated_reason").set_value("goals first")
    page = click(page, "stated_set")
    assert reward_versions.stated_weights(versions).select("agent", "segment", "weight").rows() == [("shop", None, 0.8)]
