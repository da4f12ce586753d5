"""The support desk's steps: route the request, look up the order or the help centre, verify and refund, answer."""

import numpy as np

from pipelines.simulate.agents import AGENTS, KINDS, SUPPORT
from pipelines.simulate.answers import APOLOGY, CHANGED_OPENER, SLOW
from pipelines.simulate.arrays import Bools, Ints
from pipelines.simulate.intents import INTENTS
from pipelines.simulate.outcomes import World
from pipelines.simulate.requests import Requests
from pipelines.simulate.rollouts import Rollouts
from pipelines.simulate.script import Call, Script, Slot, answer_message, call_message, dumps, opening, result_messages

__all__ = ["write_support"]

ROOT, ROUTE, PLAN, ORDER, ORDER_2, ARTICLES, EMBED, ARTICLES_2, ARTICLES_3, TRACK, VERIFY, REFUND, NOTE, ANSWER = range(
    14
)
_SLOTS = (
    Slot("agent", "support-desk", 0.0),
    Slot("chain", "route_request", 12.0),
    Slot("llm", "chat", 800.0),
    Slot("tool", "get_order", 160.0),
    Slot("tool", "get_order", 160.0),
    Slot("retriever", "search_articles", 280.0),
    Slot("embedding", "embed_query", 90.0, parent=ARTICLES),
    Slot("retriever", "search_articles", 280.0),
    Slot("retriever", "search_articles", 280.0),
    Slot("tool", "track_parcel", 220.0),
    Slot("tool", "verify_identity", 190.0),
    Slot("tool", "issue_refund", 340.0),
    Slot("tool", "add_note", 45.0),
    Slot("llm", "chat", 1200.0),
)
_ERROR = '{"error": "504 gateway timeout"}'
_FRIENDLY = " Let me know if you need anything else, I am glad to look into it for you."
_REASON = " This follows from our terms, which apply to every order in the same way."


def _presence(world: World, rollouts: Rollouts, rows: Ints, decoy: Bools) -> tuple[Bools, Bools, Ints]:
    kind = world.tasks.kind[rollouts.context.task[rows]]
    refund, order, policy = (kind == KINDS.index(name) for name in ("refund", "order", "policy"))
    cause, causes = rollouts.outcomes.cause[rows], world.causes
    environment, failed = rollouts.outcomes.environment_error[rows], rollouts.outcomes.failed[rows]
    unverified = cause == causes.index("refund_without_identity")
    repeated = cause == causes.index("repeated_lookup")
    unread = cause == causes.index("answer_without_article")
    misplaced = cause == causes.index("articles_for_order")
    present = np.ones((len(rows), len(_SLOTS)), bool)
    present[:, ORDER] = refund | (order & ~misplaced)
    present[:, ORDER_2] = present[:, ORDER] & environment
    present[:, ARTICLES] = (policy & ~unread) | misplaced
    present[:, EMBED] = present[:, ARTICLES]
    present[:, ARTICLES_2] = repeated | (policy & environment)
    present[:, ARTICLES_3] = repeated
    present[:, TRACK] = order & ~misplaced & ~failed
    present[:, VERIFY] = refund & ~unverified & ~failed
    present[:, REFUND] = refund & ~failed
    present[:, NOTE] = decoy & ~failed
    errored = np.zeros_like(present)
    errored[:, ORDER] = present[:, ORDER_2]
    errored[:, ORDER_2] = present[:, ORDER_2] & failed
    errored[:, ARTICLES] = policy & environment
    errored[:, ARTICLES_2] = policy & failed
    errored[:, ROOT] = failed
    mistake = np.full(len(rows), -1)
    mistake[unverified] = REFUND
    mistake[repeated] = ARTICLES_2
    mistake[unread] = ANSWER
    mistake[misplaced] = ARTICLES
    return present, errored, mistake.astype(np.int64)


def write_support(world: World, rollouts: Rollouts, requests: Requests, rng: np.random.Generator) -> Script:
    """Write the steps of all the support desk's traces."""
    rows = np.flatnonzero(rollouts.context.agent == SUPPORT)
    agent, outcomes, tasks = AGENTS[SUPPORT], rollouts.outcomes, world.tasks
    present, errored, mistake = _presence(world, rollouts, rows, rng.random(len(rows)) < agent.decoy.rate)
    misplaced = world.causes.index("articles_for_order")
    inputs = np.empty(present.shape, dtype=np.object_)
    outputs = np.empty(present.shape, dtype=np.object_)
    answers: list[str] = []
    columns = zip(
        rows.tolist(),
        tasks.subject[rollouts.context.task[rows]].tolist(),
        outcomes.cause[rows].tolist(),
        world.arms.prompt[outcomes.arm[rows]].tolist(),
        outcomes.features[rows, :2].tolist(),
        outcomes.model_changed[rows].tolist(),
        outcomes.environment_error[rows].tolist(),
        outcomes.failed[rows].tolist(),
        (rollouts.previous[rows] >= 0).tolist(),
        errored.tolist(),
        present.tolist(),
        strict=True,
    )
    for at, (i, subject, cause, prompt, style, changed, slow, failed, follows, wrong, has) in enumerate(columns):
        intent, request = INTENTS[subject], requests.text[i]
        order, product = requests.order[i], requests.product[i]
        by_order = f'{{"order_id": "{order}"}}'
        placed = f'{{"order_id": "{order}", "status": "delivered", "items": ["{product}", "oat milk"], "total": 34.8}}'
        query = f'{{"query": "{intent.topic}", "limit": 3}}'
        article = dumps({"articles": [{"title": intent.topic.capitalize(), "text": intent.answer}]})
        found = '{"articles": []}' if cause == misplaced else article
        results = {
            ORDER: ("get_order", by_order, placed),
            ORDER_2: ("get_order", by_order, placed),
            ARTICLES: ("search_articles", query, found),
            ARTICLES_2: ("search_articles", query, found),
            ARTICLES_3: ("search_articles", query, found),
            TRACK: ("track_parcel", by_order, '{"carrier": "Postline", "last_scan": "depot", "eta_days": 1}'),
            VERIFY: ("verify_identity", f'{{"order_id": "{order}", "method": "e-mail code"}}', '{"verified": true}'),
            REFUND: (
                "issue_refund",
                f'{{"order_id": "{order}", "reason": "{intent.topic}"}}',
                f'{{"refund_id": "R{i:06d}", "status": "issued"}}',
            ),
            NOTE: ("add_note", f'{{"order_id": "{order}", "note": "{intent.topic}"}}', '{"saved": true}'),
        }
        calls = [
            Call(slot, tool, arguments, _ERROR if wrong[slot] else result)
            for slot, (tool, arguments, result) in results.items()
            if has[slot]
        ]
        if failed:
            answer = APOLOGY
        else:
            body = intent.answer.format(order=order, product=product) + (_REASON if style[1] > 0.1 else "")
            body += _FRIENDLY if style[0] < 0.0 else ""
            answer = f"{CHANGED_OPENER if changed else ''}{body}{SLOW if slow else ''}"
        history = (requests.text[i - 1], answers[-1]) if follows else None
        start = opening(agent.prompts[prompt].system, history, request)
        planned = call_message(calls) if calls else answer_message("No lookup needed.")
        told = f"{start}, {planned}{result_messages(calls)}" if calls else start
        inputs[at, [ROOT, PLAN, ANSWER]] = request, start + "]", told + "]"
        outputs[at, [ROOT, PLAN, ANSWER]] = answer, planned, answer_message(answer)
        inputs[at, ROUTE], outputs[at, ROUTE] = request, f'{{"route": "{intent.kind}"}}'
        inputs[at, EMBED] = intent.topic
        for call in calls:
            inputs[at, call.slot], outputs[at, call.slot] = call.arguments, call.result
        answers.append(answer)
    return Script(_SLOTS, rows, present, errored, inputs, outputs, mistake, answers)
