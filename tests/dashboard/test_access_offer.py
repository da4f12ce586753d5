"""Buttons that change something are offered to those who may press them; the others read whose task it is.

Read from the code: a button whose callback checks a role is drawn by `offer`, with that role. Then tried on pages.
"""

import ast
from collections.abc import Iterator

import mutating_calls
import pytest
from mutating_calls import ROOT
from page_driver import open_page, store_for_pages
from signing_in import ADMIN, REVIEWER, VIEWER, come, signing_in

from store import api_keys

_CHECKS = ("perform", "permit")
_RANKS = ("viewer", "reviewer", "admin")


def name_of(function: ast.expr) -> str:
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def stated(call: ast.Call, default: str) -> str:
    """The role that a call names, as text."""
    if name_of(call.func) == "permit":
        return str(getattr(call.args[0], "value", "")) if call.args else ""
    return next((str(getattr(each.value, "value", "")) for each in call.keywords if each.arg == "role"), default)


def calls(node: ast.AST) -> Iterator[ast.Call]:
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))


def checked(tree: ast.Module) -> dict[str, str]:
    """The functions of a module that check a role, themselves or in one they call, with the lowest role."""
    found: dict[str, str] = {}
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for _ in functions:
        for function in functions:
            roles = [stated(call, "reviewer") for call in calls(function) if name_of(call.func) in _CHECKS]
            roles += [found[name_of(call.func)] for call in calls(function) if name_of(call.func) in found]
            # What takes the role that it is given checks none of its own.
            roles = [role for role in roles if role in _RANKS]
            if roles:
                found[function.name] = min(roles, key=_RANKS.index)
    return found


def buttons(source: str) -> list[tuple[int, str, str, str]]:
    """Line, how it is drawn, the role that the callback checks, the role for which it is offered."""
    tree = ast.parse(source)
    roles = checked(tree)
    found = []
    for call in calls(tree):
        if name_of(call.func) not in ("button", "submit", "form_submit_button"):
            continue
        callback = next((each.value for each in call.keywords if each.arg == "on_click"), None)
        needed = roles.get(name_of(callback), "") if callback is not None else ""
        if needed not in ("", "viewer"):
            found.append((call.lineno, ast.unparse(call.func), needed, stated(call, "reviewer")))
    return found


def test_every_button_that_needs_a_role_is_drawn_for_it():
    wrong, seen = [], 0
    for path in sorted((ROOT / "dashboard").rglob("*.py")):
        for line, drawn, needed, offered in buttons(path.read_text(encoding="utf-8")):
            seen += 1
            if not drawn.startswith("offer.") or offered != needed:
                wrong.append(f"{path.name}:{line} {drawn} offered to {offered}, needs {needed}")
    assert wrong == []
    assert seen >= 70
    guarded = {found.module for found in mutating_calls.calls() if found.role in ("reviewer", "admin")}
    assert len(guarded) >= 30


@pytest.mark.parametrize(
    ("drawn", "wrong"),
    [
        ("st.button('x', on_click=_do)", True),
        ("offer.button('x', on_click=_do)", True),
        ("offer.button('x', role='admin', on_click=_do)", False),
        ("st.button('x', on_click=_look)", False),
    ],
)
def test_the_reading_tells_them_apart(drawn, wrong):
    source = f"def _do():\n    perform(lambda: 1, role='admin')\ndef _look():\n    pass\n{drawn}"
    assert any(not how.startswith("offer.") or role != needed for _, how, needed, role in buttons(source)) == wrong


@pytest.fixture
def signed(tmp_path, monkeypatch):
    with store_for_pages(tmp_path / "trimtab.duckdb") as opened:
        signing_in(opened, monkeypatch)
        api_keys.create(opened, scopes=["ingest"], name="shop", operator="Ada")
        yield opened


def state(page, key):
    button = page.button(key=key)
    return button.disabled, button.help


@pytest.mark.parametrize(
    ("page", "query", "key", "needed"),
    [
        ("data", {"tab": "Jobs"}, "data_run_tasks", "reviewer"),
        ("settings", {}, "operator_invite_confirm", "admin"),
        ("settings", {"settings": "Keys"}, "key_make_confirm", "admin"),
    ],
)
def test_who_may_not_press_it_sees_it_disabled_and_whose_task_it_is(signed, monkeypatch, page, query, key, needed):
    for email, role in ((VIEWER, "viewer"), (REVIEWER, "reviewer"), (ADMIN, "admin")):
        come(monkeypatch, email)
        disabled, says = state(open_page(page, **query), key)
        if _RANKS.index(role) >= _RANKS.index(needed):
            assert not disabled
            assert "takes the role" not in (says or "")
        else:
            assert (disabled, says) == (True, f"This takes the role {needed}, and you have the role {role}.")


def test_the_local_operator_may_press_everything(tmp_path):
    with store_for_pages(tmp_path / "trimtab.duckdb"):
        assert state(open_page("settings"), "operator_invite_confirm")[0] is False
