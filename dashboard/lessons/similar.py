"""Lessons that say much the same as a proposed one: merging or refining them may be better than one more."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.ui.text import one_line
from pipelines.lessons.similarity import Similarity
from store import lessons
from store.connection import Store

__all__ = ["nearest", "similar_panel"]

_SHOWN: Final = 3
_LEAST: Final = 0.2
_STATES: Final = ("proposed", "approved", "canary", "active")


def similar_panel(lesson: dict[str, Any]) -> None:
    """The lessons of the same agent, or of every agent, whose words are nearest, with the cosine of their words."""
    found = data.query(nearest, lesson["lesson_id"], lesson["agent"])
    if not found:
        st.caption("No lesson that waits or is served says anything similar.")
        return
    st.caption("Similar lessons, by the cosine of their words")
    for row in found:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(row["state"], color="gray")
            st.text(f"{row['cosine']:.2f}  {one_line(row['title'], 90)}")
            st.page_link(
                "views/lessons.py", label="Read", icon=":material/open_in_new:",
                query_params={"lesson": row["lesson_id"]},
            )  # fmt: skip


def nearest(store: Store, lesson_id: str, agent: str) -> list[dict[str, Any]]:
    """Up to three lessons (lesson_id, title, state, cosine) most similar to this one, of those waiting or served."""
    frame = lessons.library(store, states=_STATES).filter(pl.col("agent").is_in([agent, "*"]))
    own = frame.filter(lesson_id=lesson_id)
    others = frame.filter(pl.col("lesson_id") != lesson_id)
    if own.is_empty() or others.is_empty():
        return []
    words = pl.concat_str("title", "when_text", "do_text", separator="\n")
    fitted = Similarity.fit(others.select(words).to_series().to_list())
    rows = others.select("lesson_id", "title", "state").to_dicts()
    near = fitted.nearest(own.select(words).to_series()[0], _SHOWN)
    return [{**rows[place], "cosine": cosine} for place, cosine in near if cosine >= _LEAST]
