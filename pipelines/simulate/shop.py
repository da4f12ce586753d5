"""The shop assistant's steps: look up the profile, search the catalogue, check stock, recommend up to five products."""

import numpy as np

from pipelines.simulate.agents import AGENTS, SHOP
from pipelines.simulate.answers import APOLOGY, CHANGED_OPENER, SLOW, item_lines
from pipelines.simulate.arrays import Bools, Ints
from pipelines.simulate.catalogue import OCCASIONS, STAPLES, VARIANTS
from pipelines.simulate.outcomes import World
from pipelines.simulate.population import SEGMENTS
from pipelines.simulate.requests import Requests
from pipelines.simulate.rollouts import Rollouts
from pipelines.simulate.script import (
    Call,
    Script,
    Slot,
    answer_message,
    call_message,
    dumps,
    opening,
    result_messages,
)

__all__ = ["SEARCH_ERROR", "item_id", "item_price", "write_shop"]

ROOT, PROFILE, PLAN, SEARCH, SEARCH_2, SEARCH_3, PRODUCT, STOCK, ANSWER = range(9)
_SLOTS = (
    Slot("agent", "shop-assistant", 0.0),
    Slot("retriever", "load_profile", 35.0),
    Slot("llm", "chat", 900.0),
    Slot("tool", "search_catalog", 240.0),
    Slot("tool", "search_catalog", 240.0),
    Slot("tool", "search_catalog", 240.0),
    Slot("tool", "get_product", 90.0),
    Slot("tool", "check_stock", 130.0),
    Slot("llm", "chat", 1500.0),
)
SEARCH_ERROR = '{"error": "503 upstream unavailable"}'


def item_id(staple: int, variant: int) -> str:
    """Id of a product."""
    return f"{STAPLES[staple].code}-{variant + 1:02d}"


def item_price(staple: int, variant: int) -> float:
    """Price of a product in euros."""
    return round(STAPLES[staple].price * VARIANTS[variant].price_factor, 2)


def _presence(world: World, rollouts: Rollouts, rows: Ints, decoy: Bools) -> tuple[Bools, Bools, Ints]:
    cause, causes = rollouts.outcomes.cause[rows], world.causes
    environment, failed = rollouts.outcomes.environment_error[rows], rollouts.outcomes.failed[rows]
    repeated = cause == causes.index("repeated_search")
    skipped = cause == causes.index("skipped_stock_check")
    present = np.ones((len(rows), len(_SLOTS)), bool)
    present[:, SEARCH_2] = repeated | environment
    present[:, SEARCH_3] = repeated
    present[:, PRODUCT] = decoy & ~failed
    present[:, STOCK] = ~skipped & ~failed
    errored = np.zeros_like(present)
    errored[:, SEARCH] = environment
    errored[:, SEARCH_2] = failed
    errored[:, ROOT] = failed
    mistake = np.full(len(rows), -1)
    mistake[repeated] = SEARCH_2
    mistake[cause == causes.index("price_as_text")] = SEARCH
    mistake[skipped] = ANSWER
    return present, errored, mistake.astype(np.int64)


def write_shop(world: World, rollouts: Rollouts, requests: Requests, rng: np.random.Generator) -> Script:
    """Write the steps of all the shop assistant's traces."""
    rows = np.flatnonzero(rollouts.context.agent == SHOP)
    agent, outcomes = AGENTS[SHOP], rollouts.outcomes
    decoy = rng.random(len(rows)) < agent.decoy.rate
    present, errored, mistake = _presence(world, rollouts, rows, decoy)
    as_text = world.causes.index("price_as_text")
    tasks, people = world.tasks, world.people
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
        rollouts.slates.variant[rows].tolist(),
        rollouts.slate_features[rows][:, :, :2].tolist(),
        outcomes.model_changed[rows].tolist(),
        outcomes.environment_error[rows].tolist(),
        outcomes.failed[rows].tolist(),
        (rollouts.previous[rows] >= 0).tolist(),
        present.tolist(),
        strict=True,
    )
    for at, row in enumerate(columns):
        i, staple, occasion, cause, prompt, user, variants, style, changed, slow, failed, follows, has = row
        noun, budget, request = STAPLES[staple].noun, requests.budget[i], requests.text[i]
        offers = [VARIANTS[v] for v in variants]
        names = [f"{offer.label} {noun}" for offer in offers]
        prices = [item_price(staple, v) for v in variants]
        limit = f'"about {budget} euros"' if cause == as_text else str(budget)
        found = ", ".join(
            f'{{"id": "{item_id(staple, v)}", "name": "{name}", "price": {price}, "cheapness": {offer.features[0]}, '
            f'"novelty": {offer.features[1]}, "health": {offer.features[2]}}}'
            for v, name, price, offer in zip(variants, names, prices, offers, strict=True)
        )
        warning = ', "warnings": ["max_price ignored: not a number"]' if cause == as_text else ""
        search = Call(
            SEARCH,
            "search_catalog",
            f'{{"query": "{noun}", "occasion": "{OCCASIONS[occasion].key}", "max_price": {limit}}}',
            f'{{"items": [{found}]{warning}}}',
        )
        again = Call(SEARCH_2, search.tool, search.arguments, SEARCH_ERROR if failed else search.result)
        third = Call(SEARCH_3, search.tool, search.arguments, search.result)
        first = Call(SEARCH, search.tool, search.arguments, SEARCH_ERROR) if slow else search
        sku = item_id(staple, variants[0])
        product = Call(
            PRODUCT,
            "get_product",
            f'{{"id": "{sku}"}}',
            f'{{"id": "{sku}", "name": "{names[0]}", "price": {prices[0]}}}',
        )
        stock = Call(
            STOCK,
            "check_stock",
            f'{{"category": "{noun}", "store": "online"}}',
            "{" + ", ".join(f'"{item_id(staple, v)}": {4 + 3 * v}' for v in variants) + "}",
        )
        calls = [call for call in (first, again, third, product, stock) if has[call.slot]]
        if failed:
            answer = APOLOGY
        else:
            answer = (
                f"{CHANGED_OPENER if changed else ''}"
                f"Here are {len(names)} ideas for {noun} {OCCASIONS[occasion].words}:\n"
                f"{item_lines(offers, names, prices, style)}\nAll of them are in stock.{SLOW if slow else ''}"
            )
        history = (requests.text[i - 1], answers[-1]) if follows else None
        start = opening(agent.prompts[prompt].system, history, request)
        planned = call_message(calls)
        inputs[at, [ROOT, PLAN, ANSWER]] = request, start + "]", f"{start}, {planned}{result_messages(calls)}]"
        outputs[at, [ROOT, PLAN, ANSWER]] = answer, planned, answer_message(answer)
        inputs[at, PROFILE] = f'{{"user_id": "{people.user_id[user]}"}}'
        outputs[at, PROFILE] = dumps({"plan": people.plan[user], "segment": SEGMENTS[people.segment[user]].name})
        for call in calls:
            inputs[at, call.slot], outputs[at, call.slot] = call.arguments, call.result
        answers.append(answer)
    return Script(_SLOTS, rows, present, errored, inputs, outputs, mistake, answers)
