"""What follows a known intervention: scope, time, and who knows of it."""

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from incident_world import CHANGE, finding

from pipelines.incidents.explained import SUBJECT, settle, worse
from pipelines.incidents.grouping import SCANNED
from store import drift, interventions


def known(*rows):
    """Change points as (id, hours after the change, origin, agent, segment)."""
    frame = [
        {"intervention_id": name, "kind": "other", "agent": agent, "segment": segment, "title": name, "origin": origin,
         "happened_at": CHANGE + timedelta(hours=hours)}
        for name, hours, origin, agent, segment in rows
    ]  # fmt: skip
    return pl.DataFrame(frame, schema=interventions.INTERVENTIONS)


def found(*rows):
    frame = pl.DataFrame(list(rows), schema=drift.FOUND, orient="row")
    return frame.with_columns(
        run_id=pl.lit(1, pl.Int64), explained_by=pl.lit(None, pl.String), found_at=pl.lit(CHANGE)
    ).select(list(drift.FINDINGS))


def by(findings, change_points, agents=None, users=1_000):
    scanned = pl.DataFrame({"segment": ["gold"], "users": [users]}, schema=SCANNED)
    settled = settle(findings, scanned, change_points, {name: frozenset(each) for name, each in (agents or {}).items()})
    return settled.explained["explained_by"].to_list()


def user(**changed):
    return finding(changed.pop("at", CHANGE), user_id="u", segment="gold", **changed)


@pytest.mark.parametrize(
    ("hours", "explained"), [(0, True), (-24 * 2, True), (-24 * 2.9, True), (-24 * 3.1, False), (47, True), (49, False)]
)
def test_it_happened_when_the_change_may_have(hours, explained):
    """The set of times is two days wide on either side, and users react within a day."""
    assert by(found(user()), known(("n", hours, "noted", None, None))) == (["n"] if explained else [None])


def test_however_unsure_the_time_is_only_days_around_the_likeliest_count():
    wide = user(changed_from=CHANGE - timedelta(days=40), changed_to=CHANGE + timedelta(days=40))
    assert by(found(wide), known(("n", -24 * 7, "noted", None, None))) == [None]
    assert by(found(wide), known(("n", -24 * 4, "noted", None, None))) == ["n"]


def test_of_several_the_noted_one_explains_then_the_nearest():
    points = known(("near", 1, "derived", None, None), ("far", -20, "derived", None, None))
    assert by(found(user(effect=0.2)), points) == ["near"]
    points = known(("near", 1, "derived", None, None), ("said", -20, "noted", None, None))
    assert by(found(user(effect=0.2)), points) == ["said"]


@pytest.mark.parametrize(
    ("metric", "effect", "explained"),
    [
        ("reward", 0.2, True), ("reward", -0.2, False), ("retry", -0.2, True), ("retry", 0.2, False),
        ("cost", 0.5, True), ("latency", 0.5, True), ("output length", 0.5, True), ("gone", 0.1, False),
    ],
)  # fmt: skip
def test_what_the_store_derived_does_not_explain_harm(metric, effect, explained):
    rows = found(user(metric=metric, effect=effect))
    assert by(rows, known(("d", 0, "derived", None, None))) == (["d"] if explained else [None])
    assert by(rows, known(("n", 0, "noted", None, None))) == ["n"]
    assert worse(metric, "up" if effect > 0 else "down") is not explained


def test_the_scope_of_an_intervention():
    there, elsewhere = known(("n", 0, "noted", "shop", None)), known(("n", 0, "noted", "desk", None))
    assert by(found(user(agent="shop")), there) == ["n"]
    assert by(found(user(agent="shop")), elsewhere) == [None]
    # Of a user whose finding names no agent, the agents that they had answers of count.
    assert by(found(user()), there, {"u": ["shop"]}) == ["n"]
    assert by(found(user()), there, {"u": ["desk"]}) == [None]
    gold, iron = known(("n", 0, "noted", None, "gold")), known(("n", 0, "noted", None, "iron"))
    assert (by(found(user()), gold), by(found(user()), iron)) == (["n"], [None])
    assert by(found(finding(CHANGE, level="population", agent="shop")), gold) == [None]  # says nothing of everybody


def test_findings_of_one_cause_are_explained_together():
    """Users whose own times are off by more than their sets follow with those they changed with."""
    rows = [
        finding(CHANGE + timedelta(hours=7 * i), user_id=f"u{i}", segment="gold", agent="shop") for i in range(-8, 9)
    ]
    rows = [{**row, "changed_from": row["changed_at"], "changed_to": row["changed_at"]} for row in rows]
    points = known(("n", 0, "noted", "shop", None))
    assert set(by(found(*rows), points, users=100)) == {"n"}
    assert None in by(found(*rows), points, users=1_000)  # too few to be of one cause: each by its own times


_FINDINGS = st.lists(
    st.tuples(
        st.integers(0, 25), st.sampled_from(["reward", "retry", "cost"]), st.floats(-30, 30), st.floats(0, 6),
        st.floats(-1, 1), st.sampled_from(["user", "user", "user", "segment", "population"]),
    ),
    max_size=40, unique_by=lambda row: (row[5], row[0] if row[5] == "user" else 0, row[1]),
)  # fmt: skip
_POINTS = st.lists(
    st.tuples(
        st.uuids().map(str), st.floats(-700, 700), st.sampled_from(["noted", "derived"]),
        st.sampled_from([None, "shop", "desk"]), st.sampled_from([None, "gold", "iron"]),
    ),
    max_size=6,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(_FINDINGS, _POINTS, st.integers(1, 400))
def test_every_finding_is_explained_in_one_group_or_lone(rows, points, users):
    findings = found(
        *(
            finding(
                CHANGE + timedelta(days=days), level=level, user_id=f"u{number}" if level == "user" else None,
                segment=None if level == "population" else ("gold", "iron")[number % 2] if level == "user" else "gold",
                agent=None if level == "user" else "shop", metric=metric, effect=effect,
                changed_from=CHANGE + timedelta(days=days - width), changed_to=CHANGE + timedelta(days=days + width),
            )
            for number, metric, days, width, effect, level in rows
        )
    )  # fmt: skip
    scanned = pl.DataFrame({"segment": ["gold", "iron"], "users": [users, users]}, schema=SCANNED)
    settled = settle(findings, scanned, known(*points), {"u1": frozenset(["shop"]), "u2": frozenset(["desk"])})
    assert settled.explained.select(SUBJECT).equals(findings.select(SUBJECT))
    parts = [
        settled.explained.drop_nulls("explained_by").select(SUBJECT),
        *(one.findings.select(SUBJECT) for one in settled.groups),
        settled.lone.select(SUBJECT),
    ]
    whole = pl.concat(parts)
    assert whole.height == findings.height
    assert whole.unique().sort(SUBJECT).equals(findings.select(SUBJECT).sort(SUBJECT))
