"""Saved views: whose they are, who sees them, what they open, and what is kept of who changed them."""

import pytest
from page_driver import open_page, store_for_pages

from dashboard.access import actor as access
from dashboard.access.actor import LOCAL, Actor
from dashboard.feel import saved
from store import audit, saved_views
from store.errors import ActionRefused, NotFound

ADA, BOB = "ada@x.example", "bob@x.example"
HOSTILE = "**b** <i>x</i> [l](http://evil.example) $a$"


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


def _save(store, operator=ADA, name="Failed", page="traces", **query):
    return saved_views.save(store, operator=operator, page=page, name=name, query=query or {"status": ["error"]})


def _names(store, operator):
    return saved_views.visible(store, operator)["name"].to_list()


def test_a_view_is_private_until_it_is_shared(store):
    view = _save(store)
    assert (_names(store, ADA), _names(store, BOB)) == (["Failed"], [])
    saved_views.share(store, view, True, operator=ADA)
    assert _names(store, BOB) == ["Failed"]
    saved_views.share(store, view, False, operator=ADA)
    assert _names(store, BOB) == []


def test_the_same_name_on_the_same_page_replaces_the_filters(store):
    first, second = _save(store, status=["error"]), _save(store, agent=["a", "b"])
    assert first == second
    (row,) = saved_views.visible(store, ADA).to_dicts()
    assert saved_views.query_of(row["query"]) == {"agent": ["a", "b"]}
    assert _save(store, operator=BOB) != first
    assert _save(store, page="users") != first


def test_others_cannot_change_a_view_but_admins_can_a_shared_one(store):
    view = _save(store)
    for change in (
        lambda **who: saved_views.remove(store, view, **who),
        lambda **who: saved_views.rename(store, view, "Mine", **who),
        lambda **who: saved_views.share(store, view, True, **who),
    ):
        # Somebody else's private view is not even said to exist.
        with pytest.raises(NotFound):
            change(operator=BOB)
        with pytest.raises(NotFound):
            change(operator=BOB, admin=True)
    saved_views.share(store, view, True, operator=ADA)
    with pytest.raises(ActionRefused, match=ADA):
        saved_views.remove(store, view, operator=BOB)
    saved_views.remove(store, view, operator=BOB, admin=True)
    assert _names(store, ADA) == []


@pytest.mark.parametrize("name", ["", "   ", "x" * (saved_views.MAX_NAME + 1)])
def test_a_name_has_to_be_one(store, name):
    with pytest.raises(ActionRefused, match="1 to 60 characters"):
        _save(store, name=name)
    assert _names(store, ADA) == []


def test_there_are_limits(store):
    with pytest.raises(ActionRefused, match="longer than"):
        _save(store, q=["x" * 9_000])
    for number in range(saved_views.MAX_VIEWS):
        _save(store, name=f"v{number}")
    with pytest.raises(ActionRefused, match="50 views"):
        _save(store, name="one more")
    _save(store, name="v0", agent=["a"])
    _save(store, operator=BOB)


def test_every_change_is_in_the_audit_log(store):
    view = _save(store)
    saved_views.rename(store, view, "Broken", operator=ADA)
    saved_views.share(store, view, True, operator=ADA)
    saved_views.remove(store, view, operator=ADA)
    rows = audit.recent(store, subject=f"view {view}")
    assert set(rows["actor"]) == {ADA}
    assert sorted(rows["action"]) == ["view remove", "view rename", "view save", "view share"]
    assert audit.verify(store) is None


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": "b"}', '{"a": [1]}', "null"])
def test_filters_that_cannot_be_read_open_the_page_as_it_is(text):
    assert not any(saved_views.query_of(text).values())


def test_the_sidebar_links_to_views_with_their_filters_as_plain_text(store):
    _save(store, operator=LOCAL, name=HOSTILE[:60], status=["error"], agent=["a b", "c"])
    _save(store, operator=BOB, name="private of bob")
    app = open_page("overview")
    links = [link for link in app.get("page_link") if "status=error" in link.proto.query_string]
    (link,) = links
    assert link.proto.query_string == "agent=a+b&agent=c&status=error"
    assert "**b**" not in link.label
    assert r"\*\*b\*\*" in link.label
    assert not any("bob" in found.label for found in app.get("page_link"))


def test_a_view_of_a_page_that_is_no_more_is_left_out(store):
    _save(store, operator=LOCAL, page="gone")
    assert not open_page("overview").exception


def test_viewers_save_for_themselves_and_do_not_share(store, monkeypatch):
    state = {}
    monkeypatch.setattr("streamlit.session_state", state)
    monkeypatch.setattr(access, "actor", lambda: Actor(ADA, "viewer", signed_in=True))
    monkeypatch.setattr("dashboard.learn.actions.actor", access.actor)
    monkeypatch.setattr("dashboard.feel.saved.actor", access.actor)
    state["feel_name"] = "Mine"
    saved._saved("traces", {"status": ["error"]})
    (row,) = saved_views.visible(store, ADA).to_dicts()
    state[f"feel_share_{row['view_id']}"] = True
    saved._shared(row["view_id"])
    assert "reviewer" in state["learn_notice"].text
    assert not saved_views.visible(store, ADA)["shared"].item()
    state[f"feel_name_{row['view_id']}"] = "Ours"
    saved._renamed(row["view_id"])
    assert _names(store, ADA) == ["Ours"]
    saved._removed(row["view_id"])
    assert _names(store, ADA) == []
