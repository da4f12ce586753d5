"""Lessons: the library by state, what is served, what changed between versions, and retiring."""

import pytest
from loop_data import HOSTILE, shop_file
from page_driver import click, markup, open_page, shown, store_for_pages

from pipelines.lessons import review
from store import lessons, playbooks
from store.lesson_reviews import LessonText


@pytest.fixture
def store(tmp_path):
    """A store with what the loop proposes for the shop."""
    with store_for_pages(tmp_path / "trimtab.duckdb", shop_file()) as opened:
        yield opened


@pytest.fixture
def active(store):
    """The id of the one active lesson."""
    lesson = lessons.queue(store)["lesson_id"][0]
    review.approve(store, lesson, version=1, operator="Ada")
    return lesson


def test_an_empty_store_says_how_lessons_come_about(tmp_path):
    with store_for_pages(tmp_path / "empty.duckdb"):
        assert "No lessons yet" in shown(open_page("lessons"))


def test_the_answer_is_on_top_and_the_table_has_every_lesson(store, active):
    page = open_page("lessons")
    waiting = lessons.queue(store).height
    assert "1 active lesson for 1 agent" in shown(page)
    table = page.dataframe[0].value
    assert len(table) == waiting + 1
    assert sorted(table["state"].unique()) == ["active", "proposed"]
    assert table[table["state"] == "active"]["served"].tolist() == [True]
    page.pills(key="state").set_value(["active"]).run()
    assert len(page.dataframe[0].value) == 1


def test_one_lesson_shows_its_reviews_and_texts(store, active):
    review.edit(store, active, version=1, operator="Bob", text=LessonText("Title two", "When", None, "Do two"))
    text = shown(open_page("lessons", lesson=active))
    assert "Title two" in text
    assert "edit (version 2)  Bob" in text
    assert "approve (version 1)  Ada" in text
    assert "Served since" in text


def test_retiring_takes_it_out_of_the_playbook_and_undo_brings_it_back(store, active):
    page = open_page("lessons", lesson=active)
    page.text_area(key="retire_reason").set_value("harmful")
    click(page, "retire_confirm")
    assert lessons.one(store, active)["state"] == "retired"
    assert playbooks.latest(store)["lesson_ids"].to_list() == [[]]
    assert "version 2 now" in shown(page)
    assert not [button for button in page.button if button.key == "retire_confirm"]
    click(page, "undo_review")
    assert lessons.one(store, active)["state"] == "active"


def test_a_lesson_that_does_not_exist_is_said(store, active):
    page = open_page("lessons", lesson="nothing")
    assert "no such lesson" in shown(page)


def test_an_active_lesson_that_is_not_served_is_pointed_out(store, active):
    second = lessons.queue(store)["lesson_id"][0]
    first = lessons.one(store, active)
    same = LessonText("Other title", first["when_text"], None, first["do_text"])
    review.edit(store, second, version=1, operator="Ada", text=same)
    review.approve(store, second, version=2, operator="Ada")
    page = open_page("lessons", lesson=second)
    assert "Active but not served" in shown(page)


def test_the_playbook_is_shown_as_served_with_the_difference_between_versions(store, active):
    review.edit(store, active, version=1, operator="Bob", text=LessonText("Title two", "When", None, "Do two"))
    page = open_page("lessons", lessons_tab="Playbooks")
    assert playbooks.body(store, "shop", 2).strip() in shown(page)
    changed = page.code[-1].value
    assert page.code[-1].language == "diff"
    assert "+Do: Do two" in changed
    assert "-Do: " in changed
    page.selectbox(key="before").set_value(2).run()
    assert "read the same" in shown(page)


def test_hostile_text_is_never_markup(store, active):
    hostile = LessonText(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    review.edit(store, active, version=1, operator=HOSTILE, text=hostile)
    page = open_page("lessons", lesson=active)
    assert HOSTILE in [element.value for element in page.text]
    for harmful in ("<img", "](http", "**bold", ":red[", "$x^2$"):
        assert harmful not in markup(page)
