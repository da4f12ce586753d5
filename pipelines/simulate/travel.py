"""The travel desk's steps: search trips, choose one, check availability, hold it within the limit, show the others."""

import numpy as np

from pipelines.simulate.agents import AGENTS, TRAVEL
from pipelines.simulate.answers import APOLOGY, CHANGED_OPENER, SLOW, item_lines
from pipelines.simulate.arrays import Bools, Ints
from pipelines.simulate.catalogue import OFFERS, PURPOSES, ROUTES
from pipelines.simulate.outcomes import World
from pipelines.simulate.requests import Requests, long_date
from pipelines.simulate.rollouts import Rollouts
from pipelines.simulate.script import Call, Script, Slot, answer_message, call_message, opening, result_messages
from pipelines.simulate.slates import OFFER_SLOTS

__all__ = ["offer_id", "offer_price", "write_travel"]

ROOT, PLAN, SEARCH, SEARCH_2, CONVERT, CHOOSE, CHECK, LIMIT, BOOK, LATE_CHECK, ANSWER = range(11)
_SLOTS = (
    Slot("agent", "travel-desk", 0.0),
    Slot("llm", "chat", 800.0),
    Slot("tool", "search_trips", 650.0),
    Slot("tool", "search_trips", 650.0),
    Slot("tool", "convert_currency", 60.0),
    Slot("llm", "chat", 900.0),
    Slot("tool", "check_availability", 310.0),
    Slot("guardrail", "spending_limit", 8.0),
    Slot("tool", "book_trip", 520.0),
    Slot("tool", "check_availability", 310.0),
    Slot("llm", "chat", 1500.0),
)
_LATE_CHECK_SHARE = 0.3  # of bookings without a check before, those that check afterwards
_ERROR = '{"error": "502 supplier did not answer"}'


def offer_id(route: int, variant: int) -> str:
    """Id of an offer."""
    return f"{ROUTES[route].code}-{variant + 1:02d}"


def offer_price(route: int, variant: int) -> float:
    """Price of an offer in euros a person."""
    return round(ROUTES[route].price * OFFERS[variant].price_factor, 2)


def _presence(world: World, rollouts: Rollouts, rows: Ints, decoy: Bools, late: Bools) -> tuple[Bools, Bools, Ints]:
    cause, causes = rollouts.outcomes.cause[rows], world.causes
    environment, failed = rollouts.outcomes.environment_error[rows], rollouts.outcomes.failed[rows]
    unchecked = cause == causes.index("book_without_availability")
    ignored = cause == causes.index("ignored_tool_error")
    present = np.ones((len(rows), len(_SLOTS)), bool)
    present[:, SEARCH_2] = environment
    present[:, CONVERT] = decoy & ~failed
    present[:, [CHOOSE, LIMIT, BOOK]] = ~failed[:, None]
    present[:, CHECK] = ~unchecked & ~failed
    present[:, LATE_CHECK] = unchecked & late
    errored = np.zeros_like(present)
    errored[:, SEARCH] = environment
    errored[:, SEARCH_2] = failed
    errored[:, BOOK] = ignored
    errored[:, ROOT] = failed
    mistake = np.full(len(rows), -1)
    mistake[unchecked] = BOOK
    mistake[cause == causes.index("date_as_text")] = SEARCH
    mistake[ignored] = ANSWER
    return present, errored, mistake.astype(np.int64)


def write_travel(world: World, rollouts: Rollouts, requests: Requests, rng: np.random.Generator) -> Script:
    """Write the steps of all the travel desk's traces."""
    rows = np.flatnonzero(rollouts.context.agent == TRAVEL)
    agent, outcomes, tasks = AGENTS[TRAVEL], rollouts.outcomes, world.tasks
    decoy = rng.random(len(rows)) < agent.decoy.rate
    late = rng.random(len(rows)) < _LATE_CHECK_SHARE
    present, errored, mistake = _presence(world, rollouts, rows, decoy, late)
    as_text = world.causes.index("date_as_text")
    ignored = world.causes.index("ignored_tool_error")
    inputs = np.empty(present.shape, dtype=np.object_)
    outputs = np.empty(present.shape, dtype=np.object_)
    answers: list[str] = []
    columns = zip(
        rows.tolist(),
        tasks.subject[rollouts.context.task[rows]].tolist(),
        tasks.occasion[rollouts.context.task[rows]].tolist(),
        outcomes.cause[rows].tolist(),
        world.arms.prompt[outcomes.arm[rows]].tolist(),
        rollouts.context.user[rows].tolist(),
        rollouts.slates.variant[rows][:, :OFFER_SLOTS].tolist(),
        rollouts.slate_features[rows][:, :OFFER_SLOTS, :2].tolist(),
        outcomes.model_changed[rows].tolist(),
        outcomes.environment_error[rows].tolist(),
        outcomes.failed[rows].tolist(),
        (rollouts.previous[rows] >= 0).tolist(),
        present.tolist(),
        strict=True,
    )
    for at, row in enumerate(columns):
        i, route, purpose, cause, prompt, user, variants, style, changed, slow, failed, follows, has = row
        city, request, day = ROUTES[route].city, requests.text[i], requests.departure[i]
        offers = [OFFERS[v] for v in variants]
        prices = [offer_price(route, v) for v in variants]
        found = ", ".join(
            f'{{"offer_id": "{offer_id(route, v)}", "title": "{offer.label}", "price": {price}, '
            f'"cheapness": {offer.features[0]}, "novelty": {offer.features[1]}, "health": {offer.features[2]}}}'
            for v, price, offer in zip(variants, prices, offers, strict=True)
        )
        written = long_date(day) if cause == as_text else day.isoformat()
        warning = ', "warnings": ["date not understood, using today"]' if cause == as_text else ""
        where = f'{{"destination": "{city}", "date": "{written}", "purpose": "{PURPOSES[purpose].key}"}}'
        result = f'{{"offers": [{found}]{warning}}}'
        searches = [
            Call(SEARCH, "search_trips", where, _ERROR if slow else result),
            Call(SEARCH_2, "search_trips", where, _ERROR if failed else result),
        ]
        best, price = offer_id(route, variants[0]), prices[0]
        checked = f'{{"offer_id": "{best}", "available": true}}'
        later = [
            Call(
                CONVERT, "convert_currency", f'{{"amount": {price}, "to": "GBP"}}', f'{{"amount": {price * 0.86:.2f}}}'
            ),
            Call(CHECK, "check_availability", f'{{"offer_id": "{best}"}}', checked),
            Call(
                BOOK,
                "book_trip",
                f'{{"offer_id": "{best}", "traveller": "{world.people.first_name[user]}", "hold_hours": 24}}',
                _ERROR if cause == ignored else f'{{"hold": "H{i:06d}", "expires_in_hours": 24}}',
            ),
            Call(LATE_CHECK, "check_availability", f'{{"offer_id": "{best}"}}', checked),
        ]
        searches = [call for call in searches if has[call.slot]]
        later = [call for call in later if has[call.slot]]
        if failed:
            answer = APOLOGY
        else:
            answer = (
                f"{CHANGED_OPENER if changed else ''}I found {len(offers)} ways to {city} {PURPOSES[purpose].words}, "
                f"from {long_date(day)}:\n{item_lines(offers, [o.label for o in offers], prices, style)}\n"
                f"I have put a free 24-hour hold on option 1; choose another if you prefer.{SLOW if slow else ''}"
            )
        history = (requests.text[i - 1], answers[-1]) if follows else None
        start = opening(agent.prompts[prompt].system, history, request)
        planned = call_message(searches[:1])
        told = f"{start}, {planned}{result_messages(searches[-1:]).replace(f'call_{SEARCH_2}', f'call_{SEARCH}')}"
        chosen = call_message(later, "Option 1 fits best.") if later else ""
        inputs[at, [ROOT, PLAN, CHOOSE]] = request, start + "]", told + "]"
        outputs[at, [ROOT, PLAN, CHOOSE]] = answer, planned, chosen
        inputs[at, ANSWER] = f"{told}, {chosen}{result_messages(later)}]" if later else told + "]"
        outputs[at, ANSWER] = answer_message(answer)
        inputs[at, LIMIT], outputs[at, LIMIT] = f'{{"amount": {price}}}', '{"within_limit": true}'
        for call in searches + later:
            inputs[at, call.slot], outputs[at, call.slot] = call.arguments, call.result
        answers.append(answer)
    return Script(_SLOTS, rows, present, errored, inputs, outputs, mistake, answers)
