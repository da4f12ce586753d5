"""Drafting with a language model: what the next question would say and cost, and what became of those asked."""

import json
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.learn import tables
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import block, clean, markdown_safe, one_line
from pipelines.lessons.drafting.preview import Preview, preview
from store import drafting
from store.errors import TrimtabError
from store.frames import each

__all__ = ["panel"]

_SHOWN: Final = 100
_PREVIEW: Final = "draft_preview"


def panel(agents: tuple[str, ...]) -> None:
    """The dry run and the record."""
    st.subheader("Drafts by a language model", anchor=False)
    settings = runtime.current().settings
    if not settings.model:
        st.caption(
            "No model is configured (TRIMTAB_MODEL), so lessons are drafted from tested step patterns only. The dry "
            "run shows what a model would be asked."
        )
    st.button("Dry run: show the next question and its cost", key="draft_dry_run", icon=":material/visibility:",
              on_click=_look, args=(agents,))  # fmt: skip
    held = st.session_state.get(_PREVIEW)
    if isinstance(held, str):
        st.info(markdown_safe(held), icon=":material/info:")
    elif isinstance(held, Preview):
        _question(held)
    _record(agents)


def _look(agents: tuple[str, ...]) -> None:
    current = runtime.current()
    try:
        st.session_state[_PREVIEW] = preview(current.store, current.settings, agents[0] if len(agents) == 1 else None)
    except TrimtabError as refused:
        st.session_state[_PREVIEW] = str(refused)


def _question(held: Preview) -> None:
    with st.container(border=True):
        st.text(f"{one_line(held.agent, 60)}, task {one_line(held.task, 80)}")
        cost = "no price, as no model is configured"
        if held.likely is not None and held.most is not None:
            cost = f"about {fmt.money(held.likely.usd)}, at most {fmt.money(held.most.usd)}"
        st.caption(
            f"About {held.tokens:,} tokens to read, prompt {held.prompt_version}: {cost}"
            + (", as a batch" if held.batch else "") + "."
        )  # fmt: skip
        if held.not_now:
            st.text(f"Would not be asked now: {clean(held.not_now)}")
        for note in held.cut:
            st.text(f"Left out: {clean(note)}")
        for message in held.messages:
            with st.expander(f"{message.role.capitalize()} message, {len(message.text):,} characters"):
                block(message.text, limit=60_000)


def _record(agents: tuple[str, ...]) -> None:
    frame = data.fresh(drafting.recent, _SHOWN)
    frame = frame.filter(pl.col("agent").is_in(agents)) if agents else frame
    if frame.is_empty():
        st.caption(
            "Nothing was asked yet. With a model configured, the job Drafts asks it about tasks whose rollouts differ "
            "in outcome and that no lesson covers."
        )
        return
    failed = frame.filter(~pl.col("status").is_in(["proposed", "nothing to learn", "asking", "waiting"])).height
    st.caption(
        f"The latest {fmt.plural(frame.height, 'question')}"
        + (f", {failed} of which ended without a draft for the reason named." if failed else ".")
    )
    export.table(
        "questions to the model",
        frame.select(
            pl.col("asked_at").alias("asked"), "status",
            each(frame["message"], lambda text: one_line(text, 300), pl.String).alias("what came"),
            "agent", each(frame["task"], lambda text: one_line(text, 60), pl.String),
            each(frame["lesson_ids"], _count, pl.Int64).alias("lessons"), "tokens",
            pl.col("cost_usd").alias("USD"), "model", pl.col("prompt_version").alias("prompt"),
        ),
        hide_index=True, height=tables.height(frame.height), alt=f"{frame.height} questions asked of the model",
        column_config=fmt.columns({
            "asked": st.column_config.DatetimeColumn("asked (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
            "USD": st.column_config.NumberColumn(format="%.4f"),
        }),
    )  # fmt: skip


def _count(text: str | None) -> int:
    found: Any = json.loads(text) if text else []
    return len(found)
