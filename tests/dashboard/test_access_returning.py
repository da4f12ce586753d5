"""Links survive signing in, and nobody is sent anywhere but to our own pages."""

from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from dashboard.access import returning
from dashboard.access.configuration import sign_in
from dashboard.access.doorway import Doorway
from store.settings import Settings

ORIGIN = "https://trimtab.example.com"
SIGN_IN = sign_in(
    Settings(
        sign_in_metadata_url="https://accounts.example.com/x", sign_in_client_id="trimtab",
        sign_in_redirect=f"{ORIGIN}/oauth2callback",
    ),
    {"OIDC_CLIENT_SECRET": "x"},
)  # fmt: skip
HOSTILE = [
    None, "", "/", "//evil.example", "https://evil.example/drift", f"{ORIGIN}.evil.example/drift",
    "javascript:alert(1)",
    f"{ORIGIN}@evil.example/drift", f"{ORIGIN}//evil.example/drift", f"{ORIGIN}/\\evil.example", f"{ORIGIN}/drift/../x",
    f"{ORIGIN}/v1/steer", f"{ORIGIN}/oauth2callback?code=1", f"{ORIGIN}/auth/logout", f"{ORIGIN}/drift%2f%2fevil",
    "http://trimtab.example.com/drift", f"{ORIGIN}/drift?{'x' * 2_001}", "https://[/drift", f"{ORIGIN}/drift;x",
    f"{ORIGIN}/drift?{'a=1&' * 100}",
]  # fmt: skip


@pytest.mark.parametrize(
    ("page", "place"),
    [
        ("/drift?incident=5", "/drift?incident=5"), ("/users", "/users"),
        ("/users?find_user=a%20b%2F%3F&range=all+time", "/users?find_user=a+b%2F%3F&range=all+time"),
        ("/traces?x=%0d%0aSet-Cookie:%20a=b", "/traces?x=%0D%0ASet-Cookie%3A+a%3Db"),
        ("/review?next=https://evil.example", "/review?next=https%3A%2F%2Fevil.example"),
    ],
)  # fmt: skip
def test_a_page_of_ours_is_kept_with_its_parameters(page, place):
    cookie = returning.keep(f"{ORIGIN}{page}", ORIGIN)
    assert cookie is not None
    value = cookie.partition(";")[0].removeprefix(f"{returning.COOKIE}=")
    assert returning.place(value) == place
    assert {"HttpOnly", "SameSite=Lax", "Path=/oauth2callback"} <= set(cookie.split("; "))


@pytest.mark.parametrize("referer", HOSTILE)
def test_nothing_else_is_kept_or_gone_to(referer):
    assert returning.keep(referer, ORIGIN) is None
    assert returning.place(quote(referer or "", safe="")) is None


@given(st.text(max_size=60))
def test_whatever_the_cookie_says_the_place_is_ours(text):
    for kept in (text, quote(text, safe=""), f"/drift?{text}", quote(f"/drift?{text}", safe="")):
        place = returning.place(kept)
        if place is not None:
            parts = urlsplit(place)
            assert (parts.scheme, parts.netloc, parts.fragment) == ("", "", "")
            assert parts.path.removeprefix("/").isalpha()
            assert place.isascii()
            assert place.isprintable()
            assert parse_qsl(parts.query, keep_blank_values=True) == parse_qsl(
                unquote(kept).partition("?")[2], keep_blank_values=True
            )


def client(*, succeeds=True):
    def leave(_):
        return RedirectResponse("https://accounts.example.com/authorize", 302)

    def back(_):
        answer = RedirectResponse("/", 302)
        answer.delete_cookie(USER_COOKIE_NAME)
        if succeeds:
            answer.set_cookie(USER_COOKIE_NAME, "claims", httponly=True)
        return answer

    routes = [Route("/auth/login", leave), Route("/oauth2callback", back)]
    application = Starlette(routes=routes, middleware=[Middleware(Doorway, sign_in=SIGN_IN)])
    return TestClient(application, base_url=ORIGIN, follow_redirects=False)


def test_who_follows_a_link_comes_to_it_after_signing_in_once():
    browser = client()
    left = browser.get("/auth/login", headers={"Referer": f"{ORIGIN}/drift?incident=5"})
    assert left.headers["location"].startswith("https://accounts.example.com")
    assert "Secure" in left.headers["set-cookie"]
    assert browser.get("/oauth2callback?code=1").headers["location"] == "/drift?incident=5"
    assert browser.get("/oauth2callback?code=2").headers["location"] == "/"


def test_who_comes_from_elsewhere_ends_at_the_first_page():
    browser = client()
    browser.get("/auth/login", headers={"Referer": f"{ORIGIN}/drift?incident=5"})
    browser.get("/auth/login", headers={"Referer": "https://evil.example/drift"})
    assert browser.get("/oauth2callback").headers["location"] == "/"
    browser.cookies.set(returning.COOKIE, quote("//evil.example", safe=""), path="/oauth2callback")
    assert browser.get("/oauth2callback").headers["location"] == "/"


def test_who_was_not_signed_in_goes_nowhere():
    browser = client(succeeds=False)
    browser.get("/auth/login", headers={"Referer": f"{ORIGIN}/drift?incident=5"})
    assert browser.get("/oauth2callback").headers["location"] == "/"
