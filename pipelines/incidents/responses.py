"""Responses to a finding or an incident: which ones fit, what each would change, and doing it."""

from collections.abc import Mapping
from typing import Any, Final

from pipelines.drift.metrics import PREFERENCE
from pipelines.exploration import bounds as limits_of_rates
from pipelines.exploration.bounds import RATE_WITHOUT_DECISION
from pipelines.lessons.review import render
from store import drift_responses, exploration, lessons, never_explore, preferences, response_previews, users
from store.connection import Store
from store.drift_events import REWARD, STATED
from store.drift_responses import Response
from store.errors import NotFound

__all__ = ["apply", "for_finding", "for_incident", "preview", "undo"]

_DAYS: Final = 14
_ASK: Final = 5.0  # times the usual share of decisions in which feedback is asked for
_LEAST_ASKED: Final = 0.1
_LEAST_RAISE: Final = 0.05


def for_finding(store: Store, finding: Mapping[str, Any]) -> tuple[Response, ...]:
    """What fits a finding on a user, the most fitting first; nothing for other levels, which make incidents.

    Args: `finding` as a row of `store.drift.FINDINGS`.
    """
    if finding["level"] != "user":
        return ()
    user, name, at = finding["user_id"], finding["metric"], finding["changed_at"]
    reason = f"{name} of {user} changed"
    common = {"reason": reason, "user_id": user, "metric": name}
    agents = response_previews.agents_with_arms(store, user_id=user)
    fitting = []
    if agents and not _never(store, agents[0], user, finding["segment"]):
        fitting.append(
            Response("explore", agent=agents[0], rate=_raised(store, agents[0], user, None), days=_DAYS, **common)
        )
    if at is not None and (name.startswith(PREFERENCE) or preferences.user_weights(store, user).height):
        fitting.append(Response("restart preferences", since=at, **common))
    if agents or (finding["agent"] is not None):
        agent = finding["agent"] or agents[0]
        fitting.append(Response("ask", agent=agent, rate=_asked(store, agent), days=_DAYS, **common))
    if name.startswith(PREFERENCE):
        fitting.sort(key=lambda one: one.action != "restart preferences")
    elif name in (REWARD, STATED):
        fitting.sort(key=lambda one: one.action != "explore")
    return tuple(fitting)


def for_incident(store: Store, incident: Mapping[str, Any]) -> tuple[Response, ...]:
    """What fits an incident, the most fitting first.

    Args: `incident` as `store.incidents.one` gives it.
    """
    segment, detail = incident["segment"], incident["cause_detail"]
    common = {
        "reason": incident["title"], "incident_id": incident["incident_id"],
        "metric": incident["metrics"][0] if incident["metrics"] else None,
    }  # fmt: skip
    fitting = []
    if segment is not None:
        suspected = [
            one["name"] for one in detail.get("suspects", ()) if one["cause"] == "lesson" and one["lower"] > 0.0
        ]
        for coincidence in detail.get("coincidences", ()):
            parts = (coincidence.get("intervention_id") or "").split(":")
            if parts[0] == "lesson":
                suspected.append(parts[1])
        for lesson_id in dict.fromkeys(suspected):
            if _is_served(store, lesson_id):
                fitting.append(Response("pause lesson", segment=segment, lesson_id=lesson_id, days=_DAYS, **common))
    agents = [incident["agent"]] if incident["agent"] else []
    agents = agents or (response_previews.agents_with_arms(store, segment=segment) if segment else [])
    for agent in agents[:1]:
        ask = Response("ask", agent=agent, segment=segment, rate=_asked(store, agent), days=_DAYS, **common)
        fitting.append(ask)
        if segment is not None and agent in response_previews.agents_with_arms(store, segment=segment):
            rate = _raised(store, agent, None, segment)
            fitting.append(Response("explore", agent=agent, segment=segment, rate=rate, days=_DAYS, **common))
    return tuple(fitting)


def preview(store: Store, response: Response) -> dict[str, Any]:
    """What a response would change: `text` in words, and its numbers (counts of the last 14 days, rates, users)."""
    match response.action:
        case "explore" if _never(store, str(response.agent), response.user_id, response.segment):
            whom = response.user_id or f"segment {response.segment}"
            text = f"Nothing, as long as {whom} is on the list of those that {response.agent} is never explored with."
            return {"text": text, "before": 0.0, "after": 0.0, "more_a_day": 0.0}
        case "explore":
            return _preview_rate(store, response, *_rates(store, response), "tries another arm than the best one")
        case "ask":
            return _preview_rate(store, response, *_shares(store, response), "asks for feedback")
        case "restart preferences":
            return _preview_restart(store, response)
        case _:
            return _preview_pause(store, response)


def apply(store: Store, response: Response, *, operator: str, rule_id: str | None = None) -> int:
    """Do it; returns the response's number. Raises: as `store.drift_responses.apply`."""
    told = preview(store, response)
    return drift_responses.apply(store, response, told, operator=operator, render=render, rule_id=rule_id)


def undo(store: Store, response_id: int, *, operator: str, reason: str) -> None:
    """Take a response back. Raises: as `store.drift_responses.undo`."""
    drift_responses.undo(store, response_id, operator=operator, reason=reason, render=render)


def _raised(store: Store, agent: str, user_id: str | None, segment: str | None) -> float:
    """Twice the rate in force, or .05 more, within the cap."""
    now, cap = _rate(store, agent, user_id, segment)
    return round(min(max(2.0 * now, now + _LEAST_RAISE), cap), 4) or _LEAST_RAISE


def _asked(store: Store, agent: str) -> float:
    usual = limits_of_rates.of_agent(exploration.bounds(store, agent)).solicit_rate
    return round(min(max(_ASK * usual, _LEAST_ASKED), 1.0), 4)


def _rate(store: Store, agent: str, user_id: str | None, segment: str | None) -> tuple[float, float]:
    """The exploration rate in force of a user or segment, and the cap that holds for it."""
    rates = {(scope, unit): rate for scope, unit, rate in exploration.applied_rates(store, agent).iter_rows()}
    raised = drift_responses.raised(store, agent).filter(action="explore")
    least = {(scope, unit): rate for scope, unit, rate in raised.select("scope", "unit", "rate").iter_rows()}
    bounds = exploration.bounds(store, agent)
    if user_id is not None and segment is None:
        segment = _segment_of(store, user_id)
    whole = rates.get(("agent", ""), RATE_WITHOUT_DECISION)
    rate = whole if segment is None else rates.get(("segment", segment), whole)
    if user_id is not None:
        rate = max(rates.get(("user", user_id), rate), least.get(("user", user_id), 0.0))
        cap = float(limits_of_rates.of_users(bounds, [user_id], [segment]).cap[0])
    else:
        rate = max(rate, least.get(("segment", str(segment)), 0.0))
        cap = float(limits_of_rates.of_segments(bounds, [str(segment)]).cap[0])
    return min(rate, cap), cap


def _never(store: Store, agent: str, user_id: str | None, segment: str | None) -> bool:
    """Whether operators listed a user or segment as never to be explored with."""
    listed = never_explore.listed(store, agent).select("kind", "unit").rows()
    return ("user", user_id) in listed or ("segment", segment) in listed


def _segment_of(store: Store, user_id: str) -> str | None:
    try:
        segment: str | None = users.one(store, user_id)["segment"][0]
    except NotFound:  # of whom the store holds neither a trace nor a signal
        return None
    return segment


def _rates(store: Store, response: Response) -> tuple[float, float]:
    now, cap = _rate(store, str(response.agent), response.user_id, response.segment)
    return now, max(now, min(response.rate or 0.0, cap))


def _shares(store: Store, response: Response) -> tuple[float, float]:
    usual = limits_of_rates.of_agent(exploration.bounds(store, str(response.agent))).solicit_rate
    raised = drift_responses.raised(store, str(response.agent)).filter(action="ask")
    units = {("agent", ""), ("user", response.user_id), ("segment", response.segment)}
    held = [rate for scope, unit, rate in raised.select("scope", "unit", "rate").iter_rows() if (scope, unit) in units]
    now = max([usual, *held])
    return now, max(now, response.rate or 0.0)


def _preview_rate(store: Store, response: Response, now: float, then: float, does: str) -> dict[str, Any]:
    counted = response_previews.traffic(store, agent=response.agent, user_id=response.user_id, segment=response.segment)
    more = (then - now) * counted.a_day
    whom = response.user_id or (f"segment {response.segment}" if response.segment else "everybody")
    text = (
        f"{response.agent} {does} in up to {then:.1%} of the decisions for {whom} instead of {now:.1%}, for "
        f"{response.days} days: with {counted.a_day:.1f} decisions a day that is about {more:.1f} more a day."
    )
    return {
        "text": text, "before": now, "after": then, "decisions_a_day": counted.a_day, "users": counted.users,
        "more_a_day": more,
    }  # fmt: skip


def _preview_restart(store: Store, response: Response) -> dict[str, Any]:
    since = response.since or store.clock.now()
    counted = response_previews.preference_evidence(store, str(response.user_id), since)
    text = (
        f"What {response.user_id} chose and said before {since:%Y-%m-%d %H:%M} UTC counts no more: "
        f"{counted['lists_before']:,} lists and {counted['statements_before']:,} statements. Their preferences begin "
        f"anew with their segment's, and {counted['lists_after']:,} lists and {counted['statements_after']:,} "
        "statements since then."
    )
    return {"text": text, **counted}


def _preview_pause(store: Store, response: Response) -> dict[str, Any]:
    own, everybody = response_previews.lesson_traffic(store, str(response.lesson_id), str(response.segment))
    lesson = lessons.one(store, str(response.lesson_id))
    until = f"for {response.days} days" if response.days is not None else "until it is taken back"
    text = (
        f'Decisions for segment {response.segment} go without "{lesson["title"]}" {until}: {own:,} of the '
        f"{everybody:,} that were served it in the last {response_previews.DAYS} days. Agents that read the playbook "
        "as one block do not get it at all."
    )
    return {"text": text, "decisions": own, "of": everybody, "decisions_a_day": own / response_previews.DAYS}


def _is_served(store: Store, lesson_id: str) -> bool:
    return bool(lessons.one(store, lesson_id)["state"] in ("canary", "active"))
