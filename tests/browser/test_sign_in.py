"""Signing in with a provider of our own, in real Chromium: who comes in as what, who does not, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx2
import oidc_provider
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from oidc_provider import CLIENT, SECRET, Provider
from playwright.sync_api import Browser, BrowserContext, Page, expect
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]
COOKIES = "the secret that cookies are signed with"
ANA, BEN, EVE = "ana@example.com", "ben@team.example", "eve@elsewhere.example"
CONTACT = "the platform team"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """The provider that the server believes."""
    with oidc_provider.running() as started:
        yield started


@pytest.fixture(scope="module")
def server(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server with sign-in answers; no secret may be in what it logs."""
    folder = tmp_path_factory.mktemp("sign-in")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")},
        "TRIMTAB_DB": str(folder / "trimtab.duckdb"),
        "TRIMTAB_INBOX": str(folder / "inbox"),
        "TRIMTAB_PORT": url.rpartition(":")[2],
        "TRIMTAB_SIGN_IN_METADATA_URL": provider.metadata_url,
        "TRIMTAB_SIGN_IN_CLIENT_ID": CLIENT,
        "TRIMTAB_SIGN_IN_REDIRECT": f"{url}/oauth2callback",
        "TRIMTAB_SIGN_IN_ADMINS": ANA,
        "TRIMTAB_SIGN_IN_DOMAINS": "team.example",
        "TRIMTAB_SIGN_IN_CONTACT": CONTACT,
        "OIDC_CLIENT_SECRET": SECRET,
        "OIDC_COOKIE_SECRET": COOKIES,
        "PYTHONFAULTHANDLER": "1",
    }
    log = folder / "server.log"
    with log.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard.server"], cwd=ROOT, env=environment, stdout=written, stderr=written
        )
    deadline = time.monotonic() + 90
    while _status(f"{url}/healthz") != 200:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "the server did not answer"
        time.sleep(0.05)
    yield url
    process.terminate()
    try:
        ended = process.wait(60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        ended = process.wait(10)
    assert ended == 0, log.read_text()
    assert SECRET not in log.read_text()
    assert COOKIES not in log.read_text()


@pytest.fixture
def visitor(chromium: Browser) -> Iterator[Callable[[], BrowserContext]]:
    """Makes browsers that know nothing of each other."""
    made: list[BrowserContext] = []

    def make() -> BrowserContext:
        context = chromium.new_context(viewport={"width": 1440, "height": 1000})
        context.set_default_timeout(45_000)
        made.append(context)
        return context

    yield make
    for context in made:
        context.close()


def _status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


def sign_in(context: BrowserContext, server: str, email: str, *, place: str = "") -> Page:
    """Come to the front page, go to the provider, say who one is, come back, and go to a page."""
    page = context.new_page()
    page.goto(server)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Address").fill(email)
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(f"{server}/")
    if place:
        page.goto(f"{server}/{place}")
    return page


def front(page: Page) -> None:
    """Nothing but the way in is shown."""
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page.get_by_role("heading", name="Overview")).to_have_count(0)
    expect(page.get_by_test_id("stSidebarNav")).to_have_count(0)


def withheld(page: Page, name: str, needed: str, held: str) -> None:
    """A button is there, cannot be pressed, and says whose task it is."""
    button = page.get_by_role("button", name=name, exact=True)
    expect(button).to_be_disabled()
    page.mouse.move(0, 0)  # Who has just pressed it is over it already.
    button.hover(force=True)
    expect(page.get_by_text(f"This takes the role {needed}, and you have the role {held}.")).to_be_visible()


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=re.compile(re.escape(label))).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_roles_are_given_used_and_taken_in_open_sessions(server: str, visitor: Callable[[], BrowserContext]) -> None:
    ben = sign_in(visitor(), server, BEN, place="settings")
    expect(ben.get_by_test_id("stSidebar").get_by_text("viewer")).to_be_visible()
    ana = sign_in(visitor(), server, ANA, place="settings")
    expect(ana.get_by_test_id("stSidebar").get_by_text("admin")).to_be_visible()

    withheld(ben, "Invite", "admin", "viewer")

    choose(ana, "Change somebody", BEN)
    choose(ana, "New role", "reviewer")
    pressed = ana.get_by_role("button", name="Change the role")
    expect(pressed).to_be_enabled()
    before = pressed.bounding_box()
    pressed.click()
    expect(ana.get_by_text(f"{BEN} has the role reviewer now.")).to_be_visible()
    # Where the report stands, nothing else was: the next press does not land on what has moved under it.
    assert pressed.bounding_box() == before
    choose(ana, "New role", "admin")
    ana.get_by_role("button", name="Change the role").click()
    expect(ana.get_by_text(f"{BEN} has the role admin now.")).to_be_visible()
    ben.reload()
    expect(ben.get_by_role("button", name="Invite")).to_be_enabled()
    choose(ana, "New role", "reviewer")
    ana.get_by_role("button", name="Change the role").click()
    expect(ana.get_by_text(f"{BEN} has the role reviewer now.")).to_be_visible()
    # What their page still offers is refused, and then no longer offered.
    ben.get_by_label("Address").fill(EVE)
    ben.get_by_role("button", name="Invite").click()
    expect(ben.get_by_text("needs the role admin, and you have the role reviewer")).to_be_visible()
    expect(ben.get_by_test_id("stSidebar").get_by_text("reviewer")).to_be_visible()
    withheld(ben, "Invite", "admin", "reviewer")

    ana.get_by_role("button", name="Remove", exact=True).click()
    ana.get_by_role("button", name="Remove this operator").click()
    expect(ana.get_by_text(f"{BEN} is removed.")).to_be_visible()
    ben.reload()
    expect(ben.get_by_role("heading", name="You may not come in yet")).to_be_visible()
    expect(ben.get_by_test_id("stSidebarNav")).to_have_count(0)

    ana.keyboard.press("Escape")
    choose(ana, "Change somebody", ANA)
    ana.get_by_role("button", name="Remove", exact=True).click()
    ana.get_by_role("button", name="Remove this operator").click()
    expect(ana.get_by_text(re.compile("is the last admin"))).to_be_visible()


@pytest.mark.parametrize("place", ["traces?status=error&find=a%20b", "settings?settings=Keys"])
def test_a_link_survives_signing_in(server: str, visitor: Callable[[], BrowserContext], place: str) -> None:
    page = visitor().new_page()
    page.goto(f"{server}/{place}")
    front(page)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Address").fill(ANA)
    page.get_by_role("button", name="Come in").click()
    expect(page.get_by_role("heading", name=place.partition("?")[0].capitalize(), exact=True)).to_be_visible()
    came, wanted = urlsplit(page.url), urlsplit(place)
    assert came.path == f"/{wanted.path}"
    assert set(parse_qsl(wanted.query)) <= set(parse_qsl(came.query))
    page.get_by_role("button", name="Sign out").click()
    front(page)


def test_who_is_not_allowed_sees_whom_to_ask_and_nothing_else(
    server: str, visitor: Callable[[], BrowserContext]
) -> None:
    page = sign_in(visitor(), server, EVE, place="traces")
    expect(page.get_by_role("heading", name="You may not come in yet")).to_be_visible()
    expect(page.get_by_text(f"Ask {CONTACT} to invite this address")).to_be_visible()
    expect(page.get_by_test_id("stSidebarNav")).to_have_count(0)
    expect(page.get_by_role("link", name="Overview")).to_have_count(0)


def test_signing_out_ends_it_also_for_a_copied_cookie(server: str, visitor: Callable[[], BrowserContext]) -> None:
    context = visitor()
    page = sign_in(context, server, ANA)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    copied = [cookie for cookie in context.cookies() if cookie["name"].startswith(USER_COOKIE_NAME)]
    assert copied
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in copied)
    page.get_by_role("button", name="Sign out").click()
    front(page)
    thief = visitor()
    thief.add_cookies([{"name": one["name"], "value": one["value"], "url": server} for one in copied])
    stolen = thief.new_page()
    stolen.goto(server)
    expect(stolen.get_by_text("You have signed out")).to_be_visible()
    front(stolen)


@contextmanager
def claiming(provider: Provider, **claims: object) -> Iterator[None]:
    """The provider says this in its next tokens."""
    provider.claims = claims
    try:
        yield
    finally:
        provider.claims = {}


def test_an_address_that_is_not_verified_is_refused(
    server: str, provider: Provider, visitor: Callable[[], BrowserContext]
) -> None:
    with claiming(provider, email_verified=False):
        page = sign_in(visitor(), server, ANA)
        expect(page.get_by_text("does not say that your e-mail address is verified")).to_be_visible()
        front(page)


def round_trip(server: str, **changed: str) -> set[str]:
    """Sign in without a browser, with what the provider hands back `changed`; returns the cookies that are kept."""
    wanted = jwt.encode(
        {"alg": "HS256"}, {"provider": "default", "exp": int(time.time()) + 60}, OctKey.import_key(COOKIES)
    )
    with httpx2.Client() as client:
        away = client.get(f"{server}/auth/login", params={"provider": wanted})
        asked = dict(parse_qsl(urlsplit(away.headers["location"]).query))
        back = client.get(away.headers["location"].replace("/authorize", "/come"), params={**asked, "email": ANA})
        handed = dict(parse_qsl(urlsplit(back.headers["location"]).query)) | changed
        assert client.get(f"{server}/oauth2callback", params=handed).status_code == 302
        return {name for name in client.cookies if name.startswith(USER_COOKIE_NAME)}


def test_tokens_that_are_not_for_us_make_no_cookie(server: str, provider: Provider) -> None:
    assert USER_COOKIE_NAME in round_trip(server)
    for claims in ({"aud": "another"}, {"iss": "http://127.0.0.1:1"}, {"nonce": "another"}, {"exp": 1}):
        with claiming(provider, **claims):
            assert round_trip(server) == set(), claims
    assert round_trip(server, state="another") == set()
    assert round_trip(server, code="another") == set()
    provider.signing = type(provider.key).generate_key(2048, parameters={"kid": "one"})
    try:
        assert round_trip(server) == set()
    finally:
        provider.signing = provider.key


def cookie(server: str, *, secret: str = COOKIES, **changed: object) -> dict[str, str]:
    """The cookie of somebody who says to be the admin."""
    told = {
        "email": ANA, "email_verified": True, "sub": "1", "iss": "x", "nonce": "n", "iat": int(time.time()),
        "is_logged_in": True, "origin": server, "provider": "default", **changed,
    }  # fmt: skip
    return {"name": USER_COOKIE_NAME, "value": create_signed_value(secret, USER_COOKIE_NAME, json.dumps(told)).decode()}


def test_forged_and_expired_cookies_are_refused(server: str, visitor: Callable[[], BrowserContext]) -> None:
    attempts = {
        "signed by somebody else": (cookie(server, secret="guessed" * 6), None),
        "over": (cookie(server, iat=int(time.time()) - 13 * 3600), "Your sign-in is over"),
        "made for another address": (cookie("https://elsewhere.example"), None),
    }
    for why, (given, says) in attempts.items():
        context = visitor()
        context.add_cookies([{**given, "url": server}])
        page = context.new_page()
        page.goto(f"{server}/traces")
        front(page)
        if says is not None:
            expect(page.get_by_text(says), why).to_be_visible()
    context = visitor()
    context.add_cookies([{**cookie(server), "url": server}])
    page = context.new_page()
    page.goto(server)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", None])
def test_other_origins_do_not_open_the_websocket(server: str, origin: str | None) -> None:
    address = f"ws{server.removeprefix('http')}/_stcore/stream"
    with connect(address, origin=server, subprotocols=["streamlit"]):
        pass
    with pytest.raises(InvalidStatus, match="403"), connect(address, origin=origin, subprotocols=["streamlit"]):
        pass


def test_streamlits_own_routes_are_closed_and_agents_still_need_keys(server: str) -> None:
    assert _status(f"{server}/media/x.csv") == 403
    assert _status(f"{server}/_stcore/metrics") == 403
    assert _status(f"{server}/_stcore/upload_file/a/b") == 403
    assert _status(f"{server}/v1/policies/shop") == 401
    assert _status(f"{server}/control/hello") == 401
    request = urllib.request.Request(f"{server}/v1/steer", b"{}", {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 401
    refused.value.close()
