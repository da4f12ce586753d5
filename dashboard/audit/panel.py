"""The Audit tab of the Settings page: who did what, whether the log is as it was written, and the log as a file."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access.actor import Actor, Role, permitting
from dashboard.learn import tables
from dashboard.learn.actions import perform
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line, pretty_json
from store import audit
from store.audit import Filter
from store.connection import Store

__all__ = ["draw"]

_PAGE: Final = 50
_ANYBODY, _ANYTHING = "anybody", "anything"
_DAYS: Final = {"any time": None, "24 hours": 1, "7 days": 7, "30 days": 30, "365 days": 365}


def draw() -> None:
    """Draw the log with its filters, its check and its exports."""
    st.subheader("Audit", anchor=False)
    rows = data.fresh(audit.count)
    if not rows:
        states.nothing(
            "Nobody has done anything yet", "Every approval, setting, key, export and deletion is kept here."
        )
        return
    _check(rows)
    chosen = _filters()
    found = data.fresh(audit.chosen_count, chosen)
    if not found:
        st.text("No row matches. Change the filters.")
        return
    page = _page(found)
    frame = data.fresh(audit.page, chosen, limit=_PAGE, offset=(page - 1) * _PAGE)
    _table(frame, found)
    _downloads(chosen)


def _check(rows: int) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{fmt.plural(rows, 'row')}. Each carries the hash of the one before, so a row that is changed, removed or "
            "moved is found. Newest hash:"
        )
        st.code(data.fresh(audit.newest_hash)[:16], language=None)
        st.button("Verify all rows", key="audit_verify", icon=":material/verified:", on_click=_verified)


def _verified() -> None:
    def work() -> str:
        broken = audit.verify(runtime.current().store)
        if broken is not None:
            return f"The log was tampered with, first at row {broken:,}. Compare it with a backup."
        return f"All {audit.count(runtime.current().store):,} rows are as they were written."

    perform(work, role="viewer")


def _filters() -> Filter:
    actors, actions = data.fresh(audit.names)
    who, what, when, about, search = st.columns([2, 2, 1.5, 2, 2])
    actor = who.selectbox("Who", [_ANYBODY, *actors], key="audit_who", bind="query-params")
    action = what.selectbox("Action", [_ANYTHING, *actions], key="audit_action", bind="query-params")
    span = when.selectbox("When", list(_DAYS), key="audit_when", bind="query-params")
    subject = about.text_input("Subject", key="audit_subject", bind="query-params", placeholder="lesson 1a2b")
    text = search.text_input("Search", key="audit_q", bind="query-params", placeholder="in subject and detail")
    days = _DAYS[span]
    # By whole days, so that the next run asks the same.
    today = datetime.combine(_today() + timedelta(days=1), time(), UTC)
    return Filter(
        actor=None if actor == _ANYBODY else actor, action=None if action == _ANYTHING else action,
        subject=(subject or "").strip() or None, text=(text or "").strip() or None,
        since=None if days is None else today - timedelta(days=days + 1),
    )  # fmt: skip


def _today() -> date:
    return runtime.current().clock.now().date()


def _page(found: int) -> int:
    pages = max(1, -(-found // _PAGE))
    if pages == 1:
        return 1
    # A page of an earlier filter may be past the end of this one.
    if int(st.session_state.get("audit_page") or 1) > pages:
        st.session_state["audit_page"] = 1
    page = st.number_input(
        f"Page of {pages:,}", 1, pages, 1, key="audit_page", bind="query-params", help="Newest first, 50 rows a page"
    )
    return int(page)


def _table(frame: pl.DataFrame, found: int) -> None:
    st.caption(f"{fmt.plural(found, 'row')}, newest first. Select one to read what was changed.")
    event = st.dataframe(
        pl.DataFrame(
            {
                "row": frame["sequence"], "when": frame["occurred_at"],
                "who": [one_line(name, 120) for name in frame["actor"]],
                "action": [one_line(name, 80) for name in frame["action"]],
                "subject": [one_line(name, 120) for name in frame["subject"]],
                "detail": [one_line(text, 200) for text in frame["detail"]],
            }
        ),
        key="audit_table", hide_index=True, on_select="rerun", selection_mode="single-row",
        height=tables.height(frame.height), alt=f"{frame.height} rows of the audit log",
        column_config=fmt.columns({
            "when": st.column_config.DatetimeColumn("when (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC"),
        }),
    )  # fmt: skip
    picked = event["selection"]["rows"]
    if picked and picked[0] < frame.height:
        row = frame.row(picked[0], named=True)
        st.text(f"{row['actor']} · {row['action']} · {row['subject']} · {fmt.when(row['occurred_at'])}")
        st.code(pretty_json(row["detail"]), language="json", wrap_lines=True)
        st.caption(f"Hash {row['hash']}, previous {row['previous_hash']}")


def _downloads(chosen: Filter) -> None:
    store = runtime.current().store
    read = partial(_whole, store, chosen)
    export.download(read, "audit log", "audit-export")
    st.download_button(
        "JSON Lines", partial(_json_lines, store, chosen, permitting()), "trimtab-audit-log.jsonl",
        "application/x-ndjson", key="audit-export-jsonl", icon=":material/download:", type="tertiary",
        on_click="ignore", help="All rows that the filters leave, with everything the hashes are made of",
    )  # fmt: skip


def _whole(store: Store, chosen: Filter) -> pl.DataFrame:
    blocks, after = [], -1
    while len(block := audit.block(store, chosen, after=after)):
        blocks.append(block)
        after = block["sequence"][-1]
    return pl.concat(blocks) if blocks else audit.block(store, chosen, after=after)


def _json_lines(store: Store, chosen: Filter, permit: Callable[[Role, str], Actor]) -> bytes:
    acting = permit("viewer", "Reading the audit log")
    log = _whole(store, chosen)
    audit.exported(store, acting.email, table="audit log", kind="JSON Lines", rows=log.height)
    rows = (
        {**row, "occurred_at": row["occurred_at"].isoformat(), "detail": json.loads(row["detail"])}
        for row in log.iter_rows(named=True)
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
