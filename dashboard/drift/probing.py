"""Probes of the configured model: the switch, what they may cost and cost, the prompts, and the runs."""

from datetime import datetime
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from store import model_probe_runs, model_probes
from store.model_probes import ProbeSettings

__all__ = ["show"]

_RUNS: Final = 100


def show(now: datetime) -> None:
    """The answer, the runs, and in an expander what operators set."""
    st.subheader("Probes", anchor=False)
    held = data.query(model_probes.settings)
    _answer(held)
    runs = data.query(model_probe_runs.runs, limit=_RUNS)
    if runs.is_empty():
        states.nothing(
            "No probe run yet",
            "Probes ask the configured model the same prompts again and compare the answers with the first ones: a "
            "change shows within a run, whatever the traffic. They cost what their answers cost, and are off until you "
            "switch them on.",
        )
    else:
        _runs(runs, now)
    with st.expander("Switch, schedule and cap", icon=":material/tune:", expanded=False):
        _settings(held)
    with st.expander("Prompts", icon=":material/quiz:", expanded=False):
        _prompts()


def _answer(held: ProbeSettings) -> None:
    spent = data.fresh(model_probes.spent_today)
    if held.switched_on:
        st.markdown(f"**Probes run every {fmt.plural(held.every_hours, 'hour')}.**")
    else:
        st.markdown("**Probes are off.**")
    month = data.query(model_probes.spend, days=30)
    total = float(month["usd"].sum() or 0.0)
    st.text(
        f"Today {fmt.money(spent)} of at most {fmt.money(held.daily_usd)}; {fmt.money(total)} in 30 days, "
        f"{fmt.plural(int(month['calls'].sum() or 0), 'call')}."
    )
    if held.put_at is not None:
        st.text(f"Set by {text.one_line(held.put_by, 80)}, {fmt.when(held.put_at, seconds=False)}.")


def _runs(runs: pl.DataFrame, now: datetime) -> None:
    rows = [
        {
            "run": row["run_no"], "model": text.one_line(row["model"], 60), "state": row["state"],
            "baseline": row["baseline"], "answers": f"{row['answered']:,} of {row['planned']:,}", "cost": row["usd"],
            "most": row["most_usd"], "began": fmt.relative(row["started_at"], now),
            "said": text.one_line(row["message"], 300) or None,
        }
        for row in runs.to_dicts()
    ]  # fmt: skip
    st.dataframe(
        pl.DataFrame(rows, schema_overrides={"said": pl.String()}), hide_index=True, height=tables.height(runs.height),
        key="probe-runs", placeholder="", alt=f"{runs.height} runs of probes, the newest first",
        column_config={
            "baseline": st.column_config.CheckboxColumn(width=70, help="What later runs are compared with"),
            "cost": st.column_config.NumberColumn(format="$%.4f"),
            "most": st.column_config.NumberColumn("at most", format="$%.4f", help="Said before anything was sent"),
            "said": st.column_config.TextColumn("what it said", width=420),
        },
    )  # fmt: skip
    export.download(runs, "probe runs", "probe-runs-export")


def _settings(held: ProbeSettings) -> None:
    # Whatever somebody else saves meanwhile begins the form anew, so that it never writes back what was.
    mark = f"{held.put_at:%Y%m%d%H%M%S%f}" if held.put_at is not None else "first"
    with st.form("probe-settings", border=True):
        st.toggle("Send probes", held.switched_on, key=f"probes-on-{mark}")
        first, second = st.columns(2)
        first.number_input("Every, hours", 1, 8_760, held.every_hours, 1, key=f"probes-hours-{mark}")
        second.number_input(
            "At most a day, US dollars", 0.0, 10_000.0, held.daily_usd, 0.1, key=f"probes-usd-{mark}", format="%.2f",
            help="Nothing is sent that could cost more than what is left of this",
        )  # fmt: skip
        first.number_input("Answers of each prompt", 2, 200, held.samples, 1, key=f"probes-samples-{mark}")
        second.number_input(
            "In the first run", 2, 1_000, held.baseline_samples, 1, key=f"probes-baseline-{mark}",
            help="What later runs are compared with: more of them see smaller changes",
        )  # fmt: skip
        offer.submit(
            "Save",
            role="admin",
            icon=":material/save:",
            type="primary",
            key="probes-save",
            on_click=_save,
            args=(mark,),
        )


def _prompts() -> None:
    st.caption(
        "Built-in prompts are always asked, yours beside them. The same prompt asked in the same way is the same probe."
    )
    listed = data.query(model_probes.active)
    for row in listed.iter_rows(named=True):
        with st.container(horizontal=True, vertical_alignment="center", key=f"probe-{row['probe_id']}"):
            st.text(
                f"{text.one_line(row['prompt'], 160)} ({row['kind']}, {row['output_tokens']} tokens)", width="stretch"
            )
            offer.button(
                "Retire", role="admin", icon=":material/delete:", key=f"retire-{row['probe_id']}", type="tertiary",
                on_click=_retire, args=(row["probe_id"],),
            )  # fmt: skip
    with st.form("probe-prompt", border=True, clear_on_submit=True):
        st.text_area("Prompt", key="probe-text", max_chars=model_probes.MAX_PROMPT, height=90)
        first, second = st.columns(2)
        first.selectbox(
            "What is compared", ("text", "logprob"), key="probe-kind",
            format_func=lambda kind: {"text": "the answers", "logprob": "likeliest first tokens"}.get(kind, kind),
        )  # fmt: skip
        second.number_input("Tokens of an answer", 1, 1_000, 20, 1, key="probe-tokens")
        offer.submit("Add the prompt", role="admin", icon=":material/add:", key="probe-add", on_click=_add)


def _save(mark: str) -> None:
    store, read = runtime.current().store, st.session_state

    def work() -> str:
        put = model_probes.put_settings(
            store, operator=operator(), switched_on=bool(read[f"probes-on-{mark}"]),
            every_hours=_whole(read[f"probes-hours-{mark}"]), samples=_whole(read[f"probes-samples-{mark}"]),
            baseline_samples=_whole(read[f"probes-baseline-{mark}"]), daily_usd=read[f"probes-usd-{mark}"],
        )  # fmt: skip
        state = "on" if put.switched_on else "off"
        return f"Saved: probes are {state}, at most {fmt.money(put.daily_usd)} a day."

    perform(work, role="admin")


def _add() -> None:
    store, read = runtime.current().store, st.session_state

    def work() -> str:
        kind: Any = str(read["probe-kind"])
        tokens = _whole(read["probe-tokens"])
        model_probes.put_prompt(
            store, str(read["probe-text"] or ""), kind=kind, output_tokens=tokens or 0, operator=operator()
        )
        return "Added the prompt: the next run begins a new baseline of it."

    perform(work, role="admin")


def _retire(probe_id: str) -> None:
    store = runtime.current().store

    def work() -> str:
        model_probes.retire_prompt(store, probe_id, operator=operator())
        return "Retired the prompt: it is asked no more, and what it brought stays."

    perform(work, role="admin")


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
