"""An answer of the log: the headline with its interval, checks and diagnostics; or a refusal, then without a number."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import polars as pl
import streamlit as st

from dashboard.learn import tables
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, markdown_safe, one_line
from pipelines.off_policy.estimate import Diagnostics, Estimates
from store.frames import each
from store.logged_decisions import REASONS

__all__ = ["Asked", "comparison_rows", "gain_words", "show_answer", "show_comparison"]

_NO_ANSWER: Final = {"refused": "refused", "collecting": "not yet"}
_ICONS: Final = {"refused": ":material/block:", "collecting": ":material/hourglass_empty:"}
_CHECKS: Final = {
    "DR": "doubly robust, the headline", "IPS": "weights alone", "SNIPS": "weights alone, normalised",
    "DM": "outcome model alone, no interval", "SWITCH": "model where weights are large", "DRos": "weights shrunk",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What came of a question: `overall`, `rows` (columns CHANGES) by segment or arm, and what was left out."""

    overall: Estimates
    rows: pl.DataFrame
    draws: int
    dropped: dict[str, int]
    settled: timedelta
    segment: str | None


def show_answer(found: Asked) -> None:
    """One question: everyone, or one segment, and below each segment."""
    of = found.overall
    title = of.target[:1].upper() + of.target[1:]
    where = f", segment {found.segment}" if found.segment else ""
    st.text(clean(f"{title}{where}"))
    if of.verdict != "ok":
        _refusal(of)
    else:
        _headline(of)
        for warning in of.warnings:
            st.warning(markdown_safe(warning), icon=":material/warning:")
        _estimators(of)
    if of.diagnostics is not None:
        _diagnostics(of.diagnostics, of.overlap)
    if found.rows.height and found.segment is None:
        st.markdown("**By segment**")
        _changes(comparison_rows(found.rows, "segment"), "segment")
        st.caption(
            f"All {fmt.plural(found.rows.height, 'segment')} hold together: each interval is wider than one alone "
            "would be."
        )
    _left_out(found)


def show_comparison(found: Asked) -> None:
    """Every arm for everyone, beside what ran."""
    of = found.overall
    if of.verdict == "refused" and found.rows.is_empty():
        _refusal(of)
    else:
        ran = f"{of.value:.3f} ({of.lower:.3f} to {of.upper:.3f})" if of.value is not None else "not known"
        st.text(f"What ran earned {ran} on average, n {of.n:,} decisions.")
        _changes(comparison_rows(found.rows, "target"), "policy")
        st.caption(
            "Doubly robust, with limits that hold at every look and for all arms together. A row without a number says "
            "why there is none."
        )
    _left_out(found)


def gain_words(lower: float | None, upper: float | None) -> str:
    """What the limits of a gain allow to say."""
    if lower is None or upper is None:
        return "can't tell yet"
    return "better" if lower > 0 else "worse" if upper < 0 else "can't tell yet"


def comparison_rows(frame: pl.DataFrame, label: str) -> pl.DataFrame:
    """Rows of CHANGES as the table shows them; where the verdict is not ok there is a reason and no number."""
    shown = []
    for row in frame.to_dicts():
        fine = row["verdict"] == "ok"
        shown.append(
            {
                "label": one_line(row[label], 80) or "(none)",
                "verdict": gain_words(row["gain_lower"], row["gain_upper"]) if fine else _NO_ANSWER[row["verdict"]],
                "gain": row["gain"] if fine else None,
                "limits": f"{row['gain_lower']:+.3f} to {row['gain_upper']:+.3f}" if fine else None,
                "value": row["value"] if fine else None,
                "value_limits": f"{row['lower']:.3f} to {row['upper']:.3f}" if fine else None,
                "n": row["decisions"],
                "ess": row["ess"],
                "reason": None if fine else clean(row["reason"] or ""),
            }
        )
    return pl.DataFrame(
        shown,
        schema={
            "label": pl.String, "verdict": pl.String, "gain": pl.Float64, "limits": pl.String, "value": pl.Float64,
            "value_limits": pl.String, "n": pl.Int64, "ess": pl.Float64, "reason": pl.String,
        },
    )  # fmt: skip


def _refusal(of: Estimates) -> None:
    word = "Refused" if of.verdict == "refused" else "Not yet"
    st.warning(f"**{word}.** {markdown_safe(of.reason or 'The log cannot answer this.')}", icon=_ICONS[of.verdict])


def _headline(of: Estimates) -> None:
    first, second, third = st.columns(3)
    first.metric("Mean reward", f"{of.value:.3f}", help="Doubly robust estimate")
    first.caption(f"{of.lower:.3f} to {of.upper:.3f} at every look, n {of.n:,}")
    second.metric("As it ran", f"{of.logged_value:.3f}")
    second.caption("on the same decisions")
    third.metric("Change", f"{of.gain:+.3f}")
    third.caption(f"{of.gain_lower:+.3f} to {of.gain_upper:+.3f}: {gain_words(of.gain_lower, of.gain_upper)}")


def _estimators(of: Estimates) -> None:
    order = {name: place for place, name in enumerate(_CHECKS)}
    shown = [
        {
            "estimator": row["estimator"], "what": _CHECKS.get(row["estimator"], ""), "value": row["value"],
            "limits": _limits(row["lower"], row["upper"]), "fixed": _limits(row["fixed_lower"], row["fixed_upper"]),
        }
        for row in sorted(of.table.to_dicts(), key=lambda row: order.get(row["estimator"], 99))
    ]  # fmt: skip
    with st.expander("Estimators side by side"):
        export.table(
            "estimators", pl.DataFrame(shown), hide_index=True, alt=f"{len(shown)} estimators",
            column_config={
                "what": st.column_config.TextColumn("rests on"),
                "value": st.column_config.NumberColumn(format="%.4f"),
                "limits": st.column_config.TextColumn("limits at every look"),
                "fixed": st.column_config.TextColumn("if looked at once"),
            },
        )  # fmt: skip
        st.caption("IPS and SNIPS far from the headline mean that weights or the outcome model are off.")


def _diagnostics(of: Diagnostics, overlap: pl.DataFrame) -> None:
    unit = "decisions" if of.units == of.n else "users' days"
    ratio = "not tested" if of.sample_ratio_p is None else f"p {of.sample_ratio_p:.3g}"
    with st.grid(4, min_column_width=150, gap="small"):
        for label, value, note in (
            ("Effective size", f"{of.ess:,.0f}", f"of {of.units:,} {unit}, {fmt.percent(of.ess_share)}"),
            ("Largest weight", f"{of.largest_weight:,.1f}", f"one unit has {fmt.percent(of.max_weight_share)} of all"),
            ("Mean weight", f"{of.mean_weight:.3f}", f"1 is expected, {of.mean_weight_z:+.1f} standard errors"),
            ("Sample ratio", ratio, "arms as often as logged" if of.sample_ratio_p is None or of.sample_ratio_p > 0.001
             else "arms ran in other shares than logged"),
        ):  # fmt: skip
            with st.container(border=True, height="stretch", gap="xsmall"):
                st.metric(label, value)
                st.caption(note)
    if overlap.height:
        with st.expander("Arms drawn, expected and wanted"):
            export.table(
                "arms in the log", overlap.with_columns(each(overlap["arm"], lambda arm: one_line(arm, 80), pl.String)),
                hide_index=True, height=tables.height(overlap.height), alt=f"{overlap.height} arms in the log",
                column_config={
                    name: st.column_config.NumberColumn(format="%.0f", help=help_text)
                    for name, help_text in (
                        ("drawn", "Decisions that ran it"), ("expected", "By the logged propensities"),
                        ("wanted", "Decisions the policy asked about would give it"),
                        ("impossible", "Of these, where it could not be drawn"),
                    )
                },
            )  # fmt: skip


def _changes(frame: pl.DataFrame, label: str) -> None:
    # Where no row has a number, empty columns would only hide why.
    if frame["value"].null_count() == frame.height:
        frame = frame.select("label", "verdict", "reason", "n", "ess")
    export.table(
        f"answers by {label}",
        frame, hide_index=True, height=tables.height(frame.height), alt=f"{frame.height} answers",
        column_config={
            "label": st.column_config.TextColumn(label, pinned=True, width=220),
            "verdict": st.column_config.TextColumn("verdict", width=110),
            "gain": st.column_config.NumberColumn("change", format="%+.3f", width=72),
            "limits": st.column_config.TextColumn("limits of the change", width=140),
            "value": st.column_config.NumberColumn("mean reward", format="%.3f", width=92),
            "value_limits": st.column_config.TextColumn("its limits", width=120),
            "n": st.column_config.NumberColumn("n", format="localized", width=64),
            "ess": st.column_config.NumberColumn("effective size", format="%.0f", width=98),
            "reason": st.column_config.TextColumn("why no number", width=520),
        },
    )  # fmt: skip


def _left_out(found: Asked) -> None:
    parts = [f"{count:,} {REASONS.get(reason, reason)}" for reason, count in found.dropped.items()]
    left = f"; left out: {'; '.join(parts)}" if parts else ""
    hours = found.settled.total_seconds() / 3_600
    settled = f" Outcomes count as settled after {fmt.duration(found.settled.total_seconds())}." if hours else ""
    st.caption(f"{fmt.plural(found.draws, 'draw')} in the log{left}.{settled}")


def _limits(lower: float | None, upper: float | None) -> str | None:
    return None if lower is None or upper is None else f"{lower:.4f} to {upper:.4f}"
