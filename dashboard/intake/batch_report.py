"""One batch: what was received and what became of it, what was kept where, its rejects and the file to repair them."""

from collections.abc import Callable
from functools import partial
from pathlib import PurePath
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard.access.actor import Actor, Role, permitting
from dashboard.intake.guidance import STATES
from dashboard.intake.tables import height, shown
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import block, line, markdown_safe
from pipelines.ingest.fidelity import Fidelity
from pipelines.ingest.formats import Format
from pipelines.ingest.mapping import Mapping, explain
from pipelines.ingest.repair import rejects_file
from store import audit, batches
from store.connection import Store
from store.live import LIVE_FORMAT

__all__ = ["report_panel"]

_SHOWN: Final = 200
_TABLES: Final = {"trace_records": "traces", "spans": "spans", "signals": "signals"}
_COUNTS: Final = {
    "received": "Records found in the file.",
    "accepted": "Records that are stored now.",
    "duplicate": "Records that were stored already, by this file or an earlier one.",
    "rejected": "Records that could not be read. They are kept, with the reason.",
}


def report_panel(store: Store, batch_id: int) -> None:
    """The report of one batch. Raises: `NotFound`."""
    batch = batches.one(store, batch_id)
    report = Fidelity.parse(batch["fidelity"])
    st.subheader(f"Batch {batch_id}", anchor=False)
    line(batch["file_name"])
    _facts(batch, report)
    if batch["error"]:
        st.error("It could not be loaded as a whole.", icon=":material/error:")
        block(batch["error"])
    with st.grid(4, min_column_width=130, gap="small"):
        for name, meaning in _COUNTS.items():
            st.metric(name.capitalize(), fmt.count(batch[name]), help=meaning, border=True)
    holds = batch["received"] == batch["accepted"] + batch["duplicate"] + batch["rejected"]
    if holds:
        st.caption("received = accepted + duplicate + rejected: every record is accounted for.")
    else:
        st.error("received is not accepted + duplicate + rejected: a defect of Trimtab; please report it.")
    if batch["rejected"]:
        _rejects(store, batch, report)
    if report:
        _kept(report)
    if batch["mapping"] and batch["format"] == Format.MAPPED.value:
        with st.expander("The column mapping that was used"):
            mapping_table(Mapping.from_json(batch["mapping"]))


def mapping_table(mapping: Mapping) -> None:
    """The rules of a mapping in words."""
    export.table(
        "rules of the mapping",
        shown(pl.DataFrame(explain(mapping))),
        hide_index=True,
        height="content",
        column_config={
            "target": st.column_config.TextColumn("Target", width=130, pinned=True),
            "from": st.column_config.TextColumn("From", width=200),
            "transform": st.column_config.TextColumn("Read as", width=130),
            "means": st.column_config.TextColumn("Meaning", width=460),
        },
        alt="The rules of the mapping",
    )


def _facts(batch: dict[str, Any], report: dict[str, Any]) -> None:
    took = (batch["finished_at"] - batch["received_at"]).total_seconds() if batch["finished_at"] else None
    state = STATES.get(batch["state"], batch["state"])
    ended = state if took is None else f"{state} in {fmt.duration(took)}"
    facts = [
        "live data of one day" if batch["format"] == LIVE_FORMAT else ended,
        f"received {fmt.when(batch['received_at'])}",
        f"source {batch['source']}" if batch["source"] else "",
        f"new: {fmt.plural(batch['traces'], 'trace')}, {fmt.plural(batch['spans'], 'span')}, "
        f"{fmt.plural(batch['signals'], 'signal')}",
    ]
    st.caption(markdown_safe("; ".join(fact for fact in facts if fact)))
    if report:
        name = "Mapped columns" if batch["format"] == Format.MAPPED.value else report["format"]
        st.markdown(f"**{markdown_safe(name)}.** {markdown_safe(report['why'])}")
        st.caption(_times(report))


def _times(report: dict[str, Any]) -> str:
    if not report["first_time"]:
        return "The file states no times: traces are placed when they were received."
    without = report["without_time"]
    rest = f" {fmt.plural(without, 'row')} without a time." if without else ""
    first, last = (report[name].replace("T", " ").replace("+00:00", " UTC") for name in ("first_time", "last_time"))
    return f"Times from {first} to {last}.{rest}"


def _rejects(store: Store, batch: dict[str, Any], report: dict[str, Any]) -> None:
    batch_id = batch["batch_id"]
    st.markdown(f"**{fmt.plural(batch['rejected'], 'rejected record')}**")
    reasons = batches.reject_reasons(store, batch_id)
    export.table(
        "reasons of rejection",
        shown(reasons).select("records", "column_name", "reason"),
        hide_index=True,
        height=height(reasons.height),
        column_config={
            "records": st.column_config.NumberColumn("Records", width=76, format="localized"),
            "column_name": st.column_config.TextColumn("Column", width=130),
            "reason": st.column_config.TextColumn("Reason", width=620),
        },
        alt="Reasons of rejection",
    )
    if batch["format"] == LIVE_FORMAT:
        st.caption("What live data was refused is not kept: its sender was told which parts and why.")
    else:
        _repair(store, batch, report)
    rows = batches.rejects(store, batch_id, limit=_SHOWN)
    cut = int(rows["raw_truncated"].sum())
    with st.expander(f"The records, with line and reason{f' (the first {_SHOWN})' if rows.height == _SHOWN else ''}"):
        if cut:
            st.caption(f"{cut:,} are too long to be kept as a whole: the file to repair leaves them out.")
        export.table(
            "rejected records",
            shown(rows.drop("raw_truncated")),
            hide_index=True,
            height=height(rows.height),
            column_config={
                "record_no": st.column_config.NumberColumn("Record", width=66),
                "line": st.column_config.NumberColumn("Line", width=56),
                "column_name": st.column_config.TextColumn("Column", width=110),
                "reason": st.column_config.TextColumn("Reason", width=330),
                "raw": st.column_config.TextColumn("As it came", width=460),
            },
            alt="Rejected records",
        )


def _repair(store: Store, batch: dict[str, Any], report: dict[str, Any]) -> None:
    """The rejected records as a file to repair."""
    batch_id = batch["batch_id"]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Download the rejects to repair them",
            data=partial(_to_repair, store, batch_id, batch["rejected"], permitting()),
            file_name=_rejects_name(batch["file_name"], report), key=f"data_rejects_{batch_id}", type="primary",
            icon=":material/build:", on_click="ignore",
        )  # fmt: skip
        st.caption("The records as they came. Repair them in the file and send it on the Upload tab.", width="content")


def _to_repair(store: Store, batch_id: int, rejected: int, permit: Callable[[Role, str], Actor]) -> bytes:
    acting = permit("viewer", "Reading rejected records")
    content = rejects_file(store, batch_id)[1]
    audit.exported(store, acting.email, table=f"rejects of batch {batch_id}", kind="as sent", rows=rejected)
    return content


def _rejects_name(file: str, report: dict[str, Any]) -> str:
    """The name under which `rejects_file` gives its bytes, without making them."""
    stem = PurePath(file).name.split(".")[0] or "file"
    return f"{stem}.rejects.{'csv' if report.get('repair', {}).get('delimiter') else 'jsonl'}"


def _kept(report: dict[str, Any]) -> None:
    """Which columns were filled, where unknown columns went, and what was guessed."""
    rows = [
        {"table": _TABLES[kind], "column": column, "values": count, "share": count / max(1, report["rows"][kind])}
        for kind, kept in report["kept"].items()
        for column, count in kept.items()
    ]
    extras = pl.DataFrame(
        {"column": list(report["extras"]), "kept": list(report["extras"].values())},
        schema={"column": pl.String, "kept": pl.String},
    )
    with st.expander("What was kept, and where", expanded=True):
        left, right = st.columns([3, 2], gap="medium")
        with left:
            st.caption("Columns filled")
            export.table(
                "columns filled",
                pl.DataFrame(
                    rows, schema={"table": pl.String, "column": pl.String, "values": pl.Int64, "share": pl.Float64}
                ),
                hide_index=True,
                height=height(len(rows)),
                column_config={
                    "table": st.column_config.TextColumn("Table", width=80),
                    "column": st.column_config.TextColumn("Column", width=140),
                    "values": st.column_config.NumberColumn("Values", width=80, format="localized"),
                    "share": st.column_config.ProgressColumn("Of its rows", format="percent", max_value=1.0, width=120),
                },
                alt="Columns filled, and in how many rows",
            )
        with right:
            if extras.is_empty():
                st.caption("No column of the file was unknown.")
            else:
                st.caption("Unknown columns, kept as they are")
                export.table(
                    "unknown columns",
                    shown(extras),
                    hide_index=True,
                    height=height(extras.height),
                    column_config={
                        "column": st.column_config.TextColumn("Column", width=150),
                        "kept": st.column_config.TextColumn("Kept in", width=170),
                    },
                    alt="Unknown columns and where they are kept",
                )
        if report["guessed"]:
            st.caption("How columns were guessed")
            export.table(
                "guessed columns",
                shown(pl.DataFrame(report["guessed"]).select("column", "target", "reason")),
                hide_index=True,
                height=height(len(report["guessed"])),
                column_config={
                    "column": st.column_config.TextColumn("Column", width=130),
                    "target": st.column_config.TextColumn("Becomes", width=130),
                    "reason": st.column_config.TextColumn("Why", width=520),
                },
                alt="How columns were guessed",
            )
