"""A deployment for journeys in a browser: a store in which everything was found, operators, and a provider to sign in.

Jobs do not run by themselves, so that what a journey finds is what was put there.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import oidc_provider
from browser_axe import Scheme
from drift_world import drift_file
from lesson_pages import propose_many
from loop_data import run_loop
from oidc_provider import CLIENT, SECRET
from page_driver import store_for_pages
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

from store import audit, incidents, notice_routes, operators
from store.connection import Store
from store.notice_route import Route, Webhook

ROOT = Path(__file__).resolve().parents[1]
PEOPLE = {"viewer": "vera@example.com", "reviewer": "rita@example.com", "admin": "ana@example.com"}
PROPOSED = 40
# What nothing may be made of where a page's Markdown holds it: links, an icon, the logo.
HOSTILE_NAME = "http://192.0.2.1 www.evil.example e@evil.example :material/bomb: :streamlit:"
_PATIENCE = 45_000  # milliseconds
_MOST_BYTES = 150_000  # that a page may send over its web socket until it is drawn

_WITHOUT_JOBS = """
import runpy
from pipelines.schedule import Schedule
Schedule.start = lambda self: None
runpy.run_module("dashboard.server", run_name="__main__")
"""


@dataclass
class Deployment:
    """A server that answers at `url`, and what browsers keep of each operator who has signed in."""

    url: str
    browser: Browser
    incident: str
    _kept: dict[str, Any] = field(default_factory=dict)
    _contexts: list[BrowserContext] = field(default_factory=list)
    _wrong: list[str] = field(default_factory=list)
    _received: Counter[Page] = field(default_factory=Counter)

    def come(self, role: str, place: str = "", *, width: int = 1440, scheme: Scheme = "light", **query: str) -> Page:
        """A page of the operator with this role in a browser of its own, signed in by the provider the first time."""
        page = self._opened(width, scheme, self._kept.get(role))
        if role not in self._kept:
            page.goto(self.url)
            page.get_by_role("button", name="Sign in").click()
            page.get_by_label("Address").fill(PEOPLE[role])
            page.get_by_role("button", name="Come in").click()
            expect(page.get_by_test_id("stSidebar").get_by_text(PEOPLE[role])).to_be_visible()
            self._kept[role] = page.context.storage_state()
        self.go(page, place, **query)
        return page

    def stand_before(self, *, width: int, scheme: Scheme) -> Page:
        """The page that somebody sees who has not signed in."""
        page = self._opened(width, scheme, None)
        self.go(page)
        return page

    def _opened(self, width: int, scheme: Scheme, kept: Any) -> Page:
        context = self.browser.new_context(
            viewport={"width": width, "height": 1000}, color_scheme=scheme, accept_downloads=True, storage_state=kept
        )
        context.set_default_timeout(_PATIENCE)
        self._contexts.append(context)
        page = context.new_page()
        page.on("request", self._asked)
        page.on("console", self._said)
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: self._came(page, frame)))
        return page

    def go(self, page: Page, place: str = "", **query: str) -> None:
        """Go to a page by its address and wait until it is drawn, with no more bytes than a page may take."""
        self._received[page] = 0
        page.goto(f"{self.url}/{place}?{urlencode(query)}")
        expect(page.locator("h1").first).to_be_visible()
        settled(page)
        assert 0 < self._received[page] <= _MOST_BYTES, (place, query, self._received[page])

    def audited(self, page: Page, role: str, action: str) -> list[dict[str, Any]]:
        """Rows of the audit log of what this operator did, newest first, as its page exports them."""
        self.go(page, "settings", settings="Audit", audit_who=PEOPLE[role], audit_action=action)
        export = page.get_by_role("button", name="JSON Lines")
        none = page.get_by_text("No row matches")
        expect(export.or_(none)).to_be_visible()
        if none.is_visible():
            return []
        with page.expect_download() as download:
            export.click()
        rows = map(json.loads, Path(download.value.path()).read_text(encoding="utf-8").splitlines())
        # A filter that no row has is none: the rest is sorted out here.
        own = [row for row in rows if (row["actor"], row["action"]) == (PEOPLE[role], action)]
        return sorted(own, key=lambda row: int(row["sequence"]), reverse=True)

    def leave(self) -> None:
        """Close the browsers that came: they asked no other machine for anything, and our policy stopped nothing."""
        while self._contexts:
            self._contexts.pop().close()
        wrong, self._wrong = self._wrong, []
        assert wrong == [], wrong

    def _came(self, page: Page, frame: bytes | str) -> None:
        self._received[page] += len(frame)

    def _asked(self, request: Request) -> None:
        if request.url.startswith("http") and "127.0.0.1" not in request.url:
            self._wrong.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            self._wrong.append(message.text)


def settled(page: Page) -> None:
    """Wait until the script of the page has run and nothing went wrong in it."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    assert page.get_by_test_id("stException").all_inner_texts() == []


def until(page: Page, check: str, told: object = None, *, patience: int = _PATIENCE) -> None:
    """Wait until this function of the page's own language, called with what it is `told`, says yes (milliseconds).

    Playwright's own waiting makes code of text in the page, which the page's Content-Security-Policy forbids.
    """
    page.evaluate(
        f"""async (told) => {{
            const check = {check};
            const end = performance.now() + {patience};
            while (!check(told)) {{
                if (performance.now() > end) throw new Error("this never came true: " + check);
                await new Promise(again => setTimeout(again, 30));
            }}
        }}""",
        told,
    )


def still(page: Page) -> None:
    """Wait until everything is there, and nothing moves or changes its colour any more."""
    until(
        page,
        "() => !document.querySelector('[data-testid=stSkeleton]') && document.getAnimations().every(one =>"
        " one.playState !== 'running' || one.effect.getComputedTiming().iterations === Infinity)",
    )


def open_tab(page: Page, name: str) -> None:
    """Open a tab and wait until it is drawn."""
    page.get_by_role("tab", name=name, exact=True).first.click()
    until(
        page,
        """name => [...document.querySelectorAll("[role=tab][aria-selected=true]")].some(tab =>
            tab.innerText.trim() === name
            && document.getElementById(tab.getAttribute("aria-controls"))?.innerText.trim())""",
        name,
    )
    settled(page)


@contextmanager
def deployed(folder: Path, browser: Browser) -> Iterator[Deployment]:
    """A server on the prepared store; afterwards it ends cleanly, and the audit log is as it was written."""
    db, log = folder / "trimtab.duckdb", folder / "server.log"
    with store_for_pages(db, drift_file()) as store:
        run_loop(store, "failures")
        notice_routes.add(store, Route(HOSTILE_NAME, Webhook("http://127.0.0.1:9")), operator=PEOPLE["admin"])
        incident = str(incidents.listed(store)["incident_id"][0])
        propose_many(store, PROPOSED, good="t0000", bad="t0001")
        for role in ("viewer", "reviewer"):
            operators.invite(store, PEOPLE[role], role, operator=PEOPLE["admin"])
    with oidc_provider.running() as provider, log.open("w") as written:
        process, url = _start(db, provider.metadata_url, written)
        deployment = Deployment(url, browser, incident)
        try:
            _answers(process, url, log)
            yield deployment
        finally:
            deployment.leave()
            process.terminate()
            try:
                ended = process.wait(60)
            except subprocess.TimeoutExpired:
                # It hangs: with the signal to abort it writes where each of its threads is.
                process.send_signal(signal.SIGABRT)
                ended = process.wait(10)
    told = log.read_text()
    assert ended == 0, told
    assert "Traceback" not in told
    with closing(Store.open(db)) as store:
        assert audit.verify(store) is None


def _start(db: Path, metadata_url: str, log: Any) -> tuple["subprocess.Popen[bytes]", str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")},
        "TRIMTAB_DB": str(db),
        "TRIMTAB_INBOX": str(db.with_name("inbox")),
        "TRIMTAB_PORT": url.rpartition(":")[2],
        "TRIMTAB_SIGN_IN_METADATA_URL": metadata_url,
        "TRIMTAB_SIGN_IN_CLIENT_ID": CLIENT,
        "TRIMTAB_SIGN_IN_REDIRECT": f"{url}/oauth2callback",
        "TRIMTAB_SIGN_IN_ADMINS": PEOPLE["admin"],
        "OIDC_CLIENT_SECRET": SECRET,
        "OIDC_COOKIE_SECRET": "the secret that cookies are signed with",
        "PYTHONFAULTHANDLER": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", _WITHOUT_JOBS], cwd=ROOT, env=environment, stdout=log, stderr=log
    ), url


def _answers(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the server did not answer"
            time.sleep(0.05)
