"""Editing a column mapping: what each column of a file becomes and how it is read, with the first value beside it."""

import json
import zlib
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

import polars as pl
import streamlit as st

from dashboard.intake.looking import Look, remembered
from dashboard.intake.tables import height
from dashboard.ui.text import markdown_safe, one_line
from pipelines.ingest.guess import Guess, guess
from pipelines.ingest.layout_columns import TARGETS, Kind
from pipelines.ingest.mapping import Mapping, Rule, default_transform, problems
from pipelines.ingest.transforms import TRANSFORMS_FOR, Transform

__all__ = ["KINDS", "READINGS", "REQUIRED", "edit_mapping"]

KINDS: Final[dict[Kind, str]] = {
    "traces": "one trace",
    "spans": "one span (a step of a trace)",
    "signals": "one click, thumb, rating or other signal",
    "impressions": "one item that was shown, and whether it was clicked",
}
"""What a row of each kind states, for people."""

REQUIRED: Final[dict[Kind, str | None]] = {
    "traces": None,
    "spans": "trace_id",
    "signals": "kind",
    "impressions": "clicked",
}
"""The target that some column or value must fill; ids are made from the row where no column has them."""

T = Transform
READINGS: Final[dict[Transform, str]] = {
    T.TEXT: "text",
    T.ROW_ID: "id made from the row",
    T.INTEGER: "whole number",
    T.POSITION_FROM_ZERO: "position counted from 0",
    T.NUMBER: "number",
    T.BOOLEAN: "yes or no",
    T.PRESENT: "yes where not empty",
    T.THUMB: "thumb up or down",
    T.RATING_0_1: "rating 0 to 1",
    T.RATING_1_5: "rating 1 to 5",
    T.RATING_0_5: "rating 0 to 5",
    T.RATING_1_10: "rating 1 to 10",
    T.RATING_0_10: "rating 0 to 10",
    T.RATING_0_100: "rating 0 to 100",
    T.RATING_MINUS_1_1: "rating -1 to 1",
    T.TIME_AUTO: "written time, year first",
    T.TIME_MDY: "written time, month first",
    T.TIME_DMY: "written time, day first",
    T.TIME_SECONDS: "seconds since 1970",
    T.TIME_MILLISECONDS: "milliseconds since 1970",
    T.TIME_MICROSECONDS: "microseconds since 1970",
    T.TIME_NANOSECONDS: "nanoseconds since 1970",
    T.SECONDS: "duration in seconds",
    T.MILLISECONDS: "duration in milliseconds",
    T.MICROSECONDS: "duration in microseconds",
    T.NANOSECONDS: "duration in nanoseconds",
    T.USD: "US dollars",
    T.CENTS: "US cents",
    T.MICRO_USD: "millionths of a US dollar",
    T.JSON: "JSON",
    T.STATUS: "ok or error",
    T.SPAN_KIND: "kind of span",
    T.SIGNAL_KIND: "kind of signal",
    T.ANNOTATOR_KIND: "kind of annotator",
}
"""What the transforms are called in the editor."""

_KEEP: Final = "keep"
_SIGNAL: Final = "signal"
_EXAMPLE_CHARACTERS: Final = 80

_LINES: Final = pl.Schema(dict.fromkeys(("column", "example", "target", "reading", "why"), pl.String()))
_VALUES: Final = pl.Schema({"target": pl.String(), "value": pl.String()})


@dataclass(frozen=True)
class Proposal:
    """Where the editor starts: a mapping, why each column is used as it is, and what else became of columns."""

    mapping: Mapping
    reasons: dict[str, str]
    guess: Guess | None


def edit_mapping(key: str, found: Look, source: str) -> Mapping | None:
    """The editor of one file's mapping; returns the mapping as it stands, None while it cannot be used."""
    inspection = found.inspection
    suggested = inspection.mapping if inspection else None
    with st.expander("Column mapping", expanded=True, icon=":material/table_edit:"):
        kinds: list[Kind] = list(get_args(Kind))
        first = suggested.kind if suggested else guess(found.columns, found.sample).mapping.kind
        with st.container(horizontal=True, vertical_alignment="bottom"):
            kind = st.selectbox(
                "Each row is", kinds, index=kinds.index(first), format_func=KINDS.__getitem__,
                key=f"data_kind_{key}", width=380,
            )  # fmt: skip
            with st.popover("What the targets mean", icon=":material/help:"):
                _meanings(kind)
        proposal = remembered(
            key, f"proposal {kind}", (suggested and suggested.to_json(), source), lambda: _propose(found, kind, source)
        )
        _alternatives(proposal, kind)
        # Another start of the table is another table.
        version = zlib.crc32(proposal.mapping.to_json().encode())
        lines = _edit_lines(f"data_columns_{key}_{version}", proposal, found, kind)
        values = _edit_values(f"data_values_{key}_{version}", proposal.mapping, kind)
        mapping = _stated(lines, values, found, kind, source)
        found_wrong = problems(mapping)
        if not mapping.rules:
            st.info("Choose for at least one column what it becomes.", icon=":material/arrow_upward:")
            return None
        if kind == "traces" and mapping.rule("trace_id") is None:
            st.caption("No column fills trace_id: each row is a trace of its own, with an id made from its contents.")
        for problem in found_wrong:
            st.error(markdown_safe(problem), icon=":material/error:")
    return None if found_wrong else mapping


def _propose(found: Look, kind: Kind, source: str) -> Proposal:
    """The mapping in force where it is of this kind, else the best guess for it."""
    inspection = found.inspection
    if inspection is not None and inspection.mapping is not None and inspection.mapping.kind == kind:
        notes = {note["column"]: note["reason"] for note in inspection.recipe.guessed if note["column"]}
        return Proposal(inspection.mapping, notes, inspection.guess)
    guessed = guess(found.columns, found.sample, source=source, kind=kind)
    notes = {note.column: note.reason for note in guessed.notes if note.column is not None}
    return Proposal(guessed.mapping, notes, guessed)


def _meanings(kind: Kind) -> None:
    st.dataframe(
        pl.DataFrame(
            {
                "target": [_target(name, kind) for name in TARGETS[kind]],
                "meaning": [target.description for target in TARGETS[kind].values()],
            }
        ),
        hide_index=True, height=420, width=620,
        column_config={
            "target": st.column_config.TextColumn("Target", width=150),
            "meaning": st.column_config.TextColumn("Meaning", width=460),
        },
        alt="The targets and what they mean",
    )  # fmt: skip


def _alternatives(proposal: Proposal, kind: Kind) -> None:
    """What else the rows may be, where the guess found it plausible."""
    if proposal.guess is None:
        return
    others = [other for other in proposal.guess.alternatives if other.kind != kind]
    if others:
        named = "; ".join(f"{KINDS[other.kind]} (confidence {other.confidence:.0%})" for other in others)
        st.caption(f"Could also be {named}.")


def _edit_lines(key: str, proposal: Proposal, found: Look, kind: Kind) -> list[dict[str, Any]]:
    """The table with a row for each column of the file."""
    rows = _lines(proposal, found)
    required = REQUIRED[kind]
    unmapped = {_KEEP: f"(kept in {'attributes' if kind == 'spans' else 'metadata'})", _SIGNAL: "(signal on the trace)"}
    used = {row["target"] for row in rows}
    options = [name for name in unmapped if name == _KEEP or name in used] + list(TARGETS[kind])
    edited = st.data_editor(
        pl.DataFrame(rows, schema=_LINES),
        key=key,
        hide_index=True,
        num_rows="fixed",
        height=height(len(rows), whole=14),
        placeholder="",
        # What is edited comes first: on a phone nothing else is in sight.
        column_order=["column", "target", "reading", "example", "why"],
        disabled=["column", "example", "why"],
        column_config={
            "column": st.column_config.TextColumn("Column of the file", width=124, pinned=True),
            "example": st.column_config.TextColumn("First value", width=140),
            "target": st.column_config.SelectboxColumn(
                "Becomes", width=150, required=True, options=options,
                format_func=lambda name: unmapped.get(str(name)) or _target(name, kind),
                help=f"Marked * is required: {required}." if required else "What the column fills.",
            ),
            "reading": st.column_config.SelectboxColumn(
                "Read as", width=165, options=_transforms(kind),
                format_func=lambda name: READINGS[Transform(str(name))],
                help="How a cell becomes a value. Where nothing is chosen the first values decide.",
            ),
            "why": st.column_config.TextColumn("Why", width=540),
        },
        alt="Columns of the file and what they become",
    )  # fmt: skip
    return cast(pl.DataFrame, edited).to_dicts()


def _lines(proposal: Proposal, found: Look) -> list[dict[str, str | None]]:
    """A row for each column, in the order of the file, and one more where a column fills two targets."""
    rules: dict[str, list[Rule]] = {}
    for rule in proposal.mapping.rules:
        if rule.column is not None:
            rules.setdefault(rule.column, []).append(rule)
    companion = proposal.guess.companion if proposal.guess else None
    judged = {rule.column: rule.target for rule in companion.rules if rule.column} if companion else {}
    rows: list[dict[str, str | None]] = []
    for column in dict.fromkeys((*found.columns, *rules)):
        example = next((cell for record in found.sample if (cell := _cell(record.get(column)))), None)
        for rule in rules.get(column, []):
            reason = proposal.reasons.get(column, "As it was saved.")
            rows.append(_row(column, example, rule.target, rule.transform.value, reason))
        if column not in rules:
            reason = f"It fills {judged[column]} of a signal on the trace." if column in judged else ""
            rows.append(_row(column, example, _SIGNAL if column in judged else _KEEP, None, reason))
    return rows


def _row(column: str, example: str | None, target: str, reading: str | None, why: str) -> dict[str, str | None]:
    return {"column": column, "example": example, "target": target, "reading": reading, "why": why}


def _edit_values(key: str, mapping: Mapping, kind: Kind) -> list[dict[str, Any]]:
    """The table of values that hold for every row, or stand in where a column is empty."""
    rows = [{"target": rule.target, "value": rule.constant} for rule in mapping.rules if rule.constant is not None]
    st.caption(
        "Values for every row, such as the agent; for a target that a column fills, they fill its gaps. "
        "Click into the empty row to add one."
    )
    edited = st.data_editor(
        pl.DataFrame(rows, schema=_VALUES),
        key=key,
        hide_index=True,
        num_rows="dynamic",
        height="content",
        width=420,
        column_config={
            "target": st.column_config.SelectboxColumn(
                "Target", width=170, options=list(TARGETS[kind]), format_func=lambda name: _target(name, kind)
            ),
            "value": st.column_config.TextColumn("Value", width=200),
        },
        alt="Values that hold for every row",
    )
    return cast(pl.DataFrame, edited).to_dicts()


def _stated(lines: list[dict[str, Any]], values: list[dict[str, Any]], found: Look, kind: Kind, source: str) -> Mapping:
    """The mapping that the two tables state, its rules in the order of the targets."""
    # A browser may send anything: what is no target or transform of ours counts as not chosen.
    rules = [
        Rule(line["target"], line["column"], _reading(line, found, kind))
        for line in lines
        if line["target"] in TARGETS[kind]
    ]
    constants = {row["target"]: row["value"] for row in values if row["target"] in TARGETS[kind] and row["value"]}
    rules = [Rule(rule.target, rule.column, rule.transform, constants.pop(rule.target, None)) for rule in rules]
    rules += [
        Rule(target, None, default_transform(TARGETS[kind][target]), value) for target, value in constants.items()
    ]
    order = {name: place for place, name in enumerate(TARGETS[kind])}
    return Mapping(kind, tuple(sorted(rules, key=lambda rule: order[rule.target])), source)


def _reading(line: dict[str, Any], found: Look, kind: Kind) -> Transform:
    """How a column is read: as chosen where the target allows that, else by its first values."""
    target, column = TARGETS[kind][line["target"]], line["column"]
    if line["reading"] in [transform.value for transform in TRANSFORMS_FOR[target.type]]:
        return Transform(line["reading"])
    # Under the target's own name the values alone decide.
    renamed = [{target.name: record.get(column)} for record in found.sample]
    rule = guess([target.name], renamed, kind=kind).mapping.rule(target.name)
    return rule.transform if rule is not None and rule.column is not None else default_transform(target)


def _target(name: object, kind: Kind) -> str:
    return f"{name} *" if name == REQUIRED[kind] else str(name)


def _transforms(kind: Kind) -> list[str]:
    """The transforms that any target of this kind may use, in the order of their declaration."""
    usable = {transform for target in TARGETS[kind].values() for transform in TRANSFORMS_FOR[target.type]}
    return [transform.value for transform in Transform if transform in usable]


def _cell(value: object) -> str:
    """A value of the sample as the editor shows it."""
    if value is None:
        return ""
    text = json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return one_line(text, _EXAMPLE_CHARACTERS)
