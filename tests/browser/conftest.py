"""Real Chromium, and in front of it a server on an empty store, or on a full one with operators who sign in."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from browser_paths import ARTEFACTS
from browser_world import Deployment, deployed
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 45_000  # milliseconds; a machine that builds is slow
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, headless.

    Its event loop runs in this thread until the end, where no other can be begun: `make test` runs these tests apart.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield browser
        browser.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was on the screen when a test failed is part of its report: pictures stay on the machine that made them."""
    report = yield
    browser = getattr(item, "funcargs", {}).get("chromium")
    if report.when == "call" and report.failed and browser is not None:
        for context in browser.contexts:
            for page in context.pages:
                report.sections.append((f"on the screen of {page.url}", _seen(page)))
    return report


def _seen(page: Page) -> str:
    try:
        page.screenshot(path=str(ARTEFACTS / "failed.png"), timeout=5_000)
        return page.get_by_test_id("stMain").aria_snapshot(timeout=5_000)
    except Error as error:
        return str(error)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server of its own answers; it is stopped when the module's tests are done."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "TRIMTAB_DB": str(folder / "trimtab.duckdb"),
        "TRIMTAB_INBOX": str(folder / "inbox"),
        "TRIMTAB_PORT": str(port),
        "PYTHONFAULTHANDLER": "1",
    }
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard.server"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                break
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server did not answer"
    yield url
    process.terminate()
    try:
        ended = process.wait(60)
    except subprocess.TimeoutExpired:
        # It hangs: with the signal to abort it writes where each of its threads is.
        process.send_signal(signal.SIGABRT)
        ended = process.wait(10)
    assert ended == 0, (folder / "server.log").read_text()


@pytest.fixture(scope="session")
def world(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The one server with everything in its store, for all journeys of this process."""
    with deployed(tmp_path_factory.mktemp("world"), chromium) as deployment:
        yield deployment


@pytest.fixture
def deployment(world: Deployment) -> Iterator[Deployment]:
    """The same, whose browsers are closed after each test."""
    yield world
    world.leave()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page that fails the test when it asks any other machine for anything."""
    context = chromium.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    context.set_default_timeout(_PATIENCE)
    opened = context.new_page()
    foreign: list[str] = []

    def note(url: str) -> None:
        if url.startswith("http") and "127.0.0.1" not in url:
            foreign.append(url)

    opened.on("request", lambda request: note(request.url))
    yield opened
    context.close()
    assert foreign == []
