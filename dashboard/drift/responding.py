"""Responses: what fits a finding or an incident, what each would change, doing it, and what is in force."""

import json
from datetime import datetime
from typing import Any, Final, Literal

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.drift import words
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from pipelines.incidents import responses
from store import drift_responses
from store.drift_responses import Response

__all__ = ["ACTION_WORDS", "applied", "suggested"]

ACTION_WORDS: Final = {
    "explore": "raise the exploration rate", "ask": "ask for feedback more often",
    "restart preferences": "start the preferences anew", "pause lesson": "pause a lesson for the segment",
}  # fmt: skip
_ICONS: Final = {
    "explore": ":material/explore:", "ask": ":material/question_answer:",
    "restart preferences": ":material/restart_alt:", "pause lesson": ":material/pause:",
}  # fmt: skip
_MOST: Final = 200


def suggested(subject: dict[str, Any], *, of: Literal["finding", "incident"]) -> None:
    """What fits, each with what it would change and a button.

    Args: `subject` as a row of `store.drift.FINDINGS`, or as `store.incidents.one` gives it.
    """
    fits = responses.for_finding if of == "finding" else responses.for_incident
    fitting = data.fresh(fits, subject)
    st.markdown("**Suggested responses**")
    if not fitting:
        st.caption(
            "None: responses need an agent that asks Trimtab for decisions, preferences of the user, or a lesson that "
            "the segment is served."
        )
        return
    for place, response in enumerate(fitting):
        _one(response, f"{of}-{place}")
    st.caption("Nothing is done until you press a button; each response is on record and can be taken back.")


def applied(*, now: datetime, incident_id: str | None = None, user_id: str | None = None) -> None:
    """Responses of an incident, of a user, or all, those in force with a way to take them back."""
    frame = data.query(drift_responses.listed, incident_id=incident_id, user_id=user_id, limit=_MOST)
    if frame.is_empty():
        return
    st.subheader("Responses so far", anchor=False)
    holding = data.query(drift_responses.listed, incident_id=incident_id, user_id=user_id, holding=True, limit=_MOST)
    rows = [_row(row, now, set(holding["response_id"])) for row in frame.to_dicts()]
    overrides = {"for": pl.String(), "rule": pl.String(), "until": pl.String(), "metric": pl.String()}
    st.dataframe(
        pl.DataFrame(rows, schema_overrides=overrides), hide_index=True, height=tables.height(frame.height),
        key="responses", placeholder="", alt=f"{frame.height} responses, the newest first",
        column_config={
            "what": st.column_config.TextColumn(width=190), "expected": st.column_config.TextColumn(width=420),
            "reason": st.column_config.TextColumn(width=260),
        },
    )  # fmt: skip
    export.download(frame, "responses to drift", "responses-export")
    if holding.height:
        _take_back(holding)


def _one(response: Response, key: str) -> None:
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"{_ICONS[response.action]} **{ACTION_WORDS[response.action].capitalize()}**")
        with states.guarded("What it would change", key=f"preview-{key}"):
            told = data.fresh(responses.preview, response)
            text.line(str(told["text"]))
        offer.button("Apply", key=f"apply-{key}", icon=":material/play_arrow:", on_click=_apply, args=(response,))


def _apply(response: Response) -> None:
    store = runtime.current().store

    def work() -> str:
        number = responses.apply(store, response, operator=operator())
        until = f" for {fmt.plural(response.days, 'day')}" if response.days is not None else ""
        return f"Response {number}: {ACTION_WORDS[response.action]}{until}."

    perform(work)


def _take_back(holding: pl.DataFrame) -> None:
    names = {
        row["response_id"]: f"{row['response_id']}: {ACTION_WORDS.get(row['action'], row['action'])}, {_whom(row)}"
        for row in holding.to_dicts()
    }
    with st.form("take-back", border=True):
        left, right = st.columns(2)
        left.selectbox(
            "Take back", list(names), key="undo-which", format_func=lambda number: names.get(number, str(number))
        )
        right.text_input("Reason", key="undo-reason", max_chars=500)
        offer.submit("Take back", icon=":material/undo:", key="undo-save", on_click=_undo)


def _undo() -> None:
    store, read = runtime.current().store, st.session_state

    def work() -> str:
        number = int(read["undo-which"])
        responses.undo(store, number, operator=operator(), reason=str(read["undo-reason"] or ""))
        return f"Response {number} is taken back: everything is as before."

    perform(work)


def _row(row: dict[str, Any], now: datetime, holding: set[int]) -> dict[str, Any]:
    number = row["response_id"]
    if number in holding:
        state = "in force" + ("" if row["expires_at"] is None else f", ends {fmt.relative(row['expires_at'], now)}")
    else:
        state = f"ended {fmt.relative(row['ended_at'] or row['expires_at'], now)}"
    told = json.loads(row["preview"] or "{}")
    return {
        "n": number, "what": ACTION_WORDS.get(row["action"], row["action"]), "for": _whom(row), "state": state,
        "expected": text.one_line(str(told.get("text") or ""), 400),
        "metric": None if row["metric"] is None else words.title(row["metric"]),
        "reason": text.one_line(row["reason"], 300), "by": text.one_line(row["applied_by"], 80),
        "ordered by": text.one_line(row["ordered_by"], 80), "rule": row["rule_id"],
        "at (UTC)": fmt.when(row["applied_at"], seconds=False),
    }  # fmt: skip


def _whom(row: dict[str, Any]) -> str:
    named = [
        f"{name} {text.one_line(row[column], 60)}"
        for name, column in (("user", "user_id"), ("segment", "segment"), ("agent", "agent"))
        if row[column]
    ]
    return " at ".join(named) or "everybody"
