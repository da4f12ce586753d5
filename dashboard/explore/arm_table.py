"""Every arm of an agent: how good it is and how surely, against the baseline, in which state and why."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.explore import in_force, verdicts
from dashboard.explore.in_force import Beliefs
from dashboard.learn import figures
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, one_line, plotly_safe
from dashboard.ui.theme import Theme
from store import arms

__all__ = ["rows", "show"]

_DRAWN: Final = 20
_Z95: Final = figures.Z95
_ORIGINS: Final = {"traces": "discovered in traces", "operator": "defined here", "api": "defined by API"}
_BASES: Final = {
    "randomised": "from draws at random", "observational": "as observed, not randomised", "prior": "no traces yet",
}  # fmt: skip


def show(agent: str, theme: Theme) -> None:
    """The figure and the table of the agent's arms."""
    listed = data.query(arms.listed, agent=agent)
    if listed.is_empty():
        states.nothing(
            "This agent has no arm",
            "Define one below, or state the column “arm” in its traces: the policies job finds them.",
        )
        return
    held = in_force.policy(agent)
    known = in_force.beliefs(held)
    baseline = listed.filter("baseline")["arm"].to_list()
    found: dict[str, dict[str, Any]] = {}
    if baseline:
        with states.guarded("Verdicts", key="verdicts"), st.spinner("Comparing the arms"):
            found = {row["arm"]: row for row in verdicts.of_agent(agent, baseline[0]).to_dicts()}
    _answer(listed, known, found, baseline)
    if held is None:
        st.caption("No policy was published yet: posteriors appear when the job Policies has run.")
    else:
        _figure(listed, known, theme)
        st.caption(
            f"Posteriors as of the last fit, {fmt.when(held.built_at, seconds=False)}, policy version {held.version}. "
            "P(best) is among enabled and shadow arms. Intervals are for comparing arms: what is not known of the "
            "scale, which they share, is left out; the page Rewards has it."
        )
    if problem := in_force.problem(agent):
        st.warning("The newest policy could not be taken into force; the one before keeps serving.")
        st.code(problem[:1_000], language=None, wrap_lines=True)
    _table(rows(listed, known, found))
    _bases(known, found)


def rows(listed: pl.DataFrame, known: dict[str, Beliefs], found: dict[str, dict[str, Any]]) -> pl.DataFrame:
    """One row an arm as the table shows it: the highest posterior mean first, those without one last."""
    shown = []
    for row in listed.to_dicts():
        belief = known.get(row["arm"])
        verdict = found.get(row["arm"])
        shown.append(
            {
                "arm": one_line(row["arm"], 80),
                "state": row["state"],
                "baseline": row["baseline"],
                "mean": belief.mean if belief else None,
                "interval": _interval(belief),
                "n": belief.n if belief else None,
                "best": belief.best if belief else None,
                "verdict": "baseline" if row["baseline"] else verdicts.words(verdict) if verdict else "not compared",
                "difference": _difference(verdict),
                "shrunk": verdict["shrunk_value"] if verdict else None,
                "origin": _ORIGINS.get(row["origin"], row["origin"]),
                "why": one_line(row["state_reason"], 300) or None,
                "by": one_line(row["state_by"], 60),
                "description": one_line(row["description"], 200) or None,
                "definition": one_line(row["definition"], 300),
            }
        )
    frame = pl.DataFrame(shown, schema=_ROWS)
    return frame.sort("mean", "arm", descending=[True, False], nulls_last=True)


_ROWS: Final = pl.Schema(
    {
        "arm": pl.String(), "state": pl.String(), "baseline": pl.Boolean(), "mean": pl.Float64(),
        "interval": pl.String(), "n": pl.Int64(), "best": pl.Float64(), "verdict": pl.String(),
        "difference": pl.String(), "shrunk": pl.Float64(), "origin": pl.String(), "why": pl.String(),
        "by": pl.String(), "description": pl.String(), "definition": pl.String(),
    }
)  # fmt: skip


def _answer(
    listed: pl.DataFrame, known: dict[str, Beliefs], found: dict[str, dict[str, Any]], baseline: list[str]
) -> None:
    lead = next((name for name, belief in known.items() if belief.leads), None)
    if lead is not None:
        best = known[lead]
        st.text(
            f"{one_line(lead, 80)} has the highest mean, {best.mean:.3f} ({_interval(best)}), n {best.n:,}; it is the "
            f"best with probability {fmt.percent(best.best)}."
        )
        verdict = found.get(lead)
        if verdict is not None and verdict["shrunk_value"] is not None and best.n:
            st.caption(
                f"The winner of several looks better than it is: shrunk to {verdict['shrunk_value']:.3f} by what noise "
                "explains."
            )
    if not baseline:
        st.warning("No arm is the baseline, so nothing can be compared. Choose one below.", icon=":material/flag:")
    off = listed.filter((pl.col("state") == "off") & (pl.col("state_by") == "trimtab"))
    for row in off.iter_rows(named=True):
        with st.container(border=True, gap="xsmall"):
            st.badge("switched off by Trimtab", icon=":material/power_off:", color="red")
            st.text(f"{one_line(row['arm'], 80)}, {fmt.when(row['updated_at'], seconds=False)}")
            st.text(clean(row["state_reason"] or "No reason was kept."))


def _figure(listed: pl.DataFrame, known: dict[str, Beliefs], theme: Theme) -> None:
    ordered = sorted(known.items(), key=lambda item: -item[1].mean)
    if not ordered:
        return
    state = dict(listed.select("arm", "state").iter_rows())
    top = ordered[:_DRAWN]
    frame = pl.DataFrame(
        {
            "label": [name if state.get(name) != "shadow" else f"{one_line(name, 34)} (shadow)" for name, _ in top],
            "mean": [belief.mean for _, belief in top],
            "lower": [max(0.0, belief.mean - _Z95 * belief.sd) for _, belief in top],
            "upper": [min(1.0, belief.mean + _Z95 * belief.sd) for _, belief in top],
            "hover": [
                f"{plotly_safe(name, 60)}: {belief.mean:.3f} ({_interval(belief)}), n {belief.n:,}, best with "
                f"{belief.best:.1%}"
                for name, belief in top
            ],
        }
    )
    st.plotly_chart(
        figures.intervals(frame, theme, axis="mean reward, 95 % interval"), key="arm-means", config=charts.CONFIG,
        alt=f"Posterior mean reward of {frame.height} arms with 95 % intervals",
    )  # fmt: skip
    if len(ordered) > _DRAWN:
        st.caption(f"The {_DRAWN} arms with the highest means are drawn; all {len(ordered)} are in the table.")


def _table(frame: pl.DataFrame) -> None:
    export.table(
        "arms",
        frame, key="arms-table", hide_index=True, height="content" if frame.height <= 12 else 460, row_height=30,
        alt=f"{frame.height} arms",
        column_config={
            "arm": st.column_config.TextColumn("Arm", pinned=True, width=170),
            "state": st.column_config.TextColumn("State", width=70),
            "baseline": st.column_config.CheckboxColumn("Base", width=50),
            "mean": st.column_config.NumberColumn("Mean", format="%.3f", width=60),
            "interval": st.column_config.TextColumn("95 % interval", width=112),
            "n": st.column_config.NumberColumn("n", format="localized", width=60, help="Traces with signals"),
            "best": st.column_config.ProgressColumn("P(best)", format="percent", max_value=1.0, width=90),
            "verdict": st.column_config.TextColumn("Against the baseline", width=250),
            "difference": st.column_config.TextColumn("Difference, valid at every look", width=190),
            "shrunk": st.column_config.NumberColumn(
                "Shrunk", format="%.3f", width=64,
                help="The arm's own mean, drawn towards the others by what noise explains",
            ),
            "origin": st.column_config.TextColumn("Origin", width=130),
            "why": st.column_config.TextColumn("Why in this state", width=260),
            "by": st.column_config.TextColumn("By", width=90),
            "description": st.column_config.TextColumn("Description", width=200),
            "definition": st.column_config.TextColumn("Definition", width=260),
        },
    )  # fmt: skip


def _bases(known: dict[str, Beliefs], found: dict[str, dict[str, Any]]) -> None:
    """What the numbers rest on, and the reasons of verdicts that are open."""
    counted: dict[str, int] = {}
    for belief in known.values():
        counted[belief.basis] = counted.get(belief.basis, 0) + 1
    if counted:
        st.caption(
            "Posteriors: "
            + ", ".join(f"{fmt.plural(count, 'arm')} {_BASES.get(basis, basis)}" for basis, count in counted.items())
            + "."
        )
    observed = any(row["basis"] == "observed" for row in found.values())
    if observed:
        st.caption(
            "Verdicts compare traces as they came, not drawn at random: a difference may be one of requests. Ask "
            "/v1/steer which arm to run and it becomes causal."
        )
    if found:
        with st.expander("Why each verdict"):
            for name, row in found.items():
                st.text(
                    f"{one_line(name, 80)}: {row['verdict']}. {row['reason']} "
                    f"(n {row['n_arm']:,} and {row['n_baseline']:,})"
                )


def _interval(belief: Beliefs | None) -> str | None:
    if belief is None:
        return None
    return f"{max(0.0, belief.mean - _Z95 * belief.sd):.3f} to {min(1.0, belief.mean + _Z95 * belief.sd):.3f}"


def _difference(verdict: dict[str, Any] | None) -> str | None:
    if verdict is None:
        return None
    if verdict["lower"] is None:
        return f"not enough data: worth {verdict['ess']:.0f} of 200"
    return f"{verdict['estimate']:+.3f} ({verdict['lower']:+.3f} to {verdict['upper']:+.3f})"
