"""The server: the process that serves the pages, takes commands and runs the jobs. `python -m dashboard.server`.

It alone opens the database file; `POST /v1/steer` is answered by a process that it starts. Exits 0 after SIGTERM or
SIGINT, 1 when it cannot start, 2 when a setting is wrong.
"""

import argparse
import gc
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import streamlit as st
from anyio import to_thread
from starlette.middleware import Middleware

from dashboard.access.configuration import SignIn, require_sign_in, sign_in
from dashboard.access.doorway import Doorway
from dashboard.hardening.guard import Guard
from dashboard.hardening.heads import bound_heads
from dashboard.runtime import Runtime, install, open_runtime, resume
from dashboard.sockets import answer_at_once, sharing
from gateway import control, handover
from gateway.access import require_keys
from store import operators, presence
from store.errors import SettingsError, TrimtabError
from store.settings import Settings

SCRIPT = Path(__file__).resolve().parent / "app.py"

# How long a thread that computes may keep the interpreter while a request waits for it, in seconds. Python's own 5 ms,
# several times for each request, would add up: agents wait for /v1/steer before they act.
_SWITCH_SECONDS = 0.0002

# Python's own are 700, 10, 10: with them pages cause a search of everything once a second.
_GARBAGE_THRESHOLDS = (5_000, 10, 100)

# The server begins so long after the start at the latest, whether its steering process is there or not.
_STEERING_SECONDS = 30.0


class PortTaken(TrimtabError):
    """The port cannot be listened on."""

    def __init__(self, host: str, port: int, why: str) -> None:
        self.host, self.port = host, port
        super().__init__(f"Port {port} on {host} cannot be used: {why}. Stop what uses it, or set TRIMTAB_PORT.")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dashboard.server", description="Serve the dashboard.")
    parser.add_argument("--db", type=Path, metavar="PATH", help="the database file (default: TRIMTAB_DB)")
    arguments = parser.parse_args(argv)
    try:
        settings = Settings.load(overrides={"db": arguments.db})
        require_sign_in(settings, sign_in(settings))
        runtime = open_runtime(settings, with_scheduler=True, steering_apart=handover.AVAILABLE)
    except SettingsError as error:
        return _report(error, 2)
    except (TrimtabError, OSError) as error:
        return _report(error, 1)
    try:
        require_keys(settings, runtime.store)
        _require_admin(runtime)
        require_free_port(settings.host, settings.port)
        settings.inbox.mkdir(parents=True, exist_ok=True)
        _serve(runtime)
    except SettingsError as error:
        return _report(error, 2)
    except (TrimtabError, OSError) as error:
        return _report(error, 1)
    except SystemExit as stop:
        if stop.code not in (0, None):
            return 1
        print("Trimtab stops.", flush=True)
    finally:
        _close(runtime)
    return 0


def _close(runtime: Runtime) -> None:
    presence.withdraw(runtime.settings.db, os.getpid())
    left = runtime.close()
    if left:
        # Threads that outlived the grace would keep the process alive; nothing of theirs is half-written.
        print(f"Stopped while this was going on: {', '.join(left)}. It continues at the next start.", flush=True)
        os._exit(0)


def _require_admin(runtime: Runtime) -> None:
    """Invite the first admins; refuse to start where nobody could ever invite anybody. Raises: `SettingsError`."""
    if runtime.sign_in is None:
        return
    operators.appoint(runtime.store, runtime.sign_in.admins)
    if not operators.count_admins(runtime.store):
        raise SettingsError("TRIMTAB_SIGN_IN_ADMINS", "", "the address of who is to be the first admin")


def require_free_port(host: str, port: int) -> None:
    """Raises: `PortTaken` when the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(host, port, error.strerror or str(error)) from error


def build(runtime: Runtime, token: str) -> st.App:
    """The ASGI application: pages, the gateway and the control routes over one open store."""
    gateway_routes = runtime.gateway.routes() if runtime.gateway is not None else []
    return st.App(
        SCRIPT,
        secrets=runtime.sign_in.secrets() if runtime.sign_in is not None else None,
        lifespan=_lifespan(runtime, token),
        middleware=[Middleware(Guard), Middleware(Doorway, sign_in=runtime.sign_in)],
        routes=[*gateway_routes, *control.routes(runtime.operations(), token)],
    )


def config(settings: Settings, signing_in: SignIn | None = None) -> dict[str, Any]:
    """Streamlit's options for production. The theme is in .streamlit/config.toml."""
    hosts = ["localhost", "127.0.0.1", "[::1]", settings.host]
    return {
        "server.address": settings.host,
        "server.port": settings.port,
        "server.headless": True,
        "server.allowedHosts": hosts if signing_in is None else [*hosts, signing_in.host],
        "server.corsAllowedOrigins": [] if signing_in is None else [signing_in.origin],
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.trustedUserHeaders": {},
        "server.enableAgentApi": False,
        "server.maxUploadSize": settings.max_upload_mb,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "runner.postScriptGC": False,  # a search of everything after each page; see _GARBAGE_THRESHOLDS
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "viewer",
        "client.disableDataExport": True,  # files of ours are safe for spreadsheets: see dashboard.ui.export
        "logger.hideWelcomeMessage": True,
    }


def _serve(runtime: Runtime) -> None:
    # uvicorn raises the signal that stopped it once more when it has shut down: that must end in a clean exit.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    install(runtime)
    answer_at_once()
    bound_heads()
    threading.Thread(target=_cut_off, args=(runtime,), name="cut-off", daemon=True).start()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        with sharing(runtime.gateway.apart if runtime.gateway is not None else None):
            build(runtime, secrets.token_urlsafe(32)).run(config=config(runtime.settings, runtime.sign_in))
    finally:
        runtime.served.set()


def _lifespan(runtime: Runtime, token: str) -> Callable[[st.App], Any]:
    @asynccontextmanager
    async def lifespan(_: st.App) -> AsyncIterator[None]:
        settings = runtime.settings
        _tell_first(runtime)
        # The socket listens already: commands may come as soon as they can find us.
        presence.announce(settings.db, presence.Presence(os.getpid(), settings.host, settings.port, token))
        if runtime.scheduler is not None:
            runtime.scheduler.start()
        resume(runtime)
        # Searching everything for garbage stops every request for a tenth of a second. What is there now stays, so it
        # need not be searched; what comes later is searched about once a minute.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GARBAGE_THRESHOLDS)
        if runtime.gateway is not None and runtime.gateway.apart is not None:
            await to_thread.run_sync(runtime.gateway.apart.wait, _STEERING_SECONDS)
        address = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(f"Trimtab serves {settings.db} at http://{address}:{settings.port}", flush=True)
        yield

    return lifespan


def _tell_first(runtime: Runtime) -> None:
    """Have a stop signal end our own long answers before uvicorn, which waits for them, gets it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        following = signal.getsignal(number)

        def handle(signum: int, frame: FrameType | None, following: Any = following) -> None:
            runtime.stopping.set()
            following(signum, frame)

        signal.signal(number, handle)


def _cut_off(runtime: Runtime) -> None:
    """Wait for the stop; after the grace have uvicorn let go of clients that do not end their requests."""
    runtime.stopping.wait()
    if not runtime.served.wait(runtime.settings.shutdown_grace_seconds):
        os.kill(os.getpid(), signal.SIGINT)


def _exit(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _report(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
