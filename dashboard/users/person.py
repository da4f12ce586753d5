"""One user: facts, what they value against everyone, what they say against what they do, rewards and signals."""

from datetime import datetime
from math import sqrt
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.learn import tables
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from dashboard.ui.theme import Theme
from dashboard.users import figures, listing
from store import preferences, reward_versions, users

__all__ = ["back", "facts", "rewards_over_time", "satisfaction", "says_and_does", "signals", "values"]

_Z95: Final = 1.959963984540054
_LEANS: Final = 0.5
_LEAST_WEEK: Final = 3  # traces with signals, below which a week has no point


def facts(user: dict[str, Any], now: datetime) -> None:
    """Who it is and how much is known of them (`user` of `store.users.SUMMARY`)."""
    with st.container(horizontal=True, vertical_alignment="center", key="user-facts"):
        text.line(user["user_id"][:2_000] or "(empty)")
        if user["segment"]:
            st.caption("segment", width="content")
            st.text(text.one_line(user["segment"], 60), width="content")
        st.page_link(
            "views/traces.py", label="Traces of this user", icon=":material/open_in_new:",
            query_params={"user": user["user_id"], "range": "all time"},
        )  # fmt: skip
    with st.grid(4, min_column_width=140, gap="small"):
        traces, reward, given, latest = (st.container(gap="xsmall") for _ in range(4))
    traces.metric("traces", fmt.count(user["traces"]))
    traces.caption(f"of {fmt.plural(user['agents'], 'agent')}")
    if user["rewarded"] >= users.MINIMUM_REWARDS:
        reward.metric("mean reward", f"{user['reward']:.2f}")
        interval = fmt.mean_interval(user["rewarded"], user["reward"], user["reward_variance"], user["reward_sd2"])
        reward.caption(f"{interval.lower:.2f} to {interval.upper:.2f}, n {user['rewarded']:,}")
    else:
        reward.metric("mean reward", fmt.NONE)
        reward.caption(fmt.missing(user["rewarded"], users.MINIMUM_REWARDS, "trace") + " with signals")
    given.metric("signals", fmt.count(user["signals"]))
    given.caption(f"{user['explicit']:,} explicit")
    latest.metric("latest", fmt.relative(user["latest_at"], now))
    latest.caption(fmt.when(user["latest_at"], seconds=False))


def satisfaction(user_id: str) -> None:
    """How satisfied the reward model takes this person to be, and how far that is their own doing."""
    found = data.query(reward_versions.person, user_id)
    if found.is_empty() or found["satisfaction"][0] is None:
        return
    row = found.row(0, named=True)
    half = _Z95 * (row["satisfaction_sd"] or 0.0)
    leans = text.one_line(row["segment"], 60) if row["segment"] else "the agents they use"
    own = fmt.plural(row["events"], "statement of their own", "statements of their own")
    text.line(
        f"Satisfied with {fmt.percent(row['satisfaction'])} of average traces "
        f"({fmt.percent(max(row['satisfaction'] - half, 0.0))} to "
        f"{fmt.percent(min(row['satisfaction'] + half, 1.0))}), "
        f"from {own}; {fmt.percent(row['leans_on'])} of this is what is usual for {leans}."
    )


def values(user_id: str, run: dict[str, Any] | None, theme: Theme) -> None:
    """What the user values against everyone, as a dumbbell a feature, and how far that leans on the population."""
    if not _fitted(run):
        return
    assert run is not None
    own = data.query(preferences.user_weights, user_id)
    everyone = data.query(preferences.weights).filter(scope="everyone", basis="revealed")
    unit = _unit(everyone, run["parameters"]["anchor"])
    if own.is_empty():
        states.nothing(
            "No choices of this user",
            "They were never shown a list of items with their name on it, so all that can be said of them is what "
            "holds for everyone: see Rewards.",
        )
        return
    frame = own.join(everyone.select("feature", mean="weight", mean_sd="sd"), on="feature", maintain_order="left")
    drawn = _limits(_limits(frame, "first", "weight", "sd", unit), "second", "mean", "mean_sd", unit)
    anchor = text.plotly_safe(run["parameters"]["anchor"], 30)
    st.plotly_chart(
        figures.dumbbells(
            drawn, theme, names=("this user", "everyone"),
            axis=f"weight in choices; 1 is what “{anchor}” weighs for everyone",
        ),
        key="user-values", config=charts.CONFIG,
        alt=f"Weights of {drawn.height} features of this user and of everyone, with 95 % intervals",
    )  # fmt: skip
    agreement = data.query(preferences.user_agreement, user_id)
    lists = None if agreement is None else agreement["lists"]
    leaning = float(own["leaning"].mean())  # type: ignore[arg-type]
    seen = "" if lists is None else f" from {fmt.plural(lists, 'list')} shown"
    st.markdown(f"**{_leaning_words(leaning)}** ({fmt.percent(leaning)} of what is said here is the population{seen}).")
    st.caption(
        "Revealed by what was clicked or chosen of what was shown, corrected for position; 95 % intervals. Only "
        "comparisons between features mean something, not the size of all weights together. "
        f"As of {fmt.when(run['fitted_at'], seconds=False)}; predictive, not causal."
    )


def says_and_does(user_id: str, run: dict[str, Any] | None, theme: Theme) -> None:
    """The user's stated goals against their choices: the two directions, their angle, q and n."""
    if run is None or "refused" in run["parameters"]:
        states.nothing("Nothing to compare yet", "What they say is compared with what they value, once that is known.")
        return
    found = data.query(preferences.user_agreement, user_id)
    if found is None:
        states.nothing(
            "Nothing to compare",
            "A comparison needs goals that the user stated (signals of kind preference, name stated_goal, item the "
            "feature) and lists that they chose from.",
        )
        return
    if found["contradicts"] is None:
        least = run["parameters"]["minimum"]
        if found["lists"] < least["lists"]:
            states.not_enough("Says and does", found["lists"], least["lists"], "lists shown to this user")
        elif found["statements"] < least["statements"]:
            states.not_enough("Says and does", found["statements"], least["statements"], "stated goals of this user")
        else:
            states.nothing("Not compared", f"Of this user {found['reason']}.")
        return
    own = data.query(preferences.user_weights, user_id).drop_nulls("stated")
    drawn = _unit_vectors(own)
    st.markdown(
        "**Their choices contradict their goals.**" if found["contradicts"]
        else "**No contradiction between goals and choices is found.**"
    )  # fmt: skip
    st.plotly_chart(
        figures.dumbbells(
            drawn, theme, names=("does", "says"), axis="share of the direction, both of length 1; 95 % intervals"
        ),
        key="user-says", config=charts.CONFIG,
        alt=f"Stated and revealed direction over {drawn.height} features with 95 % intervals",
    )  # fmt: skip
    q = "below .0001" if found["q_value"] < 0.0001 else f"{found['q_value']:.4f}"
    st.caption(
        f"Angle {found['angle']:.0f}° ({found['angle_lower']:.0f}° to {found['angle_upper']:.0f}°), q {q}, from "
        f"{fmt.plural(found['lists'], 'list')} and {fmt.plural(found['statements'], 'stated value')}. Called a "
        "contradiction when q is at most .05 over all users compared and the angle above 20°."
    )


def rewards_over_time(user_id: str, theme: Theme) -> None:
    """Mean reward by week with intervals, from traces with signals of their own."""
    frame = data.query(users.reward_per_week, user_id)
    total = int(frame["rewarded"].sum())
    frame = frame.filter(pl.col("rewarded") >= _LEAST_WEEK)
    if total < users.MINIMUM_REWARDS:
        states.not_enough("Reward over time", total, users.MINIMUM_REWARDS, "traces with signals of their own")
        return
    limits = fmt.mean_limits(
        frame.with_columns(shared=pl.lit(0.0)), n="rewarded", mean="reward", variance="reward_variance",
        sd2="reward_sd2", shared_sd="shared",
    ).with_columns(pl.col("lower", "upper").clip(0.0, 1.0))  # fmt: skip
    st.plotly_chart(
        charts.reward_over_time(limits, "week", theme, height=240), key="user-rewards", config=charts.CONFIG,
        alt=f"Mean reward of {frame.height} weeks with 95 % intervals",
    )  # fmt: skip
    st.caption(
        f"Each point is one week with at least {_LEAST_WEEK} traces with signals of their own, of which there are "
        f"{total:,} in all; 95 % intervals."
    )


def signals(user_id: str) -> None:
    """What this user did and said, by kind."""
    frame = data.query(users.by_kind, user_id)
    if frame.is_empty():
        states.nothing("No signals of this user", "Clicks, ratings and outcomes appear here when they arrive.")
        return
    shown = frame.with_columns(
        name=pl.Series([text.one_line(name, 60) or None for name in frame["name"]], dtype=pl.String)
    )
    export.table(
        "signals of the user", shown.rename({"with_value": "with a value", "mean": "mean value"}), hide_index=True,
        height=tables.height(frame.height),
        column_config=fmt.columns({
            "mean value": st.column_config.NumberColumn(format="%.2f", help="Of values from 0 to 1, as they came"),
            "latest": st.column_config.DatetimeColumn("latest (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
        }),
        alt=f"{frame.height} kinds of signal of this user",
    )  # fmt: skip


def back() -> None:
    """The way back to the list."""
    st.button("All users", icon=":material/arrow_back:", key="all-users", type="tertiary", on_click=_to_list)


def _to_list() -> None:
    listing.open_user(None)


def _fitted(run: dict[str, Any] | None) -> bool:
    """Whether there are weights; says what is missing where there are none."""
    if run is None:
        states.nothing(
            "No preferences yet",
            "The preferences job infers them from lists of items that were shown and what was chosen of them. It runs "
            "by itself when data arrives.",
        )
        return False
    refused = run["parameters"].get("refused")
    if refused is not None:
        states.nothing("Preferences cannot be inferred yet", text.markdown_safe(refused["text"]))
        return False
    return True


def _unit(everyone: pl.DataFrame, anchor: str) -> float:
    weight = everyone.filter(feature=anchor)["weight"]
    return abs(float(weight[0])) or 1.0


def _limits(frame: pl.DataFrame, side: str, mean: str, sd: str, unit: float) -> pl.DataFrame:
    return frame.with_columns(
        **{
            side: pl.col(mean) / unit,
            f"{side}_lower": (pl.col(mean) - _Z95 * pl.col(sd)) / unit,
            f"{side}_upper": (pl.col(mean) + _Z95 * pl.col(sd)) / unit,
        }
    )


def _unit_vectors(own: pl.DataFrame) -> pl.DataFrame:
    """Both sides divided by their length; the interval of each feature holds the length fixed."""
    lengths = {side: sqrt(float((own[side] ** 2).sum())) or 1.0 for side in ("weight", "stated")}
    first = _limits(own, "first", "weight", "sd", lengths["weight"])
    return _limits(first, "second", "stated", "stated_sd", lengths["stated"])


def _leaning_words(leaning: float) -> str:
    if leaning >= _LEANS:
        return "Few choices: this leans on the population"
    return "These are mostly the user's own choices"
