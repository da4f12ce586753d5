"""Review: the queue, deciding by button, and text from traces that stays text."""

import pytest
from loop_data import HOSTILE, NOW, shop_file
from page_driver import click, markup, open_page, shown, store_for_pages
from publishing import publisher

from pipelines.lessons import review
from store import audit, lessons, playbooks
from store.lesson_reviews import LessonText


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


@pytest.fixture
def proposed(tmp_path):
    """A store with what the loop proposes for the shop."""
    with store_for_pages(tmp_path / "trimtab.duckdb", shop_file()) as opened:
        assert lessons.queue(opened).height >= 2
        yield opened


def test_an_empty_store_says_where_lessons_come_from(store):
    page = open_page("review")
    assert "No traces yet" in shown(page)
    assert not [button for button in page.button if button.key == "approve"]


def test_traces_without_rewards_say_what_is_missing(store, tmp_path):
    publisher(store, tmp_path)(traces=[{"trace_id": "t", "agent": "a", "input": "x"}])
    assert "No rewards yet" in shown(open_page("review"))


def test_a_decided_queue_says_that_nothing_waits(proposed):
    for row in lessons.queue(proposed).iter_rows(named=True):
        review.reject(proposed, row["lesson_id"], version=1, operator="Ada", reason="no")
    page = open_page("review")
    assert "Nothing waits for review" in shown(page)
    assert "Last review: rejected" in shown(page)


def test_the_first_lesson_is_shown_with_reach_and_evidence(proposed):
    queue = lessons.queue(proposed)
    page = open_page("review")
    text = shown(page)
    first = queue.row(0, named=True)
    assert f"{queue.height} lessons wait for you" in text
    assert first["do_text"] in text
    assert first["why"] in text
    assert "tested effect" in text
    reach = lessons.blast_radius(proposed, "shop", None, NOW)
    assert reach.traces == 28
    assert {metric.label: metric.value for metric in page.metric} == {
        "traces per day": "4.0",
        "users": str(reach.users),
    }
    assert "here they part" in text
    assert "good · action 1 · look_up" in text


def test_approving_serves_the_lesson_and_moves_on(proposed):
    first, second = lessons.queue(proposed)["lesson_id"][:2]
    page = click(open_page("review"), "approve")
    assert lessons.one(proposed, first)["state"] == "active"
    assert playbooks.latest(proposed)["lesson_ids"].to_list() == [[first]]
    assert [actor for actor in audit.recent(proposed)["actor"] if actor != "trimtab"] == ["local operator"]
    assert "version 1 now" in page.success[0].value.replace("\\", "")
    assert page.query_params["lesson"] == second
    assert lessons.one(proposed, second)["do_text"] in shown(page)


def test_undo_puts_it_back(proposed):
    first = lessons.queue(proposed)["lesson_id"][0]
    page = click(open_page("review"), "approve")
    page = click(page, "undo")
    assert lessons.one(proposed, first)["state"] == "proposed"
    assert page.query_params["lesson"] == first
    assert playbooks.latest(proposed)["body"].to_list() == [""]
    assert not [button for button in page.button if button.key == "undo"]


def test_rejecting_asks_for_a_reason(proposed):
    first = lessons.queue(proposed)["lesson_id"][0]
    page = click(open_page("review"), "reject")
    click(page, "reject_confirm")
    assert "no reason was given" in shown(page)
    assert lessons.one(proposed, first)["state"] == "proposed"
    page.text_area(key="reject_reason").set_value("not ours to tell")
    click(page, "reject_confirm")
    assert lessons.one(proposed, first)["state"] == "rejected"
    assert lessons.reviews(proposed)["reason"].to_list() == ["not ours to tell"]


def test_editing_makes_a_version(proposed):
    lesson = lessons.queue(proposed).row(0, named=True)
    page = click(open_page("review"), "edit")
    page.text_input(key=f"edit_title_{lesson['lesson_id']}_1").set_value("Look before you book")
    click(page, "edit_confirm")
    changed = lessons.one(proposed, lesson["lesson_id"])
    assert (changed["title"], changed["version"], changed["author"]) == ("Look before you book", 2, "local operator")
    assert "Look before you book" in shown(page)


def test_next_previous_and_skip_walk_the_queue(proposed):
    ids = lessons.queue(proposed)["lesson_id"].to_list()
    page = open_page("review", lesson=ids[1])
    assert page.query_params["lesson"] == ids[1]
    page = click(page, "previous")
    assert page.query_params["lesson"] == ids[0]
    assert page.button(key="previous").disabled
    page = click(click(page, "next"), "previous")
    page = click(page, "skip")
    assert page.query_params["lesson"] == ids[1]
    assert lessons.reviews(proposed).is_empty()


def test_every_decision_has_a_key(proposed):
    page = open_page("review")
    keys = {
        key: page.button(key=key).proto.shortcut for key in ("approve", "reject", "edit", "skip", "previous", "next")
    }
    assert keys == {"approve": "a", "reject": "x", "edit": "e", "skip": "s", "previous": "p", "next": "n"}


def test_a_decision_that_somebody_else_took_first_is_refused_and_said(proposed):
    first = lessons.queue(proposed)["lesson_id"][0]
    page = open_page("review")
    review.reject(proposed, first, version=1, operator="Bob", reason="mine")
    page = click(page, "approve")
    assert "the lesson is rejected" in shown(page).replace("\\", "")
    assert lessons.one(proposed, first)["state"] == "rejected"


def test_what_lint_blocks_is_said_and_approving_is_refused(proposed):
    first = lessons.queue(proposed)["lesson_id"][0]
    text = LessonText("Write to ada@example.com", "Always.", None, "Write.")
    review.edit(proposed, first, version=1, operator="Ada", text=text)
    page = open_page("review")
    assert "ada@example.com" in shown(page)
    page = click(page, "approve")
    assert "lint blocks the text" in shown(page).replace("\\", "")
    assert lessons.one(proposed, first)["state"] == "proposed"


def test_hostile_text_is_never_markup(proposed):
    first = lessons.queue(proposed)["lesson_id"][0]
    review.edit(proposed, first, version=1, operator="Ada", text=LessonText(HOSTILE, HOSTILE, HOSTILE, HOSTILE))
    page = open_page("review", lesson=first)
    assert HOSTILE in [element.value for element in page.text]
    assert HOSTILE in "\n".join(element.value for element in page.code)
    for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
        assert harmful not in markup(page)
