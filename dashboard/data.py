"""Reads of pages: held answers of store queries, with the settings' statement timeout.

A page never shows what was before an operator's action. Beside data that streams in it may, see `dashboard.answers`;
then `age` tells, and every page says so. While storing what agents send is much of what the machine does, it is not
read anew for every visit.
"""

import inspect
import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import streamlit as st

from dashboard import runtime
from dashboard.access.actor import permit
from dashboard.answers import Answers
from store import meta
from store.connection import Store
from store.meta import Version

__all__ = ["age", "begin", "closely", "forget", "fresh", "query", "version"]

_READING: Final = "Reading this"
_AGE: Final = "age of what is shown"
_BESIDE_MUCH_SECONDS: Final = 10.0
_closely: Final = ContextVar("closely", default=False)

P = ParamSpec("P")
T = TypeVar("T")


def version() -> int:
    """The present data version; it moves with every publish and every job."""
    return _present(runtime.current().store).data


def begin() -> None:
    """A run of a page begins: nothing old was shown in it so far."""
    st.session_state[_AGE] = 0.0


def age() -> float:
    """How many seconds old the oldest answer is that this run of the page was given; 0 when nothing has moved since."""
    return float(st.session_state.get(_AGE, 0.0))


@contextmanager
def closely() -> Iterator[None]:
    """What is asked within is about one thing that somebody may watch: how much agents send makes it no older."""
    token = _closely.set(True)
    try:
        yield
    finally:
        _closely.reset(token)


def query(function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The answer of a store query, held or read now.

    Arguments are compared by value: ids, numbers, times, frozen dataclasses of them, and lists and dicts of those.
    Raises what the query raises, which is never held; a query with a `timeout` gets that of the settings. Raises
    `Forbidden` for whoever may not see pages (any more): parts of a page that refresh by themselves do not pass the
    gate again.
    """
    permit("viewer", _READING)
    current = runtime.current()
    store, extra = current.store, _timeout(function, kwargs)
    key = (function.__module__, function.__qualname__, _frozen(args), _frozen(kwargs))
    given = _answers(store).give(
        key,
        lambda: _present(store),
        lambda: function(store, *args, **kwargs, **extra),
        oldest=current.settings.page_age_seconds,
        at_least=_BESIDE_MUCH_SECONDS if _much_comes_in(current) and not _closely.get() else 0.0,
    )
    if given.age > age():
        st.session_state[_AGE] = given.age
    answer: T = given.answer
    return answer


def fresh(function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The answer of a store query read now, for what changes without a new data version, such as running jobs."""
    permit("viewer", _READING)
    return function(runtime.current().store, *args, **kwargs, **_timeout(function, kwargs))


def forget() -> None:
    """Let go of every answer: somebody's data was taken out of the store."""
    _answers(runtime.current().store).forget()


def _much_comes_in(current: runtime.Runtime) -> bool:
    return current.gateway is not None and current.gateway.intake.busy()


def _frozen(value: Any) -> Hashable:
    if isinstance(value, dict):
        return tuple((name, _frozen(value[name])) for name in sorted(value))
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    key: Hashable = value
    return key


def _timeout(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    if _has_timeout(function) and "timeout" not in given:
        return {"timeout": runtime.current().settings.query_timeout_seconds}
    return {}


@cache
def _has_timeout(function: Callable[..., Any]) -> bool:
    return "timeout" in inspect.signature(function).parameters


_lock = threading.Lock()
_held: WeakKeyDictionary[Store, Answers] = WeakKeyDictionary()
_versions: WeakKeyDictionary[Store, tuple[int, Version]] = WeakKeyDictionary()
_refreshing = ThreadPoolExecutor(1, "pages-refresh")


def _answers(store: Store) -> Answers:
    with _lock:
        answers = _held.get(store)
        if answers is None:
            answers = _held[store] = Answers(_refreshing.submit)
        return answers


def _present(store: Store) -> Version:
    # Nothing but the writer changes the store: as long as it has done nothing more, the version stands.
    changes = store.changes
    with _lock:
        known = _versions.get(store)
    if known is not None and known[0] == changes:
        return known[1]
    present = meta.version(store)
    with _lock:
        _versions[store] = (changes, present)
    return present
