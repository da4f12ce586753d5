"""Settings: inviting, changing and removing operators, keys shown once, and the gate in front of every page."""

import json

import pytest
from page_driver import APP, click, open_page, shown, store_for_pages, unescaped, untouched
from signing_in import ADMIN, REVIEWER, VIEWER, come, signing_in
from streamlit.testing.v1 import AppTest

from dashboard.access import gate
from store import api_keys, audit, operators


@pytest.fixture
def store(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


@pytest.fixture
def signed(store, monkeypatch):
    """A store whose pages need sign-in, with an operator of each role; the admin is there."""
    signing_in(store, monkeypatch)
    return store


def newest(store):
    row = audit.recent(store, 1).row(0, named=True)
    return row["actor"], row["action"], row["subject"], json.loads(row["detail"])


def test_without_sign_in_the_page_says_so_and_people_can_be_invited_before(store):
    page = open_page("settings")
    assert "Nobody signs in" in shown(page)
    page.text_input(key="operator_invite_address").set_value("Ana@Example.com")
    page.selectbox(key="operator_invite_role").set_value("admin")
    page = click(page, "operator_invite_confirm")
    assert "ana@example.com may sign in with the role admin" in unescaped(shown(page))
    assert operators.listed(store).select("email", "role", "state").rows() == [("ana@example.com", "admin", "invited")]
    assert page.text_input(key="operator_invite_address").value == ""
    page.text_input(key="operator_invite_address").set_value("nobody")
    assert "is no address" in shown(click(page, "operator_invite_confirm"))


def test_roles_are_changed_and_taken_with_what_was_before(signed):
    page = open_page("settings")
    assert "everybody of team.example" in unescaped(shown(page))
    page.selectbox(key="operator_chosen").set_value(VIEWER).run()
    page.selectbox(key="operator_role").set_value("reviewer")
    page = click(page, "operator_change")
    assert operators.role_of(signed, VIEWER) == "reviewer"
    assert newest(signed) == (
        ADMIN, "operator role", f"operator {VIEWER}",
        {"before": {"role": "viewer", "state": "active"}, "after": {"role": "reviewer", "state": "active"}},
    )  # fmt: skip
    click(page, "operator_remove")
    assert operators.role_of(signed, VIEWER) is None


def test_whoever_the_page_names_is_removed_although_the_choice_was_lost(signed):
    page = open_page("settings")
    page.selectbox(key="operator_chosen").set_value(VIEWER).run()
    assert f"{VIEWER} loses all rights at once" in unescaped(shown(page))
    page.session_state["operator_chosen"] = None
    page.selectbox(key="operator_chosen").set_value(None)
    assert f"{VIEWER} is removed" in unescaped(shown(click(page, "operator_remove")))
    assert operators.role_of(signed, VIEWER) is None


def test_a_role_of_nobody_is_not_changed_when_the_choice_was_lost(signed):
    page = open_page("settings")
    page.selectbox(key="operator_chosen").set_value(VIEWER).run()
    page.selectbox(key="operator_chosen").set_value(None)
    with untouched(signed):
        assert "nobody is chosen" in unescaped(shown(click(page, "operator_change")))


def test_the_last_admin_is_told_to_make_another(signed):
    page = open_page("settings")
    page.selectbox(key="operator_chosen").set_value(ADMIN).run()
    assert "That is you" in shown(page)
    with untouched(signed):
        page = click(page, "operator_remove")
        assert "is the last admin who has signed in" in unescaped(shown(page))
        page.selectbox(key="operator_role").set_value("viewer")
        assert "is the last admin who has signed in" in unescaped(shown(click(page, "operator_change")))


def test_a_key_is_shown_once_and_revoked(store):
    page = open_page("settings", settings="Keys")
    assert "There is no key" in shown(page)
    page.text_input(key="key_make_name").set_value("shop agent")
    page.multiselect(key="key_make_scopes").set_value(["ingest"])
    page.number_input(key="key_make_rate").set_value(5.0)
    page = click(page, "key_make_confirm")
    (key,) = api_keys.listed(store).to_dicts()
    assert (key["name"], key["scopes"], key["rate_per_second"]) == ("shop agent", ["ingest"], 5.0)
    (text,) = [code.value for code in page.code if code.value.startswith("tt_")]
    assert api_keys.split(text)[0] == key["key_id"]
    assert text not in str(audit.recent(store).to_dicts())
    assert text not in shown(click(page, "key_put_away"))
    assert text not in shown(open_page("settings", settings="Keys"))
    page.selectbox(key="key_chosen").set_value(key["key_id"]).run()
    page = click(page, "key_revoke")
    assert api_keys.count_in_force(store) == 0
    assert newest(store)[:3] == ("local operator", "key revoke", f"key {key['key_id']}")
    assert page.dataframe[0].value["state"].tolist() == ["revoked"]


def test_a_key_without_a_scope_is_refused(store):
    page = open_page("settings", settings="Keys")
    page.multiselect(key="key_make_scopes").set_value([])
    with untouched(store):
        assert "it has no scope" in shown(click(page, "key_make_confirm"))


@pytest.mark.parametrize("place", ["", "settings", "traces"])
def test_who_has_not_signed_in_sees_the_way_in_only(signed, monkeypatch, place):
    come(monkeypatch, None)
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    if place:
        page.switch_page(f"views/{place}.py").run()
    assert [button.label for button in page.button] == ["Sign in"]
    assert [title.value for title in page.title] == ["Trimtab"]
    assert not page.sidebar.children
    assert not page.dataframe


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"email_verified": False}, "is verified"),
        ({"iat": 1_000_000}, "Your sign-in is over"),
        ({"email_verified": "yes"}, "is verified"),
    ],
)
def test_what_proves_nothing_is_explained(signed, monkeypatch, changed, says):
    come(monkeypatch, ADMIN, **changed)
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    assert says in unescaped(shown(page))
    assert [button.label for button in page.button] == ["Sign in", "Use another account"]


def test_who_is_not_allowed_is_told_whom_to_ask(signed, monkeypatch):
    come(monkeypatch, "eve@elsewhere.example")
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    actor, action, subject, detail = newest(signed)
    assert (actor, action, subject) == (
        "eve@elsewhere.example", "sign in refused", "operator eve@elsewhere.example",
    )  # fmt: skip
    assert "not on the list" in detail["why"]
    assert operators.listed(signed).height == 3
    with untouched(signed):
        page.run()
    assert "Ask Grace of the platform team" in shown(page)
    assert [button.label for button in page.button] == ["Use another account"]
    monkeypatch.setattr(gate.st, "logout", lambda: None)
    with untouched(signed):
        click(page, "sign_out")
    come(monkeypatch, "eve@team.example")
    page.run()
    assert page.title[0].value == "Overview"
    assert operators.role_of(signed, "eve@team.example") == "viewer"
    assert newest(signed)[:2] == ("eve@team.example", "sign in")


def test_a_sign_in_is_one_row_however_many_pages_are_opened(signed, monkeypatch):
    come(monkeypatch, VIEWER, nonce="another sign-in")
    before = audit.count(signed)
    page = open_page("settings")
    assert newest(signed)[:3] == (VIEWER, "sign in", f"operator {VIEWER}")
    assert newest(signed)[3]["role"] == "viewer"
    page.run()
    page.switch_page("views/traces.py").run()
    open_page("data")
    assert audit.count(signed) == before + 1


def test_the_local_operator_leaves_no_row_by_opening_pages(store):
    with untouched(store):
        for place in ("settings", "traces", "data"):
            open_page(place).run()


def test_a_removed_operator_is_out_with_the_next_click(signed, monkeypatch):
    come(monkeypatch, REVIEWER)
    page = open_page("settings")
    operators.remove(signed, REVIEWER, operator=ADMIN)
    assert "You may not come in yet" in shown(page.run())
    assert not page.dataframe


def test_signing_out_ends_the_session_in_the_store(signed, monkeypatch):
    left = []
    monkeypatch.setattr(gate.st, "logout", lambda: left.append(True))
    page = click(open_page("settings"), "sign_out")
    assert left == [True]
    assert newest(signed) == (ADMIN, "sign out", f"operator {ADMIN}", {})
    assert "You have signed out" in shown(page.run())
    come(monkeypatch, ADMIN, nonce="a new sign-in")
    assert page.run().title[0].value in ("Overview", "Settings")


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via"])
def test_without_sign_in_a_proxy_does_not_make_others_admins(store, monkeypatch, header):
    monkeypatch.setattr(type(gate.st.context), "headers", {header: "203.0.113.7"})
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    assert "This server is for its own machine" in shown(page)
    assert not page.button
