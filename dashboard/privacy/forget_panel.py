"""Forgetting a user and giving out their data: a preview, a typed confirmation, a report."""

from collections.abc import Callable
from functools import partial
from typing import Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.access.actor import Actor, Role, actor, permitting
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from pipelines.privacy import forget, user_data
from store import operators
from store.connection import Store
from store.errors import NotFound
from store.forgetting import LostEvidence, Preview, Report
from store.tombstones import Refuse

__all__ = ["draw"]

_USER: Final = "forget_user"
_REPORT: Final = "forget_report"
_REFUSE: Final[dict[Refuse, str]] = {
    "late": "what is dated before now: who comes back is new",
    "always": "whatever comes of them",
    "never": "nothing: what is sent again is stored again",
}


def draw() -> None:
    """Draw the search for a user, what would go, and the last report."""
    st.markdown("**One user's data**")
    st.caption("Give it out, or delete it everywhere: traces, signals, rewards, decisions and what was derived.")
    _report()
    user = (st.text_input("User id, as traces name it", key=_USER, max_chars=2_000) or "").strip()
    if not user:
        return
    try:
        foreseen = data.query(forget.preview, user)
    except NotFound:
        st.text("The store holds nothing of this user.")
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        _preview(foreseen)
    with right:
        _give_out(user)
        _confirm(user)


def _preview(foreseen: Preview) -> None:
    st.caption("What would be deleted, by table:")
    held = sorted(foreseen.rows.items(), key=lambda item: -item[1])
    export.table(
        "rows that would go", pl.DataFrame({"table": [name for name, _ in held], "rows": [count for _, count in held]}),
        hide_index=True, height=tables.height(len(held)), alt=f"Rows that would go from {len(held)} tables",
        column_config={"rows": st.column_config.NumberColumn("rows", format="localized")},
    )  # fmt: skip
    _lessons(foreseen.lessons)
    _exports(foreseen)


def _lessons(lessons: tuple[LostEvidence, ...]) -> None:
    if not lessons:
        st.caption("No lesson loses evidence.")
        return
    export.table(
        "lessons that lose evidence",
        pl.DataFrame(
            [
                {
                    "lesson": one_line(one.title, 120), "state": one.state, "loses": one.lost, "good left": one.good,
                    "bad left": one.bad, "demoted to": one.demoted_to or "",
                }
                for one in lessons
            ]
        ),
        hide_index=True, height=tables.height(len(lessons)), alt=f"{len(lessons)} lessons that lose evidence",
    )  # fmt: skip


def _exports(told: Preview | Report) -> None:
    if told.exports:
        numbers = ", ".join(map(str, told.exports))
        st.caption(f"Training exports withdrawn: {numbers}. Delete files that were made of them.")
    if told.tunings:
        numbers = ", ".join(map(str, told.tunings))
        st.caption(f"Models trained with them (fine-tunings {numbers}) cannot unlearn: train anew.")


def _give_out(user: str) -> None:
    acting = actor()
    # Drawn for admins only: who cannot press it has nothing to fetch.
    if operators.allows(acting.role, "admin"):
        st.download_button(
            "Download their data", partial(_archive, runtime.current().store, user, permitting()),
            "trimtab-user-data.zip", "application/zip", key="export_user", icon=":material/download:",
            on_click="ignore", help="A ZIP of JSON Lines, one file a table. It is noted in the audit log.",
        )  # fmt: skip


def _archive(store: Store, user: str, permit: Callable[[Role, str], Actor]) -> bytes:
    acting = permit("admin", "Giving out somebody's data")
    return user_data.archive(store, user, operator=acting.email)


def _confirm(user: str) -> None:
    with st.form("forget_form", clear_on_submit=False):
        st.markdown("**Forget this user, for good**")
        st.selectbox("Refuse from now on", list(_REFUSE), key="forget_refuse", format_func=lambda name: _REFUSE[name])
        st.text_input("Reason", key="forget_reason", max_chars=300, placeholder="For the audit log; without the id")
        st.text_input("Type the id again", key="forget_typed", max_chars=2_000)
        offer.submit(
            "Delete everything", role="admin", type="primary", icon=":material/delete_forever:", key="forget_confirm",
            on_click=_forgotten, args=(user,),
        )  # fmt: skip


def _forgotten(user: str) -> None:
    read = st.session_state
    typed, refuse, reason = str(read["forget_typed"]), read["forget_refuse"], str(read["forget_reason"]).strip()

    def work() -> str:
        if typed != user:
            return "Nothing was deleted: the id was not typed again as it is."
        current = runtime.current()
        done = forget.forget(current.store, current.settings, user, operator=operator(), refuse=refuse, reason=reason)
        read[_REPORT] = done
        read[_USER] = read["forget_typed"] = read["forget_reason"] = ""
        # Pages keep what they read for a while.
        data.forget()
        return f"Forgotten: {fmt.plural(sum(done.rows.values()), 'row')} deleted."

    perform(work, role="admin")


def _report() -> None:
    done: Report | None = st.session_state.get(_REPORT)
    if done is None:
        return
    with st.container(border=True):
        st.markdown("**What forgetting did**")
        st.caption(
            f"{fmt.plural(sum(done.rows.values()), 'row')} of {fmt.plural(len(done.rows), 'table')} deleted, "
            f"{fmt.plural(sum(done.cells.values()), 'other text')} and {fmt.plural(done.audit_rows, 'audit row')} "
            f"cleaned. In the audit log: person {done.pseudonym}."
        )
        if done.rewritten:
            st.caption("The database file was written anew: nothing of them is left in it. Make new backups.")
        else:
            st.warning("The database file is not written anew yet: the job retention tries again.")
            st.text(done.problem or "")
        if done.plain_id:
            st.caption("The id is too plain to be looked for inside texts: only whole values of it were taken out.")
        _lessons(done.lessons)
        _exports(done)
        if done.files:
            st.caption("Files beside the store that still name them, or may:")
            for name in done.files:
                st.text(one_line(name, 300))
        st.button("Put away", key="forget_put_away", on_click=lambda: st.session_state.pop(_REPORT, None))
