"""What an action did is said once, and long enough to be read; nothing on the page moves for it."""

import pytest
from page_driver import open_page, store_for_pages
from streamlit.testing.v1 import AppTest

from dashboard.learn import actions
from dashboard.learn.actions import LEGIBLE
from store.errors import NotFound


class Seconds:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def seconds(monkeypatch):
    clock = Seconds()
    monkeypatch.setattr(actions, "time", clock)
    monkeypatch.setattr(actions, "permit", lambda role, action: None)
    return clock


def _page(succeeds):
    import streamlit as st

    from dashboard.learn import actions
    from store.errors import NotFound

    def work():
        if not succeeds:
            raise NotFound("operator", "eve <b>")
        return "The *second* is done."

    def act():
        actions.perform(work)

    actions.heading("Actions")
    st.button("Act", on_click=act)
    st.button("Look around")


def _without_a_heading():
    import streamlit as st

    from dashboard.learn import actions

    st.session_state["drawn"] = st.session_state.get("drawn", 0) + 1
    actions.show_report()
    st.text(f"drawn {st.session_state['drawn']} times")


def opened(succeeds=True):
    return AppTest.from_function(_page, args=(succeeds,)).run()


def said(app):
    return [shown.value for shown in (*app.success, *app.warning)]


def test_what_an_action_did_is_said_beside_the_title(seconds):
    app = opened()
    assert app.title[0].value == "Actions"
    assert said(app) == []
    app.button[0].click().run()
    assert said(app) == ["The \\*second\\* is done\\."]


def test_a_refusal_is_a_warning(seconds):
    app = opened(succeeds=False)
    app.button[0].click().run()
    assert len(app.warning) == 1
    assert str(NotFound("operator", "eve")).partition("eve")[0] in app.warning[0].value
    assert not app.success


def test_a_run_that_follows_at_once_says_it_again(seconds):
    app = opened()
    app.button[0].click().run()
    seconds.now += LEGIBLE / 2
    assert said(app.run()) == ["The \\*second\\* is done\\."]
    seconds.now += LEGIBLE / 2
    assert said(app.button[1].click().run()) == ["The \\*second\\* is done\\."]


def test_it_is_gone_with_the_first_run_after_it_could_be_read(seconds):
    app = opened()
    app.button[0].click().run()
    seconds.now += LEGIBLE + 0.01
    assert said(app.button[1].click().run()) == []
    assert said(app.run()) == []


def test_it_waits_for_a_run_that_shows_it(seconds):
    app = opened()
    app.session_state["learn_notice"] = actions.Report(True, "Done in a run that never drew it.")
    seconds.now += 100 * LEGIBLE
    assert said(app.run()) == ["Done in a run that never drew it\\."]


def test_the_next_action_replaces_it(seconds):
    app = opened()
    app.session_state["learn_notice"] = actions.Report(True, "The first is done.", shown=seconds.now)
    app.button[0].click().run()
    assert said(app) == ["The \\*second\\* is done\\."]


def test_a_part_calls_for_the_whole_page_once(seconds):
    app = AppTest.from_function(_without_a_heading).run()
    app.session_state["learn_notice"] = actions.Report(True, "Nobody says this.")
    assert app.run().text[0].value == "drawn 3 times"
    assert app.run().text[0].value == "drawn 4 times"


@pytest.mark.parametrize(
    "name",
    ["overview", "traces", "review", "lessons", "users", "rewards", "exploration", "drift", "data", "settings"],
)
def test_every_page_on_which_something_can_be_done_says_what_was_done(name, tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb"):
        page = open_page(name)
        page.session_state["learn_notice"] = actions.Report(True, "It is done")
        assert said(page.run()) == ["It is done"]
