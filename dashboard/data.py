"""Reads of pages: one cache over all store queries, keyed on the data version, with the settings' statement timeout.

A publish or a job moves the data version, so a page never shows what was; between two of them nothing is read twice.
"""

import inspect
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import streamlit as st

from dashboard import runtime
from dashboard.access.actor import permit
from store import meta
from store.connection import Store

__all__ = ["fresh", "query", "version"]

_READING: Final = "Reading this"

P = ParamSpec("P")
T = TypeVar("T")


def version() -> int:
    """The present data version; read on every run, it is what the cache is keyed on."""
    return meta.data_version(runtime.current().store)


def query(function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The answer of a store query, from the cache while the data version stands.

    Arguments are hashed by value: ids, numbers, times and frozen dataclasses of them. Raises what the query raises,
    which is never cached; a query with a `timeout` gets that of the settings. Raises `Forbidden` for whoever may not
    see pages (any more): parts of a page that refresh by themselves do not pass the gate again.
    """
    permit("viewer", _READING)
    arguments = (args, tuple(sorted(kwargs.items())))
    name = f"{function.__module__}.{function.__qualname__}"
    answer: T = _cached(name, _place(), version(), arguments, lambda: fresh(function, *args, **kwargs))
    return answer


def fresh(function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The answer of a store query read now, for what changes without a new data version, such as running jobs."""
    permit("viewer", _READING)
    current = runtime.current()
    extra: dict[str, Any] = {}
    if _has_timeout(function) and "timeout" not in kwargs:
        extra["timeout"] = current.settings.query_timeout_seconds
    return function(current.store, *args, **kwargs, **extra)


@st.cache_data(ttl="15m", max_entries=500, show_spinner=False)
def _cached(name: str, place: str, version: int, arguments: Hashable, _run: Callable[[], Any]) -> Any:
    return _run()


@cache
def _has_timeout(function: Callable[..., Any]) -> bool:
    return "timeout" in inspect.signature(function).parameters


def _place() -> str:
    store = runtime.current().store
    return f"{store.path}#{id(store)}"
