"""Measurement models: every kind of signal on one latent quality of a trace, agent by agent (METHODS §3).

    1  examination by position (position-based model) and the delay of late events
    2  items: one response model per kind and name of signal (`response_models`, `items`)
    3  marginal maximum likelihood of loadings, intercepts, μ and s, anchored on answers asked for at random (`latent`)
    4  people: leniency apart from quality, pooled by segment and agent (`leniency`); then 3 again with its spread
    5  evidence of each trace, tempered (`evidence`)

A reward is P(this person would be satisfied with this trace) = σ(quality + leniency). An agent degrades with a named
reason (`notes`), never in silence: without answers asked for at random its scale rests on something else, and says so.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
import polars as pl
from scipy.special import logit

from pipelines.rewards import clicks as click_lists
from pipelines.rewards import measured
from pipelines.rewards.agent_fit import (
    AgentFit,
    agent_loadings,
    contribution_frame,
    delay_frame,
    evidence_frame,
    parameters,
    rate_row,
)
from pipelines.rewards.anchor import Anchor, choose_anchor, design_rate, sensitivity
from pipelines.rewards.evidence import dependence, trace_evidence
from pipelines.rewards.exposure import latest_time, locate, place
from pipelines.rewards.items import AgentData, Builder
from pipelines.rewards.latent import fit_latent
from pipelines.rewards.leniency import ASSUMED_TAU, People, combine, fit_people, spread_of_people
from pipelines.rewards.measured import SIGNALS, TRACES, JudgeQuality, MeasurementConfig, MeasurementFit
from pipelines.rewards.response_models import Array, IntArray
from pipelines.rewards.segment_priors import LEAST_PEOPLE, stated_segments
from pipelines.stats.contract import require

__all__ = ["METHOD", "SIGNALS", "TRACES", "JudgeQuality", "MeasurementConfig", "MeasurementFit", "fit", "sensitivity"]

METHOD = "measurement"
_ROUNDS, _SAME_TAU = 3, 0.05  # τ and the items depend on each other: repeated until ln τ settles
_THREADS = 2  # agents fitted at the same time


def fit(traces: pl.DataFrame, signals: pl.DataFrame, config: MeasurementConfig | None = None) -> MeasurementFit:
    """Fit the measurement models of every agent and weigh the evidence of every trace.

    Args: `traces` (TRACES, `segment` may be absent), one row a trace; `signals` (SIGNALS), all kinds, each with the
    trace that it is about, and impressions and clicks that are about none. `evidence` is in order of agent; traces
    without any are not in it.
    Raises: ContractError for other columns or a repeated trace. Bad values are left out and counted in
    `parameters["excluded"]`; whatever weakens an agent's numbers is in `notes`.
    """
    config = config or MeasurementConfig()
    if "segment" not in traces.columns:
        traces = traces.with_columns(segment=pl.lit(None, dtype=pl.String))
    traces = require(traces, TRACES, "measured traces", not_null=["trace_id"], unique="trace_id")
    signals = require(signals, SIGNALS, "measured signals", not_null=["kind"])
    now = config.now or latest_time(traces, signals)
    placed = place(traces, now)
    stated = stated_segments(placed)
    located, excluded = locate(signals, placed)
    notes = _exclusion_notes(excluded)
    lists = click_lists.impressions(located)
    linked = located.filter(pl.col("row").is_not_null()).partition_by("agent", as_dict=True)
    shown = lists.filter(pl.col("row").is_not_null()).partition_by("agent", as_dict=True)
    parts = [
        (part, linked.get((part["agent"][0],), located.clear()), shown.get((part["agent"][0],), lists.clear()))
        for part in _by_agent(placed)
    ]
    del located, linked, shown
    with ThreadPoolExecutor(_THREADS) as pool:
        agents = list(pool.map(lambda part: _agent(part[0], part[1], part[2], stated, config), parts))
    unlinked = lists.filter(pl.col("row").is_null())
    clicks = [one.clicks for one in agents]
    if unlinked.height:
        fitted, why = click_lists.examine(unlinked, config.level)
        if fitted is None:
            notes.append((None, "clicks_unusable", f"{unlinked.height} impressions of no known trace: {why}."))
        else:
            clicks.append(click_lists.click_rows(None, fitted))
    return _result(agents, placed, clicks, notes, excluded, config, now)


def _by_agent(placed: pl.DataFrame) -> list[pl.DataFrame]:
    """One frame per agent by name, the traces that name none last."""
    parts = placed.partition_by("agent", maintain_order=True)
    return sorted(parts, key=lambda part: (part["agent"][0] is None, part["agent"][0] or ""))


def _agent(
    part: pl.DataFrame, signals: pl.DataFrame, shown: pl.DataFrame, stated: pl.DataFrame, config: MeasurementConfig
) -> AgentFit:
    """Everything about one agent: its traces, their located signals, the lists shown with them; people's segments."""
    rows: IntArray = part["row"].to_numpy()
    at = np.searchsorted(rows, signals["row"].to_numpy()).astype(np.int64)
    users = part["user"].to_numpy()
    own = signals.with_columns(at=pl.Series(at), user=pl.Series(users[at]))
    data = AgentData(part["agent"][0], part, own)
    anchor, notes = choose_anchor(own, config)
    if anchor is None:
        notes.append(("no_signals", f"Nothing said, checked or done fixes a scale for its {part.height} traces."))
        return AgentFit(data, None, notes, pl.DataFrame(schema=measured.CLICKS), [])
    if anchor.note is not None:
        notes.append(anchor.note)
    notes += _people_notes(own)

    rate = float(np.clip(design_rate(anchor.values, config.level).rate, 0.02, 0.98))
    builder = Builder(data, config, float(logit(rate)) * 1.2)
    _anchored(builder, anchor)
    clicks = _listed(builder, shown, rows, config)
    _others(builder, anchor)
    builder.judged(config.judges)
    return _fitted(data, anchor, [*notes, *builder.notes], clicks, builder, stated)


def _anchored(builder: Builder, anchor: Anchor) -> None:
    """The anchor, and other statements of the kind that people volunteer."""
    builder.anchor(anchor.kind, anchor.basis, anchor.values)
    for kind in ("thumb", "rating"):
        volunteered = builder.data.of(kind).filter(~pl.col("solicited").fill_null(False))
        if anchor.kind == kind and anchor.basis == "solicited":
            builder.told(kind, volunteered, anchor.values["at"].unique().to_numpy())
        elif volunteered.height and anchor.kind != kind:
            for (name,), values in builder.data.of(kind).group_by("name", maintain_order=True):
                name = None if name is None else str(name)
                builder.valued(kind, name, values, on="report", group="said", basis="volunteered")
            builder.given(kind, volunteered)


def _listed(builder: Builder, shown: pl.DataFrame, rows: IntArray, config: MeasurementConfig) -> pl.DataFrame:
    """Clicks with examination by position; without impressions a click is an event like others."""
    nothing = pl.DataFrame(schema=measured.CLICKS)
    if shown.is_empty():
        builder.event("click", sign=1.0, by_session=False)
        return nothing
    wrong = shown.filter(~pl.col("propensity").is_between(0.0, 1.0, closed="right"))
    if wrong.height:
        text = f"{wrong.height} impressions state a propensity that is no probability above 0: taken as not drawn."
        builder.notes.append(("propensity_invalid", text))
    fitted, why = click_lists.examine(shown, config.level)
    if fitted is None:
        builder.notes.append(("clicks_unusable", f"Clicks are left out: {why}"))
        return nothing
    if fitted.basis == "model-based":
        text = f"How positions are looked at is estimated by a model, not by randomised positions: {why or 'no draws'}."
        builder.notes.append(("clicks_model_based", text))
    examination = np.full(click_lists.MOST_POSITIONS, float(fitted.examination[-1]))
    examination[fitted.positions - 1] = fitted.examination
    builder.clicks(click_lists.lists(shown, rows), np.minimum(examination, 1.0), str(fitted.basis))
    return click_lists.click_rows(builder.data.agent, fitted)


def _others(builder: Builder, anchor: Anchor) -> None:
    """Behaviour and checks."""
    data = builder.data
    builder.delayed("purchase")
    builder.event("retry", sign=-1.0, by_session=True)
    builder.event("abandon", sign=-1.0, by_session=True)
    builder.event("copy", sign=1.0, by_session=False)
    builder.event("correction", sign=-1.0, by_session=False)
    builder.edits()
    for kind in ("outcome", "annotation"):
        if kind == anchor.kind:
            continue
        coded = (pl.col("annotator_kind") == "code").fill_null(False)
        for basis, keep in (("checked", coded), ("reported", ~coded)):
            for (name,), values in data.of(kind).filter(keep).group_by("name", maintain_order=True):
                name = None if name is None else str(name)
                builder.valued(kind, name, values, on="quality", group=f"{kind} {basis}", basis=basis)


def _fitted(
    data: AgentData, anchor: Anchor, notes: list[tuple[str, str]], clicks: pl.DataFrame, builder: Builder,
    stated: pl.DataFrame,
) -> AgentFit:  # fmt: skip
    """Fit, people, fit again with their spread, and the evidence."""
    users: IntArray = data.traces["user"].to_numpy()
    used = [item for item in builder.items if item.estimated]
    _, cluster = np.unique(users, return_inverse=True)
    cluster = cluster.astype(np.int64)
    said = np.zeros(data.size, dtype=np.int64)
    for item in used:
        if item.on == "report":
            said += (item.states >= 0) & np.concatenate([item.signalled, [False]])[item.states]
    tau = ASSUMED_TAU if said.any() else 0.0
    fitted = fit_latent(used, data.size, cluster, tau, mean=builder.mean, errors=False)
    people = None
    if tau > 0.0:
        spread = spread_of_people(fitted, users, said)
        for _ in range(_ROUNDS):
            if spread.reason == "few_people" or abs(np.log(spread.tau / fitted.tau)) < _SAME_TAU:
                break
            fitted = fit_latent(used, data.size, cluster, spread.tau, mean=builder.mean, start=fitted, errors=False)
            spread = spread_of_people(fitted, users, said, spread)
        tau = spread.tau
    fitted = fit_latent(used, data.size, cluster, tau, mean=builder.mean, start=fitted)
    if tau > 0.0:
        people = fit_people(fitted, users, said, spread, stated)
        notes = notes + _spread_notes(people) + _segment_notes(people, stated)
    if not fitted.converged:
        notes.append(("not_converged", "The fit of the measurement model did not settle: its intervals are unsure."))
    groups = dict(zip((id(item) for item in used), dependence(fitted), strict=True))
    items = tuple(builder.items)
    own = {id(item): fitted.own(index)[0] for index, item in enumerate(used)}
    nothing: Array = np.zeros(0)
    found = trace_evidence(
        items, [own.get(id(item), nothing) for item in items], [groups.get(id(item), item.group) for item in items],
        mean=fitted.mean, sd=fitted.sd, tau=fitted.tau, traces=data.size,
    )  # fmt: skip
    return AgentFit(data, anchor, notes, clicks, builder.delays, fitted, items, found, people)


def _people_notes(signals: pl.DataFrame) -> list[tuple[str, str]]:
    known = signals["user_id"].drop_nulls().n_unique()
    if known == 1:
        return [("single_user", "All signals are about one user: nothing here says how others see this agent.")]
    if known < 20:
        text = f"Signals of {known} known users: standard errors rest on the model, not on differences between users."
        return [("few_users", text)]
    return []


def _spread_notes(people: People) -> list[tuple[str, str]]:
    if people.spread.reason == "few_people":
        text = (
            f"{people.spread.people} people said something more than once: how much leniency differs between people is "
            f"assumed (sd {people.spread.tau:g} logits)."
        )
        return [("leniency_assumed", text)]
    if people.spread.reason == "not_separable":
        return [("leniency_not_separable", "People only say things here: leniency and taste cannot be told apart.")]
    return []


def _segment_notes(people: People, stated: pl.DataFrame) -> list[tuple[str, str]]:
    """What people lean on, where segments are stated at all."""
    own = stated.filter(pl.col("user").is_in(people.user.tolist()))
    if own.is_empty():
        return []
    leaning = int((people.segment >= 0).sum())
    text = (
        f"{leaning} people lean on one of {len(people.segments)} segments, the others on the agent: a segment needs "
        f"{LEAST_PEOPLE} people, and others beside it to differ from. {own['segment'].n_unique()} segments are stated."
    )
    return [("segments", text)]


def _exclusion_notes(excluded: dict[str, int]) -> list[tuple[str | None, str, str]]:
    return [
        (None, "unknown_kind", f"{count} signals of {reason}: this model does not know what they mean.")
        for reason, count in excluded.items()
        if reason.startswith("unknown kind")
    ]


def _result(
    agents: list[AgentFit], placed: pl.DataFrame, clicks: list[pl.DataFrame], notes: list[tuple[str | None, str, str]],
    excluded: dict[str, int], config: MeasurementConfig, now: datetime | None,
) -> MeasurementFit:  # fmt: skip
    notes = notes + [(one.data.agent, reason, text) for one in agents for reason, text in one.notes]
    names = placed.select("user", "user_id").unique("user").sort("user")
    people = [one.people for one in agents if one.people is not None]
    evidence = [evidence_frame(one) for one in agents if one.evidence is not None]
    contributions = [contribution_frame(one) for one in agents if one.evidence is not None]
    fitted = [one for one in agents if one.fit is not None and one.anchor is not None]
    return MeasurementFit(
        evidence=pl.concat(evidence) if evidence else pl.DataFrame(schema=measured.EVIDENCE),
        contributions=pl.concat(contributions) if contributions else pl.DataFrame(schema=measured.CONTRIBUTIONS),
        loadings=pl.concat([pl.DataFrame(schema=measured.LOADINGS), *(agent_loadings(one) for one in fitted)]),
        leniency=combine(people, names["user_id"].to_list()),
        clicks=pl.concat([pl.DataFrame(schema=measured.CLICKS), *clicks]),
        delay=pl.concat([pl.DataFrame(schema=measured.DELAY), *(delay_frame(one, config.level) for one in agents)]),
        anchor_rate=pl.DataFrame(
            [rate_row(one, config.level) for one in fitted], schema=measured.ANCHOR_RATE, orient="row"
        ),
        notes=pl.DataFrame(notes, schema=measured.NOTES, orient="row"),
        parameters={
            "method": METHOD,
            "now": None if now is None else now.isoformat(),
            "excluded": excluded,
            "agents": [parameters(one) for one in fitted],
        },
    )
