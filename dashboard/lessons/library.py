"""The library of lessons: a table by state with what each pays, and one lesson with its history and its actions."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.feel.glossary import meaning
from dashboard.learn import tables
from dashboard.lessons import lesson_actions, payoff
from dashboard.lessons.findings import findings_panel
from dashboard.lessons.reports import PAST
from dashboard.lessons.words import scope_words, words_panel
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, line, one_line
from store import exposures, lesson_links, lesson_settings, lessons, playbooks
from store.lesson_serving import SERVED_STATES

__all__ = ["headline", "panel", "waits"]

_LESSON: Final = "lesson"
_STATES: Final = ("proposed", "approved", "canary", "active", "retired", "rejected", "superseded", "graduated")
_RANKS: Final = {
    state: rank
    for rank, state in enumerate(
        ("active", "canary", "approved", "proposed", "graduated", "superseded", "retired", "rejected")
    )
}
_KINDS: Final = {"contrast": "hypothesis", "model": "model's draft", "agent": "agent's", "operator": "operator's"}


def headline(served: pl.DataFrame) -> str:
    """How many lessons agents are served, how many of them as canary (`served` are rows in these states), and what
    keeps the others from them."""
    if data.query(lesson_settings.of, "*").serving_off:
        return "Nothing is served: the kill switch for every agent is on."
    now = runtime.current().clock.now()
    on = served.filter(pl.col("paused").is_null() & ~(pl.col("expires_at") <= now).fill_null(value=False))
    count, canaries, held_back = on.height, on.filter(state="canary").height, served.height - on.height
    back = f" {fmt.plural(held_back, 'more is', 'more are')} paused or expired." if held_back else ""
    if not count:
        return f"No lesson is served.{back}"
    how = "" if not canaries else ", as canary" if count == 1 else ", all as canary" if canaries == count else (
        f", {canaries:,} of them as canary"
    )  # fmt: skip
    return f"{fmt.plural(count, 'lesson is', 'lessons are')} served{how}.{back}"


def waits(count: int) -> str:
    """How many proposals wait."""
    if not count:
        return "Nothing waits in Review."
    return f"{fmt.plural(count, 'proposal waits', 'proposals wait')} in Review."


def panel(frame: pl.DataFrame, agents: tuple[str, ...]) -> None:
    """The table of `frame` (columns `store.lessons.LESSONS`) and the lesson chosen in it, kept in the URL."""
    present = [state for state in _STATES if state in set(frame["state"])]
    counts = dict(frame["state"].value_counts().iter_rows())
    chosen_states = st.pills(
        "State", present, selection_mode="multi", key="state", bind="query-params", label_visibility="collapsed",
        format_func=lambda state: f"{state} {counts[state]:,}" if state in counts else state,
    )  # fmt: skip
    shown = frame.filter(pl.col("state").is_in(chosen_states)) if chosen_states else frame
    # What agents get now comes first.
    shown = shown.sort(pl.col("state").replace_strict(_RANKS, default=len(_RANKS)), maintain_order=True)
    ids = shown["lesson_id"].to_list()
    event: Any = st.dataframe(
        _table(shown, payoff.verdicts(agents)), key=f"library_{'-'.join(chosen_states)}", hide_index=True,
        on_select="rerun", selection_mode="single-row", height=tables.height(shown.height), placeholder="",
        column_config=fmt.columns({
            "lesson": st.column_config.TextColumn(width="large"),
            "state": st.column_config.TextColumn(width=90),
            "payoff": st.column_config.TextColumn(width=105),
            "effect": st.column_config.TextColumn(
                width=150, help="Points of outcome, served minus withheld at random, with the interval"
            ),
            "n": st.column_config.NumberColumn(
                width=70, format="localized", help="Decisions that the effect is of, served and withheld together"
            ),
            "value": st.column_config.NumberColumn(
                format="%.1f",
                help="When proposed: requests a day x spread of outcomes x what the library does not cover.",
            ),
            "withheld": st.column_config.NumberColumn(format="percent", help="From so many decisions, to compare"),
            "changed": st.column_config.DatetimeColumn("changed (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
        }),
        alt=f"{shown.height} lessons with state, payoff, scope and value",
    )  # fmt: skip
    export.download(shown, "lessons", "lessons-export")
    if event.selection.rows:
        st.query_params[_LESSON] = ids[event.selection.rows[0]]
    named = st.query_params.get(_LESSON)
    if named is None:
        st.caption("Choose a lesson to read it, see what it pays and its history, or to stop serving it.")
        return
    with states.guarded("The lesson", key="lesson"):
        _detail(data.query(lessons.one, named))


def _table(frame: pl.DataFrame, measured: dict[str, dict[str, Any]]) -> pl.DataFrame:
    held = {agent: data.query(lesson_settings.of, agent) for agent in frame["agent"].unique()}
    rows = []
    for row in frame.iter_rows(named=True):
        found = measured.get(row["lesson_id"])
        served = row["state"] in SERVED_STATES
        own = row["holdout"] if row["holdout"] is not None else held[row["agent"]].holdout(row["state"])
        rows.append(
            {
                "lesson": one_line(row["title"], 120),
                "state": f"{row['state']}, paused" if served and row["paused"] else row["state"],
                "payoff": found["verdict"] if found else ("not measured" if served else None),
                "effect": payoff.short(found) if found else None,
                "n": found["served"] + found["withheld"] if found else None,
                "for": scope_words(row),
                "withheld": own if served else None,
                "kind": _kind(row),
                "evidence": f"{row['good']} good, {row['bad']} bad" if row["good"] or row["bad"] else "none",
                "lint": "blocked" if row["blocks"] else ("read" if row["linted"] else "not read"),
                "value": row["value"],
                "changed": row["updated_at"],
            }
        )
    return pl.DataFrame(rows, schema=_TABLE)


_TABLE: Final = pl.Schema(
    {
        "lesson": pl.String(), "state": pl.String(), "payoff": pl.String(), "effect": pl.String(), "n": pl.Int64(),
        "for": pl.String(), "withheld": pl.Float64(), "kind": pl.String(), "evidence": pl.String(), "lint": pl.String(),
        "value": pl.Float64(), "changed": pl.Datetime("us", "UTC"),
    }
)  # fmt: skip


def _kind(row: dict[str, Any]) -> str:
    if row["tested"]:
        return "tested effect"
    return _KINDS.get(row["origin"], str(row["origin"]))


def _detail(lesson: dict[str, Any]) -> None:
    now = runtime.current().clock.now()
    left, right = st.columns([3, 2], gap="large")
    with left:
        with st.container(border=True):
            words_panel(lesson, now)
            _served(lesson)
            lesson_actions.panel(lesson)
        st.subheader("What it pays", anchor=False, help=meaning("payoff"))
        payoff.of_lesson(lesson["lesson_id"])
        _decisions(lesson["lesson_id"])
    with right:
        st.markdown("**Lint**")
        findings_panel(lesson)
        _links(lesson["lesson_id"])
        _history(lesson)


def _served(lesson: dict[str, Any]) -> None:
    """Whether agents get it now, and why not where its state says they should."""
    if lesson["state"] not in SERVED_STATES:
        return
    books = data.query(playbooks.latest)
    if lesson["agent"] != "*":
        books = books.filter(agent=lesson["agent"])
    having = [
        agent
        for agent, entries in books.select("agent", "entries").iter_rows()
        if lesson["lesson_id"] in {entry.lesson_id for entry in playbooks.decode_entries(entries)}
    ]
    if having:
        named = f"{one_line(', '.join(having[:3]), 120)}{f' and {len(having) - 3} more' if len(having) > 3 else ''}"
        st.text(f"Served to {named}.")
        return
    now = runtime.current().clock.now()
    off = data.query(lesson_settings.of, lesson["agent"]).serving_off
    if lesson["paused"] is not None:
        why = f"it is paused: {clean(lesson['paused'])}"
    elif lesson["expires_at"] is not None and lesson["expires_at"] <= now:
        why = f"it expired on {lesson['expires_at']:%Y-%m-%d}; an edit gives it a later day"
    elif off:
        why = f"the kill switch is on: {clean(off)}"
    elif books.is_empty():
        why = "no agent has a playbook that could hold it"
    else:
        why = "the playbook repeats an earlier version (see Playbooks)"
    st.text(f"{lesson['state'].capitalize()} but not served: {why}.")


def _decisions(lesson_id: str) -> None:
    """The latest decisions that could have served it."""
    rows = data.fresh(exposures.of_lesson, lesson_id, 50)
    if rows.is_empty():
        return
    with st.expander(f"The latest {rows.height} decisions that could have served it"):
        export.table(
            "decisions of a lesson",
            rows.select(
                pl.col("decided_at").alias("decided"), "status", pl.col("served_probability").alias("probability"),
                pl.col("match"), pl.col("playbook_version").alias("playbook"), pl.col("decision_id").alias("decision"),
            ),
            hide_index=True, height=tables.height(rows.height), alt="Decisions that could have served the lesson",
            column_config=fmt.columns({
                "decided": st.column_config.DatetimeColumn("decided (UTC)", format="MM-DD HH:mm:ss", timezone="UTC"),
                "probability": st.column_config.NumberColumn(format="percent", help="Of serving it, before the draw"),
                "match": st.column_config.NumberColumn(format="%.2f"),
            }),
        )  # fmt: skip
        st.caption("Take a decision's id to the tab Why to see why it got, or did not get, each lesson.")


def _links(lesson_id: str) -> None:
    found = data.query(lesson_links.of, lesson_id)
    if found.is_empty():
        return
    st.markdown("**Related lessons**")
    for row in found.iter_rows(named=True):
        outgoing = row["lesson_id"] == lesson_id
        other = row["other_id"] if outgoing else row["lesson_id"]
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"{'it' if outgoing else 'the other'} {row['kind']} {'the other' if outgoing else 'it'}: {other}")
            st.page_link("views/lessons.py", label="Read", icon=":material/open_in_new:", query_params={_LESSON: other})


def _history(lesson: dict[str, Any]) -> None:
    """Who decided what, and every text there was."""
    lesson_id = lesson["lesson_id"]
    reviews = data.query(lessons.reviews, lesson_id=lesson_id)
    st.markdown("**Reviews**")
    if reviews.is_empty():
        st.caption("Nobody has reviewed it yet.")
    for row in reviews.iter_rows(named=True):
        st.text(
            f"{fmt.when(row['reviewed_at'], seconds=False)}  {PAST.get(row['action'], row['action'])} "
            f"(version {row['version']}) by {clean(row['operator'])}"
            + (f"\n{clean(row['reason'])}" if row["reason"] else "")
        )
    standing = data.query(lessons.undoable, lesson_id=lesson_id)
    if standing.height:
        lesson_actions.undo_button(lesson_id, int(standing["sequence"][0]))
    texts = data.query(lessons.versions, lesson_id)
    st.markdown("**Texts**")
    for row in texts.iter_rows(named=True):
        with st.expander(f"Version {row['version']}, {fmt.when(row['created_at'], seconds=False)}"):
            line(f"{row['title']}\n\nBy {row['author']}\n\nWhen: {row['when_text']}\n\nDo: {row['do_text']}")
