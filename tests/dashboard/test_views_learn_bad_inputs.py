"""Rewards, users and the tabs of a trace on bad input: everything is drawn, and nothing of it is read as markup."""

import bad_deployments as bad
import pytest
from page_driver import markup, open_page, shown, store_for_pages

REWARD_TABS = ("Rewards", "Signals", "Models", "Preferences", "Judges", "Steps", "Hacking watch")
TRACE_TABS = ("Credit", "Surprise", "Failure")
HARMFUL = ("<img", "](http", "**bold", ":red[", "$x^2$")


@pytest.mark.parametrize("name", ["hostile names", "extreme numbers", "no signals"])
def test_every_view_is_drawn(tmp_path, name):
    with store_for_pages(tmp_path / "trimtab.duckdb") as store:
        bad.load(store, tmp_path, name)
        with store.read() as reader:
            users = reader.any_frame("SELECT user_id FROM user_summaries ORDER BY user_id LIMIT 7")["user_id"].to_list()
        pages = [open_page("rewards", tab=tab) for tab in REWARD_TABS]
        pages += [open_page("users"), *(open_page("users", user=user) for user in users[::6])]
        pages += [open_page("traces", trace="t007", view=view) for view in TRACE_TABS]
    for page in pages:
        said = shown(page)
        assert "could not be read" not in said
        assert "there is no such" not in said
        for number in ("nan", "inf"):
            assert f" {number} " not in said.lower()
        for harmful in HARMFUL:
            assert harmful not in markup(page)
