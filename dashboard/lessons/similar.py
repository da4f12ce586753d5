"""Lessons that say much the same as a proposed one: merging or refining them may be better than one more."""

from typing import Any, Final

import numpy as np
import polars as pl
import streamlit as st

from dashboard import data
from dashboard.ui.text import one_line
from pipelines.lessons.likeness import likeness
from pipelines.lessons.similarity import EMBEDDINGS, TFIDF
from pipelines.lessons.word_counts import counted
from store import lessons
from store.connection import Store
from store.embeddings import text_of

__all__ = ["nearest", "similar_panel"]

_SHOWN: Final = 3
_LEAST: Final = 0.2
_LEAST_EMBEDDED: Final = 0.6
"""Of all pairs of two real libraries, 2 and 8 % are as near (ace_playbooks, all-MiniLM-L6-v2)."""
_TOLD: Final = ("lesson_id", "title", "state")
_STATES: Final = ("proposed", "approved", "canary", "active")


def similar_panel(lesson: dict[str, Any]) -> None:
    """The lessons of the same agent, or of every agent, that are nearest, with the cosine and how it was measured."""
    found = data.query(nearest, lesson["lesson_id"], lesson["agent"])
    if not found:
        st.caption("No lesson that waits or is served says anything similar.")
        return
    methods = " and ".join(sorted({row["method"] for row in found}))
    st.caption(f"Similar lessons, by the cosine of {methods}")
    for row in found:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(row["state"], color="gray")
            st.text(f"{row['cosine']:.2f}  {one_line(row['title'], 90)}")
            st.page_link(
                "views/lessons.py", label="Read", icon=":material/open_in_new:",
                query_params={"lesson": row["lesson_id"]},
            )  # fmt: skip


def nearest(store: Store, lesson_id: str, agent: str) -> list[dict[str, Any]]:
    """Up to three lessons (lesson_id, title, state, cosine, method) most like this one, of those waiting or served.

    By embeddings where those of both are kept, else by words.
    """
    frame = lessons.library(store, states=_STATES).filter(pl.col("agent").is_in([agent, "*"]))
    others = frame.filter(pl.col("lesson_id") != lesson_id)
    place = frame["lesson_id"].index_of(lesson_id)
    if place is None or others.is_empty():
        return []
    texts = [text_of(*row) for row in frame.select("title", "when_text", "do_text").iter_rows()]
    text = texts[place]
    embedded = likeness(store, text, frame.height).cosines
    known = others.filter(pl.col("lesson_id").is_in(list(embedded)))
    found = [
        {**row, "cosine": embedded[row["lesson_id"]], "method": EMBEDDINGS}
        for row in known.select(*_TOLD).iter_rows(named=True) if embedded[row["lesson_id"]] >= _LEAST_EMBEDDED
    ]  # fmt: skip
    if known.height < others.height:
        # All lessons are counted, so that the words of the next one need not be counted again.
        counts = counted(tuple(texts))
        out = frame["lesson_id"].is_in([lesson_id, *embedded])
        places = (~out).arg_true().to_numpy().astype(np.int64)
        cosines = counts.cosines(text, places)
        for at in np.argsort(-cosines, kind="stable")[:_SHOWN]:
            if cosines[at] >= _LEAST:
                row = frame.select(*_TOLD).row(int(places[at]), named=True)
                found.append({**row, "cosine": float(cosines[at]), "method": TFIDF})
    return sorted(found, key=lambda row: (-row["cosine"], row["lesson_id"]))[:_SHOWN]
