"""Every call of the dashboard that changes something checks a role: read from the code, then tried as lesser roles.

The code is read by `mutating_calls`, so that a new callback without a check fails here on the day it is written.
"""

import ast
import importlib
import inspect
from contextlib import suppress
from typing import Any
from unittest.mock import MagicMock

import mutating_calls
import pytest
import streamlit as st
from mutating_calls import Found

from dashboard import runtime
from dashboard.access import actor as access
from dashboard.access.actor import Actor
from dashboard.learn import actions

CALLS = mutating_calls.calls()

# The process itself, at its start and end, and people who come in and go out themselves.
NOBODYS = {
    ("dashboard.runtime", "close"),
    ("dashboard.runtime", "resume"),
    ("dashboard.server", "_require_admin"),
    ("dashboard.access.gate", "entered"),
    ("dashboard.access.gate", "_end"),
}
# What only admins change, by where it is written.
ADMINS = {
    "store.operators", "store.api_keys", "store.pull_sources", "store.forgetting", "store.retention",
    "store.redaction", "store.notice_routes", "store.backup",
}  # fmt: skip
ADMINS_FUNCTIONS = {"store.lesson_settings.kill", "store.lesson_settings.restore_serving"}
# What every operator changes for themselves.
VIEWERS = {
    "store.visits.arrive", "store.visits.read_up_to", "store.visits.set_zone", "store.saved_views.save",
    "store.saved_views.rename", "store.saved_views.remove",
    "store.audit.exported",  # their own download
}  # fmt: skip
LESSER = {"viewer": (None,), "reviewer": (None, "viewer"), "admin": (None, "viewer", "reviewer")}
GUARDED = [found for found in CALLS if (found.module, found.within) not in NOBODYS]
CALLBACKS = sorted({(found.module, found.within) for found in GUARDED if found.within and found.role})


class _Anything(dict[str, Any]):
    """A session in which every widget holds something."""

    def __missing__(self, key: str) -> Any:
        self[key] = MagicMock(name=key)
        return self[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self[key]


def named(found: Found) -> str:
    return f"{found.module}:{found.line} {found.function}"


def test_there_are_calls_to_check():
    assert len(GUARDED) >= 60
    assert {"store.arms.set_state", "pipelines.lessons.review.approve", "runner.start", "uploads.receive"} <= {
        found.target for found in GUARDED
    }


def test_every_call_that_changes_something_is_guarded():
    assert [named(found) for found in GUARDED if found.role not in LESSER] == []


def test_viewers_change_nothing_of_others():
    assert {mutating_calls.canonical(found.target) for found in GUARDED if found.role == "viewer"} <= VIEWERS


def test_only_admins_change_who_may_what():
    def is_admins(found: Found) -> bool:
        target = mutating_calls.canonical(found.target)
        return target.rpartition(".")[0] in ADMINS or target in ADMINS_FUNCTIONS

    assert {found.target for found in GUARDED if is_admins(found)} >= {"store.api_keys.create", *ADMINS_FUNCTIONS}
    assert [named(found) for found in GUARDED if is_admins(found) and found.role != "admin"] == []


@pytest.mark.parametrize(
    ("source", "roles"),
    [
        ("def _do(name):\n    arms.define(store, name)", [None]),
        ("def draw():\n    st.button('x', on_click=arms.define, args=(1,))", [None]),
        ("def _do():\n    perform(lambda: arms.define(store))", ["reviewer"]),
        ("def _do():\n    def work():\n        arms.define(store)\n    perform(work, role='admin')", ["admin"]),
        ("def _do():\n    perform(lambda: 'x', role=least)\n    (lambda: arms.define(store))()", ["viewer"]),
        ("def _do():\n    permit('admin', 'x')\n    arms.define(store)", ["admin"]),
        ("def _do():\n    arms.define(store)\n    permit('admin', 'x')", [None]),
        ("def _do():\n    if odd:\n        permit('admin', 'x')\n    arms.define(store)", [None]),
        ("def _do():\n    if odd:\n        permit('admin', 'x')\n        arms.define(store)", ["admin"]),
        ("def _both(work):\n    perform(work)\ndef _do():\n    _both(lambda: arms.define(store))", ["reviewer"]),
        ("def _save():\n    arms.define(store)\ndef _do():\n    perform(lambda: _save())", ["reviewer"]),
        ("def _save():\n    arms.define(store)\ndef _do():\n    perform(lambda: _save())\n_save()", [None]),
        ("def _do():\n    runtime.runner.start('x')", [None]),
        ("arms.define(store)", [None]),
    ],
)
def test_the_reading_tells_guarded_calls_from_others(source, roles):
    found = mutating_calls.of_source(f"from store import arms\n{source}")
    assert [one.role for one in found] == roles


def test_parts_that_draw_themselves_again_meet_the_gate_first():
    unchecked = []
    for path in sorted((mutating_calls.ROOT / "dashboard").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and any(
                "fragment(" in ast.unparse(part) and "run_every" in ast.unparse(part)
                for part in function.decorator_list
            ):
                said = [ast.unparse(statement) for statement in function.body[:2]]
                if "gate.stay()" not in said:
                    unchecked.append(f"{path.name}:{function.lineno}")
    assert unchecked == []


def tried(module_name: str, function_name: str, role: str | None, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Call a callback as somebody with the role; returns which changing functions were reached."""
    module = importlib.import_module(module_name)
    function = getattr(module, function_name)
    acting = Actor("somebody@example.com" if role else "", role, signed_in=role is not None)  # type: ignore[arg-type]
    for place in (access, actions):
        monkeypatch.setattr(place, "actor", lambda: acting)
    monkeypatch.setattr(st, "session_state", _Anything())
    current = MagicMock(name="runtime")
    monkeypatch.setattr(runtime, "_current", current)
    reached: set[str] = set()

    def spy(target: str) -> Any:
        def reach(*_: Any, **__: Any) -> Any:
            reached.add(target)
            return MagicMock(name=target)

        return reach

    for found in GUARDED:
        if (found.module, found.within) != (module_name, function_name):
            continue
        owner, _, last = found.target.rpartition(".")
        if owner in ("runner", "loads", "uploads", "store"):
            monkeypatch.setattr(getattr(current, owner), last, spy(found.target))
        else:
            monkeypatch.setattr(importlib.import_module(owner), last, spy(found.target))
            if getattr(module, last, None) is not None and "." not in found.function:
                monkeypatch.setattr(module, last, spy(found.target))
    known = {"runtime": current, "permit": access.permit}
    given = {name: known.get(name) or _argument(name) for name in inspect.signature(function).parameters}
    with suppress(Exception):  # what made-up arguments lead to is not the subject here
        function(**given)
    return reached


def _argument(name: str) -> Any:
    made = MagicMock(name=name)
    made.__iter__.return_value = iter([MagicMock(name=f"one of {name}")])
    return made


@pytest.mark.parametrize(("module", "function"), CALLBACKS)
def test_a_callback_does_nothing_for_a_lesser_role(module, function, monkeypatch):
    needed = min(
        (found.role for found in GUARDED if (found.module, found.within) == (module, function)),
        key=lambda role: list(LESSER).index(str(role)),
    )
    for role in LESSER[str(needed)]:
        with monkeypatch.context() as patched:
            assert tried(module, function, role, patched) == set(), role


def test_the_same_callbacks_do_something_for_who_may(monkeypatch):
    reached = 0
    for module, function in CALLBACKS:
        with monkeypatch.context() as patched:
            reached += bool(tried(module, function, "admin", patched))
    # The others need real values in their widgets; they are tried on their pages.
    assert reached >= 0.75 * len(CALLBACKS)
