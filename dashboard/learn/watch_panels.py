"""The panel of the hacking watch: is an arm better at what it is measured by and worse at what is wanted?"""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.learn import tables
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from store import hacking_watch

__all__ = ["show"]

_BASIS: Final = {
    "randomised": "arms drawn with logged propensities",
    "observed": "as observed, not randomised: other causes are possible",
}


def show(agents: tuple[str, ...] = ()) -> None:
    """Alarms first, then every comparison with its limits."""
    with states.guarded("The hacking watch", key="hacking-watch"):
        _show(agents)


def _show(agents: tuple[str, ...]) -> None:
    run = data.query(hacking_watch.latest_run)
    if run is None:
        states.nothing(
            "Nothing watched yet",
            "The hacking watch compares arms and prompt versions of an agent with its baseline: proxies (clicks, "
            "volunteered feedback, judges) against solicited feedback and verified outcomes.",
        )
        return
    found = data.query(hacking_watch.found)
    if agents:
        found = found.filter(pl.col("agent").is_in(agents))
    if found.is_empty():
        states.nothing("Nothing to compare", "No agent has two arms or versions with signals.")
        return
    _alarms(found)
    _table(found)
    _composites(run["parameters"], agents)
    config = run["parameters"].get("config", {})
    level = fmt.percent(config.get("alpha"))
    st.caption(
        "Alarm: a proxy's lower limit above 0 and gold's upper limit below 0. Limits are valid at every look; the "
        f"probability that an agent ever gets a false alarm is at most {level}. Gold: solicited feedback and verified "
        f"outcomes. As of {fmt.when(run['watched_at'])}."
    )
    for note in run["parameters"].get("notes", []):
        text.line(note)


def _alarms(found: pl.DataFrame) -> None:
    alarms = found.filter("alarm")
    if alarms.is_empty():
        ready = found.filter((pl.col("role") == "gold") & pl.col("lower").is_not_null()).height
        total = found.filter(role="gold").height
        st.success(
            f"No alarm. {ready} of {fmt.plural(total, 'comparison')} have enough gold signals for limits.",
            icon=":material/shield:",
        )
        return
    gold = {
        (row["agent"], row["axis"], row["candidate"]): row for row in found.filter(role="gold").iter_rows(named=True)
    }
    named = alarms.select("agent", "axis", "candidate").n_unique()
    st.error(f"{fmt.plural(named, 'alarm')}: better at the proxy, worse at the goal.", icon=":material/warning:")
    for row in alarms.iter_rows(named=True):
        wanted = gold[row["agent"], row["axis"], row["candidate"]]
        text.line(
            f"{row['agent']}, {row['axis']} {row['candidate']} against {row['baseline']}: {row['measure']} "
            f"{_difference(row)}, n {row['n']:,}; gold {_difference(wanted)}, n {wanted['n']:,}; since "
            f"{fmt.when(row['alarm_since'], seconds=False)}; {_BASIS.get(row['basis'], row['basis'])}"
        )


def _table(found: pl.DataFrame) -> None:
    rows = [
        {
            "agent": row["agent"], "compared": f"{row['axis']} {row['candidate']}", "baseline": row["baseline"],
            "role": row["role"], "measure": row["measure"], "difference": row["difference"],
            "limits": row["reason"] or _limits(row), "verdict": _verdict(row), "n": row["n"], "ess": row["ess"],
            "basis": row["basis"],
        }
        for row in found.iter_rows(named=True)
    ]  # fmt: skip
    export.table(
        "hacking watch", pl.DataFrame(rows, infer_schema_length=None), hide_index=True, height=tables.height(len(rows)),
        column_config={
            "difference": st.column_config.NumberColumn(format="%+.3f", help="Candidate minus baseline"),
            "limits": st.column_config.TextColumn("limits", help="One-sided, valid at every look"),
            "n": st.column_config.NumberColumn(format="localized"),
            "ess": st.column_config.NumberColumn("effective user-days", format="%.0f"),
        },
        alt=f"{len(rows)} comparisons with baselines",
    )  # fmt: skip


def _composites(parameters: dict[str, Any], agents: tuple[str, ...]) -> None:
    composites = {
        name: value for name, value in parameters.get("composites", {}).items() if not agents or name in agents
    }
    if not composites:
        return
    cap = fmt.percent(parameters.get("config", {}).get("cap"))
    with st.expander(f"How the composite is put together (no proxy above {cap} of its variance)"):
        rows = [
            {"agent": agent, "proxy": name, "weight": weight, "share": share, "capped": capped}
            for agent, value in sorted(composites.items())
            for name, weight, share, capped in zip(
                value["measures"], value["weights"], value["shares"], value["capped"], strict=True
            )
        ]
        export.table(
            "composites", pl.DataFrame(rows), hide_index=True,
            column_config={
                "weight": st.column_config.NumberColumn(format="%.3f", help="Of the proxy in its standard deviations"),
                "share": st.column_config.NumberColumn("share of the variance", format="percent"),
            },
            alt="Weights of proxies in the composite",
        )  # fmt: skip
        for agent, value in sorted(composites.items()):
            if value["reason"]:
                text.line(f"{agent}: {value['reason']}")


def _verdict(row: dict[str, Any]) -> str:
    if row["lower"] is None or row["upper"] is None:
        return "can't tell yet"
    if row["lower"] > 0:
        return "better"
    return "worse" if row["upper"] < 0 else "can't tell yet"


def _limits(row: dict[str, Any]) -> str:
    return f"{row['lower']:+.3f} to {row['upper']:+.3f}"


def _difference(row: dict[str, Any]) -> str:
    return f"{row['difference']:+.3f} ({_limits(row)})"
