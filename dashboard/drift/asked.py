"""What one user asks about: the words that their sessions have more and less since a change, without any rendering."""

from datetime import datetime
from functools import partial

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.learn import tables
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from pipelines.drift.word_shares import word_shares
from store import drift_texts
from store.frames import each

__all__ = ["draw"]

_SESSIONS = 1_000


def draw(user_id: str, changed_at: datetime | None, *, key: str) -> None:
    """The words of a user's newest sessions before and after `changed_at`; None: what there is to compare, in words."""
    texts = data.query(drift_texts.of_user, user_id, limit=_SESSIONS)
    if texts.is_empty():
        states.nothing("No texts", "The store holds nothing that this user wrote.")
        return
    if changed_at is None:
        st.caption(
            f"{fmt.plural(texts.height, 'session')} with texts. When a change is found, the words before and after it "
            "are listed here."
        )
        return
    found = word_shares(texts, changed_at)
    if found.is_empty():
        states.nothing("No words to compare", "No word is in two sessions, or all sessions are on one side.")
        return
    before, after = int(found["before_n"][0]), int(found["after_n"][0])
    export.table(
        "words before and after",
        found.select(
            each(found["word"], partial(one_line, limit=40), pl.String),
            (pl.col("before") * 100).alias("before"), (pl.col("after") * 100).alias("after"),
        ),
        hide_index=True, height=tables.height(found.height), key=f"{key}-words",
        alt=f"{found.height} words with the share of sessions that have them before and after the change",
        column_config={
            "word": st.column_config.TextColumn(pinned=True, width=150),
            "before": st.column_config.NumberColumn(format="%.0f %%", width=84),
            "after": st.column_config.NumberColumn(format="%.0f %%", width=84),
        },
    )  # fmt: skip
    st.caption(
        f"Share of sessions with the word: {before:,} before, {after:,} after; the words used more come first. "
        "They say what the change was; the test is of all words together, against what everybody asked at the time."
    )
