"""Errors of the store are shown in the page, which goes on."""

from streamlit.testing.v1 import AppTest


def _guarded(kind):
    import streamlit as st

    from dashboard.ui import states
    from store.errors import NotFound, QueryTimeout, StoreError

    errors = {"timeout": QueryTimeout(2.5), "missing": NotFound("trace", "**x**"), "other": StoreError("![x](y) broke")}
    with states.guarded("The list", key="list"):
        raise errors[kind]
    st.caption("the rest of the page")


def test_a_timeout_says_what_to_do():
    app = AppTest.from_function(_guarded, args=("timeout",)).run()
    assert not app.exception
    assert "took longer than 2.5 s" in app.warning[0].value
    assert "Narrow the time range" in app.warning[0].value
    assert app.button(key="retry-list").label == "Try again"
    assert app.caption[0].value == "the rest of the page"


def test_what_is_missing_is_named_as_plain_text():
    app = AppTest.from_function(_guarded, args=("missing",)).run()
    assert "there is no such trace" in app.warning[0].value
    assert app.text[0].value == "**x**"


def test_another_error_is_shown_as_plain_text():
    app = AppTest.from_function(_guarded, args=("other",)).run()
    assert app.error[0].value == "The list could not be read."
    assert app.code[0].value == "![x](y) broke"


def _panels():
    from dashboard.ui import states

    states.nothing("Nothing yet", "Load a file.")
    states.not_enough("Error rate", 3, 20, "traces")


def test_empty_panels_say_what_is_missing():
    app = AppTest.from_function(_panels).run()
    assert [m.value for m in app.markdown] == ["**Nothing yet**", "**Error rate: not enough data**"]
    assert app.caption[1].value == "3 of at least 20 traces; 17 more are needed."
