"""Playbooks: what an agent is served now, every version there was, going back to one, and the kill switch."""

from difflib import unified_diff
from typing import Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.feel.glossary import meaning
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.lessons.reports import PAST, playbooks_now
from dashboard.lessons.words import titles
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import block, clean, markdown_safe, one_line
from pipelines.lessons import review
from store import lesson_settings, playbooks
from store.lesson_versions import EVERY_AGENT
from store.playbooks import Playbook

__all__ = ["difference", "panel"]

_WHOLE: Final = 100_000
_CAUSES: Final = {
    "settings": "settings changed", "payoffs": "new payoffs", "expired": "a lesson expired",
    "serving off": "serving switched off", "serving on": "serving switched on", "unpin": "unpinned",
}  # fmt: skip


def panel(books: pl.DataFrame) -> None:
    """The playbook of one agent (`books` are the newest versions, columns `store.playbooks.VERSIONS`)."""
    off = data.query(lesson_settings.of, EVERY_AGENT).serving_off
    if off:
        st.error("Nothing is served to any agent: the kill switch for everything is on.", icon=":material/power_off:")
        st.text(clean(off))
    if books.is_empty():
        states.nothing(
            "No playbook yet", "A playbook is written when the first lesson of an agent is approved in Review."
        )
        with st.container(horizontal=True):
            _kill_button(EVERY_AGENT, "every agent", bool(off))
        return
    agent = st.selectbox("Agent", books["agent"].to_list(), key="playbook", bind="query-params")
    versions = data.query(playbooks.versions, agent)
    held = data.query(playbooks.in_force, agent)
    if held is None:
        return
    _now(held)
    _switches(agent, held, bool(off))
    block(held.body, limit=_WHOLE, empty="The text is empty.")
    st.caption(
        "The text of GET /v1/playbooks, character by character: active lessons only. Answers of POST /v1/steer hold "
        "the lessons, canaries too, that match the request, fit the budget and are not withheld."
    )
    _versions(agent, versions, held)


def difference(before: str, after: str, before_name: str, after_name: str) -> str:
    """What changed from one text to the other as a unified diff; empty when they are equal."""
    lines = unified_diff(before.splitlines(), after.splitlines(), before_name, after_name, lineterm="", n=2)
    return "\n".join(lines)


def _now(held: Playbook) -> None:
    st.markdown(
        f"**Version {held.version}:** {fmt.plural(len(held.entries), 'lesson')} may be served; about {held.tokens:,} "
        f"tokens in the block, {held.settings.token_budget:,} fit in an answer."
    )
    st.caption(
        f"Since {fmt.when(held.created_at, seconds=False)}. {held.settings.empty_share * 100:g} % of decisions get "
        "no lesson at all, to compare with."
    )
    if held.settings.off:
        st.error("The kill switch is on: nothing is served to this agent.", icon=":material/power_off:")
        st.text(clean(held.settings.off))
    if held.settings.pinned is not None:
        st.warning(
            f"Pinned: this repeats version {held.settings.pinned} until it is unpinned.", icon=":material/push_pin:"
        )
    names = titles() if held.settings.left_out else {}
    for lesson_id, why in held.settings.left_out.items():
        st.text(f"Left out “{one_line(names.get(lesson_id, lesson_id), 60)}”: {one_line(why, 300)}")


def _switches(agent: str, held: Playbook, everything_off: bool) -> None:
    with st.container(horizontal=True):
        if held.settings.pinned is not None:
            offer.button(
                "Unpin: serve what is approved now", key="unpin", icon=":material/keep_off:", on_click=_unpin,
                args=(agent,),
            )  # fmt: skip
        own = {row["agent"]: row["serving_off"] for row in data.query(lesson_settings.listed).to_dicts()}.get(agent)
        _kill_button(agent, markdown_safe(one_line(agent, 40)), bool(own))
        _kill_button(EVERY_AGENT, "every agent", everything_off)


def _kill_button(agent: str, name: str, off: bool) -> None:
    mark = "all" if agent == EVERY_AGENT else "agent"
    if off:
        offer.button(
            f"Serve {name} again",
            role="admin",
            key=f"restore_{mark}",
            icon=":material/power:",
            on_click=_restore,
            args=(agent,),
        )
        return
    with st.popover(f"Stop serving {name}", icon=":material/power_off:"), st.form(f"kill_form_{mark}", border=False):
        st.caption("At once, and until it is taken back. Lessons keep their states; the audit log keeps the reason.")
        st.text_area("Why?", key=f"kill_reason_{mark}", max_chars=1_000)
        offer.submit(
            f"Stop serving {name}", type="primary", icon=":material/power_off:", key=f"kill_{mark}", on_click=_kill,
            role="admin", args=(agent, mark),
        )  # fmt: skip


def _versions(agent: str, versions: pl.DataFrame, held: Playbook) -> None:
    st.subheader("Versions", anchor=False, help=meaning("playbook"))
    names = titles()
    export.table(
        "playbook versions",
        versions.select(
            "version",
            pl.col("created_at").alias("written"),
            pl.Series("because of", [_because(cause, names) for cause in versions["cause"]], dtype=pl.String),
            pl.Series("lessons", [len(playbooks.decode_entries(row)) for row in versions["entries"]], dtype=pl.Int64),
            "tokens",
        ),
        hide_index=True,
        height=tables.height(versions.height),
        column_config=fmt.columns(
            {
                "because of": st.column_config.TextColumn(width="large"),
                "written": st.column_config.DatetimeColumn(
                    "written (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC"
                ),
            }
        ),
        alt=f"{versions.height} versions of the playbook",
    )
    if versions.height < 2:
        return
    numbers = versions["version"].to_list()
    left, right = st.columns(2)
    before = left.selectbox("Compare version", numbers, index=1, key="before", bind="query-params")
    after = right.selectbox("with version", numbers, index=0, key="after", bind="query-params")
    bodies = dict(versions.select("version", "body").iter_rows())
    _entries(agent, before, after)
    changed = difference(bodies[before], bodies[after], f"version {before}", f"version {after}")
    if changed:
        st.code(clean(changed), language="diff", wrap_lines=True)
    else:
        st.caption("The two versions read the same.")
    if before not in (held.version, held.settings.pinned):
        offer.button(
            f"Go back to version {before}", key="pin", icon=":material/history:", on_click=_pin, args=(agent, before),
            help="Serves exactly its lessons and texts until it is unpinned, but for what was paused or demoted since.",
        )  # fmt: skip


def _entries(agent: str, before: int, after: int) -> None:
    found = data.query(playbooks.difference, agent, before, after)
    names = titles()
    parts = [
        f"{fmt.plural(len(rows), 'lesson')} {word}: "
        + ", ".join(one_line(names.get(entry.lesson_id, entry.lesson_id), 60) for entry in rows[:5])
        for word, rows in (
            ("more", found.added),
            ("less", found.removed),
            ("changed", tuple(b for _, b in found.changed)),
        )
        if rows
    ]
    for part in parts:
        st.text(part)
    if found.settings is not None:
        st.caption("The settings differ too: token budget, share without lessons, kill switch or pin.")


def _because(cause: str, names: dict[str, str]) -> str:
    """Why a version was written, with the title of a lesson in place of its id."""
    action, _, lesson_id = cause.partition(" ")
    if lesson_id in names:
        return f"{PAST.get(action, action)}: {one_line(names[lesson_id], 80)}"
    return one_line(_CAUSES.get(cause, cause), 120)


def _said(made: dict[str, int], what: str) -> str:
    return f"{what} {playbooks_now(made) or 'No playbook changed.'}"


def _kill(agent: str, mark: str) -> None:
    store, reason = runtime.current().store, str(st.session_state[f"kill_reason_{mark}"])
    perform(
        lambda: _said(
            lesson_settings.kill(store, agent, reason=reason, by=operator(), render=review.render), "Serving is off."
        ),
        role="admin",
    )


def _restore(agent: str) -> None:
    store = runtime.current().store
    perform(
        lambda: _said(
            lesson_settings.restore_serving(store, agent, by=operator(), render=review.render), "Serving is on."
        ),
        role="admin",
    )


def _pin(agent: str, version: int) -> None:
    store = runtime.current().store
    perform(
        lambda: _said(
            lesson_settings.pin(store, agent, version, by=operator(), render=review.render),
            f"Back to version {version}.",
        )
    )


def _unpin(agent: str) -> None:
    store = runtime.current().store
    perform(lambda: _said(lesson_settings.unpin(store, agent, by=operator(), render=review.render), "Unpinned."))
