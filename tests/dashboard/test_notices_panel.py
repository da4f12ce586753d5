"""The Notices tab and the list of open notices: routes made, tested, stopped and removed; hostile text stays text."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loop_data import HOSTILE
from page_driver import click, open_page, shown, store_for_pages, unescaped
from signing_in import ADMIN, REVIEWER, come, signing_in
from streamlit.testing.v1 import AppTest

from store import audit, notice_deliveries, notice_routes, notices
from store.connection import Store
from store.notice_route import Email, QuietHours, Route, Webhook
from tests.pipelines.notices.local_servers import WebServer
from tests.pipelines.notices.written import post


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        yield opened


def opened() -> AppTest:
    return open_page("settings", settings="Notices")


def test_a_webhook_is_added_tested_stopped_and_removed(store: Store) -> None:
    page = opened()
    assert "There is no route" in shown(page)
    with WebServer() as web:
        page.text_input(key="route_new_name").set_value("chat")
        page.text_input(key="route_new_url").set_value(web.url)
        page.checkbox(key="route_new_quiet").set_value(True)
        page.selectbox(key="route_new_zone").set_value("Europe/Berlin")
        page = click(page, "route_new_save")
        assert "The route is there" in shown(page)
        (held,) = notice_routes.listed(store)
        assert held.route == Route(
            "chat", Webhook(web.url), quiet=QuietHours("22:00", "07:00", "Europe/Berlin")
        )  # fmt: skip
        said = unescaped(shown(page))
        assert "http://127.0.0.1:" in said
        assert "hooks/trimtab" not in said  # The path may be a secret.
        page = click(page, "route_test_1")
        assert "The test arrived. Answered 204." in unescaped(shown(page))
        web.behaviour = 500
        page = click(page, "route_test_1")
        assert "The test did not arrive. Answered 500." in unescaped(shown(page))
        assert notice_deliveries.recent(store).height == 2
    page = click(page, "route_switch_1")
    assert not notice_routes.held(store, 1).enabled
    click(page, "route_removed_1")
    assert notice_routes.listed(store) == []


def test_an_email_route_is_added_and_changed(store: Store) -> None:
    page = opened()
    page.segmented_control(key="route_new_channel").set_value("e-mail").run()
    for name, value in (("name", "mail"), ("host", "smtp.example.com"), ("sender", "trimtab@example.com")):
        page.text_input(key=f"route_new_{name}").set_value(value)
    page.text_area(key="route_new_recipients").set_value("ada@example.com\n\nbo@example.com")
    page = click(page, "route_new_save")
    target = notice_routes.held(store, 1).route.target
    assert target == Email(
        "smtp.example.com", 587, "starttls", "trimtab@example.com", ("ada@example.com", "bo@example.com")
    )
    page.text_input(key="route_1_name").set_value("post")
    page.number_input(key="route_1_group").set_value(30)
    click(page, "route_1_save")
    changed = notice_routes.held(store, 1).route
    assert (changed.name, changed.group_minutes, changed.target) == ("post", 30, target)


def test_what_cannot_be_is_refused_in_words_without_the_secret(store: Store) -> None:
    page = opened()
    page.text_input(key="route_new_name").set_value("chat")
    page.text_input(key="route_new_url").set_value("https://user:hunter2@example.com/")
    said = unescaped(shown(click(page, "route_new_save")))
    assert "the address has a user" in said
    assert "hunter2" not in said
    page.text_input(key="route_new_url").set_value("https://example.com/")
    page.text_input(key="route_new_secret_variable").set_value("hunter2")
    said = unescaped(shown(click(page, "route_new_save")))
    assert "begins with NOTICE_" in said
    assert "hunter2" not in said
    assert notice_routes.listed(store) == []


def test_a_reviewer_sees_routes_and_changes_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    route = notice_routes.add(store, Route("chat", Webhook("https://example.com/very-secret")), operator="ada")
    signing_in(store, monkeypatch)
    come(monkeypatch, REVIEWER)
    page = opened()
    assert "very-secret" not in unescaped(shown(page))
    assert not [box for box in page.text_input if (box.key or "").startswith("route_")]
    assert page.button(key=f"route_switch_{route}").disabled
    come(monkeypatch, ADMIN)
    page = opened()
    come(monkeypatch, REVIEWER)
    click(page, f"route_switch_{route}")
    assert notice_routes.held(store, route).enabled


def test_open_notices_are_listed_as_text_and_dismissed(store: Store) -> None:
    post(store, "incident 1", title=HOSTILE, text=HOSTILE, severity="critical")
    post(store, "incident 2", page="../../etc/passwd", query={})
    page = opened()
    said = shown(page)
    assert "2 open notices" in said
    assert HOSTILE in [element.value for element in page.text]
    assert HOSTILE not in "\n".join(str(element.value) for element in page.markdown)
    page = click(page, "notice_dismiss_1")
    assert notices.open_(store)["notice_key"].to_list() == ["incident 2"]
    assert audit.recent(store)["action"][0] == "notice dismiss"
    click(page, "notice_dismiss_2")
    assert notices.open_count(store) == 0


def test_many_notices_are_a_short_list_with_the_rest_behind_it(store: Store) -> None:
    for number in range(7):
        post(store, f"incident {number}")
    page = opened()
    assert "4 more" in [each.label for each in page.expander]
