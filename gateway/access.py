"""Who may use a route of the gateway: API keys, their scopes and rates, and the keyless caller on this machine.

Keys are checked in memory. `store.api_keys` tells of every key that is made or revoked before that call returns, so a
revoked key is refused from then on and no request costs a query. Nothing here trusts a forwarding header.

    access = Access(store, keyless_loopback=settings.allow_keyless_loopback)
    try:
        caller = access.check(request.headers, request.client.host if request.client else None, "ingest")
    except AccessRefused as error:
        return JSONResponse({"error": str(error)}, status_code=error.status, headers=error.headers)

A request names its key as `Authorization: Bearer KEY` or `x-api-key: KEY`, percent-encoded or not (the value of
OTEL_EXPORTER_OTLP_HEADERS is, and some exporters send it undecoded).
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime

from gateway.key_refusals import AccessRefused, KeyMissing, KeyUnknown, RateLimited, ScopeMissing, make_a_key
from gateway.key_ring import KEYLESS_SCOPES, KEYLESS_SOURCE, Bucket, Caller, KeyRing, KeyUse, Scope
from store import api_keys
from store.connection import Store
from store.errors import SettingsError, StoreClosed, StoreError
from store.settings import Settings, is_loopback

__all__ = [
    "KEYLESS_SCOPES", "KEYLESS_SOURCE", "Access", "AccessRefused", "Bucket", "Caller", "KeyMissing", "KeyUnknown",
    "KeyUse", "RateLimited", "Scope", "ScopeMissing", "require_keys",
]  # fmt: skip

_LOG = logging.getLogger(__name__)
_UNWRITTEN = "when an API key was used last could not be written"

# What was refused by reason, and what keys did, in another process.
Elsewhere = Callable[[], tuple[Mapping[str, int], Mapping[str, KeyUse]]]


class Access(KeyRing):
    """Checks requests against the keys of a store. One for each process; close it before the store."""

    def __init__(self, store: Store, *, keyless_loopback: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is monotonic, in seconds; the time of day comes from the store's clock."""
        super().__init__(store.clock.now, keyless_loopback=keyless_loopback, used=self.write, clock=clock)
        self._store = store
        self._elsewhere: Elsewhere = lambda: ({}, {})
        api_keys.follow(store, self.changed)

    def count(self, elsewhere: Elsewhere) -> None:
        """Count what `elsewhere` says among what was refused and used here."""
        self._elsewhere = elsewhere

    def refused(self) -> dict[str, int]:
        """How many requests were refused since the start, by reason."""
        return dict(Counter(super().refused()) + Counter(self._elsewhere()[0]))

    def use(self) -> dict[str, KeyUse]:
        """What each key in force did, by its id."""
        held, elsewhere = super().use(), self._elsewhere()[1]
        return {key_id: use.plus(elsewhere.get(key_id)) for key_id, use in held.items()}

    def write(self, used: dict[str, datetime]) -> None:
        """Hand the last use of keys to the writer; no request waits for it."""

        def ended(future: "Future[None]") -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                _LOG.warning("%s yet: %s", _UNWRITTEN, error)
                self.tell_again(used)

        try:
            self._store.submit(lambda connection: api_keys.record_use(connection, used)).add_done_callback(ended)
        except StoreClosed as error:
            # The process is ending behind this request; the route that writes for it says so.
            _LOG.warning("%s: %s", _UNWRITTEN, error)

    def close(self) -> None:
        """Write down when keys were used last, and follow the store no more. Safe to call twice."""
        api_keys.unfollow(self._store, self.changed)
        used = self.untold()
        if not used:
            return
        try:
            self._store.write(lambda connection: api_keys.record_use(connection, used))
        except StoreError as error:
            _LOG.warning("%s: %s", _UNWRITTEN, error)


def require_keys(settings: Settings, store: Store) -> None:
    """Refuse to listen where other machines could reach the gateway while there is no key. Raises: `SettingsError`."""
    if not is_loopback(settings.host) and not api_keys.count_in_force(store):
        command = make_a_key("ingest")
        raise SettingsError(
            "TRIMTAB_HOST", settings.host, f"a loopback address, or an API key made beforehand with `{command}`"
        )
