"""Sources that are pulled: how each is doing, a test of it, and the form that adds or changes one."""

import os
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final, Literal, cast

import streamlit as st

from dashboard.access import gate, offer
from dashboard.access.actor import permit
from dashboard.learn.actions import operator, perform, show_report
from dashboard.runtime import Runtime, current
from dashboard.ui import format as fmt
from dashboard.ui import states
from dashboard.ui.text import block, line, markdown_safe
from pipelines.pull import spool
from pipelines.pull.check import Checked, check
from store import pull_sources
from store.errors import Forbidden
from store.pull_sources import KINDS, Kind, PullSource, PullState

__all__ = ["sources_panel"]

_NEW: Final = "A new source"
_CHOSEN: Final = "source_chosen"
_TESTED: Final = "source_tested"
_FIRST_PULL: Final = timedelta(days=30)
_LABELS: Final[dict[str, str]] = {"langfuse": "Langfuse", "phoenix": "Phoenix", "mlflow": "MLflow"}
_ADDRESSES: Final = "https://cloud.langfuse.com, http://127.0.0.1:6006, http://127.0.0.1:5000"

_Colour = Literal["blue", "green", "red", "orange", "gray"]


def sources_panel(runtime: Runtime) -> None:
    """The sources with their state, refreshed every few seconds, and the form below them."""
    known = pull_sources.every(runtime.store)
    if not known:
        states.nothing(
            "Nothing is pulled",
            "Langfuse, Phoenix and MLflow can be asked for their traces and feedback every few minutes. "
            "Name one below; its keys stay in the environment of this server.",
        )
    else:
        _live(runtime)
    _editor(runtime, {source.name: source for source, _ in known})


@st.fragment(run_every="5s")
def _live(runtime: Runtime) -> None:
    gate.stay()
    show_report()
    if runtime.scheduler is None:
        st.warning(
            "No scheduler runs in this process: sources are pulled only when the job is run by hand.",
            icon=":material/schedule:",
        )
    for source, state in pull_sources.every(runtime.store):
        _source(runtime, source, state)


def _source(runtime: Runtime, source: PullSource, state: PullState) -> None:
    now = runtime.clock.now()
    label, colour, icon = _badge(source, state)
    with st.container(border=True, key=f"source_{source.name}", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{markdown_safe(source.name)}**", width="content")
            st.badge(label, color=colour, icon=icon)
            st.caption(_place(source), width="stretch")
            test = offer.button("Test", role="admin", key=f"source_test_{source.name}", icon=":material/network_check:")
            offer.button(
                "Resume" if source.paused else "Pause", key=f"source_pause_{source.name}", on_click=_pause,
                role="admin", args=(source.name, not source.paused),
                icon=":material/play_arrow:" if source.paused else ":material/pause:",
            )  # fmt: skip
        columns = st.columns(4)
        columns[0].metric("Last pull", fmt.relative(state.finished_at or state.started_at, now))
        columns[1].metric("Newest record", fmt.relative(state.watermark, now), help=fmt.when(state.watermark))
        columns[2].metric("Rows brought", fmt.count(state.rows), help=f"The latest run: {fmt.count(state.last_rows)}.")
        columns[3].metric("Next pull", _next(source, state, now))
        if state.progress is not None and not state.error:
            st.caption(f"A pull is under way: {fmt.plural(state.fetched, 'record')} received since it was added.")
        if state.error:
            block(state.error, limit=2_000)
        tested: dict[str, Checked] = st.session_state.setdefault(_TESTED, {})
        if test:
            tested[source.name] = _tested(runtime, source)
        if (found := tested.get(source.name)) is not None:
            (st.success if found.ok else st.error)(
                markdown_safe(found.text), icon=":material/check_circle:" if found.ok else ":material/error:"
            )


def _tested(runtime: Runtime, source: PullSource) -> Checked:
    """Ask the source with the keys of this server, for whoever may."""
    try:
        permit("admin", "Testing a source")
    except Forbidden as refused:
        return Checked(False, str(refused), None)
    with st.spinner("Asking for the newest record", show_time=True):
        return check(source, environ=os.environ, clock=runtime.clock)


def _badge(source: PullSource, state: PullState) -> tuple[str, _Colour, str]:
    if source.paused:
        return "paused", "gray", ":material/pause:"
    if state.failures:
        label = "failed" if state.failures == 1 else f"failed {state.failures:,} times in a row"
        return label, "red", ":material/error:"
    if state.started_at is None:
        return "waits for its first pull", "blue", ":material/schedule:"
    if state.progress is not None:
        return "under way", "blue", ":material/progress_activity:"
    return "up to date", "green", ":material/check:"


def _place(source: PullSource) -> str:
    where = f"{_LABELS[source.kind]} at {source.base_url}"
    return markdown_safe(where if source.project is None else f"{where}, {source.project}")


def _next(source: PullSource, state: PullState, now: datetime) -> str:
    if source.paused:
        return "when resumed"
    due = pull_sources.due_at(source, state)
    return "now" if due <= now else fmt.relative(due, now)


def _pause(name: str, paused: bool) -> None:
    def work() -> str:
        pull_sources.pause(current().store, name, paused=paused, operator=operator())
        return f"{name} is {'paused: nothing more is asked of it' if paused else 'pulled again'}."

    perform(work, role="admin")


def _remove(name: str) -> None:
    def work() -> str:
        store = current().store
        pull_sources.remove(store, name, operator=operator())
        spool.discard(store, name)
        st.session_state[_CHOSEN] = _NEW
        return f"{name} is removed. What it brought stays."

    perform(work, role="admin")


def _editor(runtime: Runtime, known: dict[str, PullSource]) -> None:
    """The form for a new source, or for the one that is chosen."""
    st.subheader("Add or change a source", anchor=False)
    names = [_NEW, *known]
    if st.session_state.get(_CHOSEN) not in names:
        st.session_state[_CHOSEN] = _NEW
    chosen = st.selectbox("Source", names, key=_CHOSEN, width=320)
    source = known.get(chosen)
    shown = source or PullSource("", "langfuse", "", runtime.clock.now() - _FIRST_PULL)
    key = "source_form_new" if source is None else f"source_form_{source.name}"
    with st.form(key, border=True):
        _fields(key, shown, new=source is None)
        offer.submit(
            "Add" if source is None else "Save",
            role="admin",
            key=f"{key}_save",
            type="primary",
            on_click=_save,
            args=(key, source),
        )
    if source is not None:
        with st.popover("Remove it", icon=":material/delete:"):
            line(source.name)
            st.caption("What it brought stays. What waits to be loaded is dropped. The audit log keeps the setup.")
            offer.button(
                "Remove this source", key=f"source_remove_{source.name}", type="primary", on_click=_remove,
                role="admin", args=(source.name,),
            )  # fmt: skip


def _fields(key: str, shown: PullSource, *, new: bool) -> None:
    left, right = st.columns(2)
    left.text_input(
        "Name", shown.name, key=f"{key}_name", disabled=not new, help="Its rows carry this as their source."
    )
    right.selectbox("System", KINDS, KINDS.index(shown.kind), key=f"{key}_kind", format_func=lambda kind: _LABELS[kind])
    # A pair of columns for each line: on a narrow screen they stand below each other in this order.
    left, right = st.columns(2)
    left.text_input("Address", shown.base_url, key=f"{key}_url", help=f"Such as {_ADDRESSES}.")
    right.text_input(
        "Project", shown.project or "", key=f"{key}_project",
        help="Phoenix: the project's name. MLflow: the experiment's id. Langfuse: empty, its keys say which.",
    )  # fmt: skip
    left, right = st.columns(2)
    left.text_input(
        "Variable of the public key or user", shown.user_variable or "", key=f"{key}_user",
        help="The name of an environment variable of this server, such as LANGFUSE_PUBLIC_KEY.",
    )  # fmt: skip
    right.text_input(
        "Variable of the secret", shown.secret_variable or "", key=f"{key}_secret",
        help="The name of an environment variable such as LANGFUSE_SECRET_KEY. Never enter the secret itself.",
    )  # fmt: skip
    st.date_input("Nothing older than (UTC)", shown.since.astimezone(UTC).date(), key=f"{key}_since", width=200)
    columns = st.columns(4)
    columns[0].number_input("Every (s)", 60, None, shown.every_seconds, key=f"{key}_every")
    columns[1].number_input(
        "Overlap (s)", 0, None, shown.overlap_seconds, key=f"{key}_overlap",
        help="A pull begins so long before the newest record held: longer than a trace takes.",
    )  # fmt: skip
    columns[2].number_input(
        "Read again (s)", 0, None, shown.reread_seconds, key=f"{key}_reread",
        help="So much is read again every 6 hours, to find late feedback. 0: never.",
    )  # fmt: skip
    columns[3].number_input("Records a page", 1, 1_000, shown.page_size, key=f"{key}_page")
    columns = st.columns(4)
    columns[0].number_input("Requests a run", 1, None, shown.requests_per_run, key=f"{key}_requests")
    columns[1].number_input("Requests a second", 0.01, None, shown.requests_per_second, key=f"{key}_rate")


def _save(key: str, source: PullSource | None) -> None:
    """Keep what the form holds. A date that was not changed keeps its time of day."""

    def value(name: str) -> Any:
        return st.session_state[f"{key}_{name}"]

    def work() -> str:
        store = current().store
        since = datetime.combine(value("since"), time(), UTC)
        stated = PullSource(
            name=value("name").strip() if source is None else source.name, kind=cast(Kind, value("kind")),
            base_url=value("url"), project=value("project") or None, user_variable=value("user").strip() or None,
            secret_variable=value("secret").strip() or None, since=since, every_seconds=int(value("every")),
            overlap_seconds=int(value("overlap")), reread_seconds=int(value("reread")), page_size=int(value("page")),
            requests_per_run=int(value("requests")), requests_per_second=float(value("rate")),
        )  # fmt: skip
        if source is None:
            kept = pull_sources.add(store, stated, operator=operator())
            st.session_state[_CHOSEN] = kept.name
            return f"{kept.name} is added. Test it above; its first pull begins with the next look of the scheduler."
        if since.date() == source.since.astimezone(UTC).date():
            stated = replace(stated, since=source.since)
        pull_sources.change(store, replace(stated, paused=source.paused), operator=operator())
        st.session_state.get(_TESTED, {}).pop(source.name, None)
        return f"{source.name} is changed."

    perform(work, role="admin")
