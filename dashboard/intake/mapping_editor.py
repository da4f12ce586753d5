"""Editing a column mapping: which column of the file fills which target, read how."""

from typing import Any, cast, get_args

import polars as pl
import streamlit as st

from pipelines.ingest.inspection import Inspection
from pipelines.ingest.layout_columns import TARGETS, Kind
from pipelines.ingest.mapping import Mapping, MappingError, Rule, default_transform, validate
from pipelines.ingest.transforms import Transform

_NOTHING = ""

_KIND_LABELS: dict[str, str] = {
    "traces": "one trace in each row",
    "spans": "one span (step) in each row",
    "signals": "one click, thumb, rating or other signal in each row",
    "impressions": "one shown item in each row, with whether it was clicked",
}


def edit_mapping(key: str, inspection: Inspection, source: str) -> Mapping | None:
    """The editor; returns a changed mapping once the operator applies one that is valid."""
    current = inspection.mapping
    assert current is not None
    with st.expander("Column mapping", expanded=True):
        kinds: list[Kind] = list(get_args(Kind))
        kind = st.selectbox(
            "What a row states",
            kinds,
            index=kinds.index(current.kind),
            format_func=lambda name: _KIND_LABELS[name],
            key=f"data_kind_{key}",
        )
        reasons = {note["target"]: note["reason"] for note in inspection.recipe.guessed}
        rows = [_row(target, current if kind == current.kind else None, reasons) for target in TARGETS[kind]]
        edited = st.data_editor(
            pl.DataFrame(rows, schema=dict.fromkeys(("target", "column", "read as", "constant", "why"), pl.String)),
            key=f"data_mapping_editor_{key}_{kind}",
            hide_index=True,
            num_rows="fixed",
            height=min(420, 36 * (len(rows) + 1)),
            disabled=["target", "why"],
            column_config={
                "target": st.column_config.TextColumn("Target", help="A column of Trimtab's own layout."),
                "column": st.column_config.SelectboxColumn(
                    "Column of the file", options=[_NOTHING, *inspection.columns]
                ),
                "read as": st.column_config.SelectboxColumn("Read as", options=[t.value for t in Transform]),
                "constant": st.column_config.TextColumn("Constant", help="Used where the column is absent or empty."),
                "why": st.column_config.TextColumn("Why", width="large"),
            },
        )
        if st.button("Apply mapping", key=f"data_apply_{key}", icon=":material/check:"):
            return _applied(kind, cast(pl.DataFrame, edited).to_dicts(), source, inspection.columns)
    return None


def _row(target: str, mapping: Mapping | None, reasons: dict[str, str]) -> dict[str, str | None]:
    rule = mapping.rule(target) if mapping else None
    return {
        "target": target,
        "column": (rule.column if rule else None) or _NOTHING,
        "read as": rule.transform.value if rule else None,
        "constant": rule.constant if rule else None,
        "why": reasons.get(target, ""),
    }


def _applied(kind: Kind, rows: list[dict[str, Any]], source: str, columns: list[str]) -> Mapping | None:
    """The mapping that the table states, checked; None with the problems shown when it cannot be used."""
    rules = []
    for row in rows:
        column, constant = row["column"] or None, row["constant"] or None
        if column is None and constant is None and row["read as"] != Transform.ROW_ID.value:
            continue
        target = row["target"]
        transform = Transform(row["read as"]) if row["read as"] else default_transform(TARGETS[kind][target])
        rules.append(Rule(target, column, transform, constant))
    mapping = Mapping(kind, tuple(rules), source)
    try:
        validate(mapping, columns)
    except MappingError as error:
        for problem in error.problems:
            st.error(problem)
        return None
    return mapping
