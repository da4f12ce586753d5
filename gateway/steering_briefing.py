"""What the steering process has to know of the store: the keys and policies in force, told as they change."""

import threading
from contextlib import suppress
from typing import Final

from gateway.steering_life import Life
from gateway.steering_wire import InForce, KeyChanged, NotInForce, Unread
from pipelines.steering.snapshot import Policies
from store import api_keys
from store.api_keys import ApiKey
from store.connection import Store
from store.policy import Policy

__all__ = ["Briefing"]

_KEY_SECONDS: Final = 1.0


class Briefing:
    """Tells one process at a time. Close it before the store."""

    def __init__(self, store: Store) -> None:
        """Follow the store. Raises: `StoreError`."""
        self._store = store
        self._lock = threading.RLock()
        self._life: Life | None = None
        self._keys: dict[str, ApiKey] = {}
        self._in_force: dict[str, Policy] = {}  # as the process was told
        self._unread: str | None = None
        self.policies = Policies.of_store(store)
        self.policies.tell(self._tell_policies)
        api_keys.follow(store, self._tell_key)

    def begin(self, life: Life) -> None:
        """Tell a new process everything, and from now on what changes."""
        with self._lock:
            self._life = life
            for key in self._keys.values():
                life.send(KeyChanged(0, key))
            self._tell_policies()

    def end(self) -> None:
        """The process is gone: what it was told is told its successor anew."""
        with self._lock:
            self._life = None
            self._in_force, self._unread = {}, None

    def close(self) -> None:
        """Follow the store no more. Safe to call twice."""
        api_keys.unfollow(self._store, self._tell_key)
        self.policies.close()

    def _tell_key(self, key: ApiKey) -> None:
        """A revoked key is refused there too when this returns."""
        with self._lock:
            if key.revoked_at is None:
                self._keys[key.key_id] = key
            else:
                self._keys.pop(key.key_id, None)
            life = self._life
        if life is not None:
            with suppress(TimeoutError, EOFError):
                life.ask(lambda number: KeyChanged(number, key)).result(_KEY_SECONDS)

    def _tell_policies(self) -> None:
        """Send what has changed of the policies in force."""
        with self._lock:
            life = self._life
            if life is None:
                return
            present = {compiled.policy.agent: compiled.policy for compiled in self.policies.all()}
            for agent, policy in present.items():
                before = self._in_force.get(agent)
                # Of a version too users can be deleted: those who are forgotten.
                if before is not policy:
                    life.send(InForce.following(policy, before))
                    self._in_force[agent] = policy
            for agent in self._in_force.keys() - present.keys():
                life.send(NotInForce(agent))
                del self._in_force[agent]
            problem = self.policies.problems().get(None)
            unread = problem.text if problem is not None else None
            if unread != self._unread:
                life.send(Unread(unread))
                self._unread = unread
