"""What changed since the operator was last here, and what counts as having been here."""

from datetime import timedelta

import pytest
from loop_data import NOW
from page_driver import click, open_page, shown, store_for_pages
from publishing import publisher

from dashboard.access.actor import LOCAL
from dashboard.feel import since
from dashboard.intake import places
from dashboard.settings_page import places as settings_places
from store import visits


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


def _settled(store):
    """After this everything that was submitted is written."""
    store.write(lambda connection: None)


def _at(store, moment):
    store.clock.moment = moment


def _loaded(store, tmp_path):
    store.write(
        lambda connection: connection.execute(
            """INSERT INTO ingest_batches (batch_id, source, file_name, state, traces, received_at, finished_at)
            VALUES (1, 's', 'f', 'done', 3, $now, $now)""",
            {"now": store.clock.now()},
        )
    )
    publisher(store, tmp_path)(
        traces=[{"trace_id": f"t{i}", "agent": "desk", "started_at": NOW - timedelta(days=1)} for i in range(3)]
    )


def _rows(store):
    with store.read() as reader:
        return reader.any_frame("SELECT * FROM operator_visits").to_dicts()


def test_a_visit_ends_after_half_an_hour_of_nothing(store):
    first = visits.arrive(store, "a@x.example")
    assert first.before_at is None
    _at(store, NOW + timedelta(minutes=29))
    assert visits.arrive(store, "a@x.example").began_at == NOW
    _at(store, NOW + timedelta(minutes=58))
    assert visits.arrive(store, "a@x.example").before_at is None
    _at(store, NOW + timedelta(minutes=58 + 31))
    again = visits.arrive(store, "a@x.example")
    assert (again.before_at, again.began_at) == (NOW + timedelta(minutes=58), NOW + timedelta(minutes=89))
    _settled(store)
    (row,) = _rows(store)
    assert (row["before_at"], row["began_at"]) == (again.before_at, again.began_at)


def test_operators_have_visits_of_their_own_and_their_zone_stays(store):
    visits.arrive(store, "a@x.example")
    visits.set_zone(store, "a@x.example", "browser")
    assert visits.arrive(store, "b@x.example").zone is None
    _at(store, NOW + timedelta(hours=2))
    later = visits.arrive(store, "a@x.example")
    assert (later.zone, later.before_at) == ("browser", NOW)
    _settled(store)
    assert {row["operator"]: row["zone"] for row in _rows(store)} == {"a@x.example": "browser", "b@x.example": None}


def test_within_five_minutes_nothing_is_written(store):
    visits.arrive(store, "a@x.example")
    _at(store, NOW + timedelta(minutes=4))
    visits.arrive(store, "a@x.example")
    _settled(store)
    assert [row["last_at"] for row in _rows(store)] == [NOW]
    _at(store, NOW + timedelta(minutes=6))
    visits.arrive(store, "a@x.example")
    _settled(store)
    assert [row["last_at"] for row in _rows(store)] == [NOW + timedelta(minutes=6)]


def test_what_changed_is_counted_from_the_moment_on(store, tmp_path):
    _loaded(store, tmp_path)

    def work(connection):
        for number, minutes in ((1, -5), (2, 5), (3, 6)):
            at = {"at": NOW + timedelta(minutes=minutes), "n": number}
            connection.execute(
                """INSERT INTO lessons (lesson_id, agent, state, version, origin, created_at, updated_at)
                VALUES ('l' || $n, 'desk', 'proposed', 1, 'contrast', $at, $at)""", at,
            )  # fmt: skip
            connection.execute(
                """INSERT INTO job_runs (run_id, job, cause, attempt, status, started_at, finished_at, code_version)
                VALUES ($n + 100, 'rewards', 'manual', 1, 'failed', $at, $at, 'c')""", at,
            )  # fmt: skip
            connection.execute(
                """INSERT INTO audit_log VALUES ($n + 1000, $at, CASE $n WHEN 2 THEN 'a@x.example' ELSE 'b' END,
                'x', 'y', '{}', '', '', '')""", at,
            )  # fmt: skip

    store.write(work)
    counts = visits.changes(store, NOW, "a@x.example").row(0, named=True)
    assert counts == {
        "traces": 0, "failed_batches": 0, "lessons": 2, "users": 0, "incidents": 0, "jobs_failed": 2, "notices": 0,
        "by_others": 1,
    }  # fmt: skip
    assert visits.changes(store, NOW - timedelta(days=1), "b")["traces"].item() == 3
    labels = [label for label, *_ in since.entries(counts)]
    assert labels == ["2 lessons proposed", "2 failed runs of jobs", "1 action of other operators"]


def test_the_overview_says_what_changed_and_counts_anew_once_seen(store, tmp_path):
    visits.arrive(store, LOCAL)
    _at(store, NOW + timedelta(hours=5))
    _loaded(store, tmp_path)
    app = open_page("overview")
    assert "Since you were last here" in shown(app)
    assert "3 new traces" in [link.label for link in app.get("page_link")]
    click(app, "since_seen")
    assert "Nothing has changed since you were last here" in shown(app)


def test_a_first_visit_says_nothing_of_changes(store, tmp_path):
    _loaded(store, tmp_path)
    assert "you were last here" not in shown(open_page("overview"))


def test_of_a_batch_that_was_open_only_traces_that_ran_later_count(store, tmp_path):
    publisher(store, tmp_path)(
        traces=[
            {"trace_id": f"t{minutes}", "agent": "desk", "started_at": NOW + timedelta(minutes=minutes)}
            for minutes in (-60, -1, 1, 60)
        ]
    )
    store.write(
        lambda connection: connection.execute(
            """INSERT INTO ingest_batches (batch_id, source, file_name, format, state, traces, received_at, finished_at)
            VALUES (1, 's', 'live', 'live', 'done', 4, $begun, $now)""",
            {"begun": NOW - timedelta(hours=3), "now": NOW + timedelta(hours=2)},
        )
    )
    counted = {
        since: visits.changes(store, NOW + timedelta(minutes=since), "a")["traces"].item()
        for since in (-200, 0, 30, 130)
    }
    assert counted == {-200: 4, 0: 2, 30: 1, 130: 0}


def test_links_name_tabs_that_are_there():
    listed = since.entries(dict.fromkeys(visits.CHANGES.names(), 1))
    tabs = {
        "views/settings.py": (settings_places.TAB, settings_places.TABS),
        "views/data.py": (places.TAB, places.TABS),
    }
    checked = 0
    for _, _, page, query in listed:
        if page in tabs:
            ((name, value),) = (query or {}).items()
            assert name == tabs[page][0]
            assert value in tabs[page][1]
            checked += 1
    assert checked == 4
