"""Answering `POST /v1/steer`: the request checked, decided, and its decision taken to be logged.

It needs no store and waits for nothing, so it works in the process that has the store as well as in one of its own.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import bodies
from gateway.bodies import UnsupportedBody
from gateway.key_ring import KeyRing, KeyUse
from gateway.refusals import JSON, refusal
from gateway.steer_question import BODY_LIMIT, read_question
from pipelines.steering.answer import answer
from pipelines.steering.decide import Counts, Decider, Decision, PoliciesUnread, UnknownAgent
from store.errors import TrimtabError

__all__ = ["Deciding", "Figures", "refused"]

_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class Figures:
    """What was asked since the start: decisions, refused questions by status, requests that were refused by what was
    wrong with their key, what keys did, and the worst-case regret of the day by agent."""

    counts: Counts = field(default_factory=lambda: Counts(0, 0, 0, 0, 0, 0))
    refused: dict[int, int] = field(default_factory=dict)
    access_refused: dict[str, int] = field(default_factory=dict)
    keys: dict[str, KeyUse] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)

    def after(self, earlier: "Figures") -> "Figures":
        """With what an earlier process had counted; sessions and regret are held by the later one."""
        mine, before = self.counts, earlier.counts
        return Figures(
            Counts(
                mine.decisions + before.decisions, mine.explored + before.explored, mine.sticky + before.sticky,
                mine.held_back + before.held_back, mine.unknown + before.unknown, mine.sessions,
            ),
            dict(Counter(self.refused) + Counter(earlier.refused)),
            dict(Counter(self.access_refused) + Counter(earlier.access_refused)),
            {
                key: self.keys[key].plus(earlier.keys.get(key)) if key in self.keys else earlier.keys[key]
                for key in self.keys.keys() | earlier.keys.keys()
            },
            self.spent,
        )  # fmt: skip


class Deciding:
    """Answers questions. Any thread may ask for the figures."""

    def __init__(self, keys: KeyRing, decider: Decider, take: Callable[[Decision], None]) -> None:
        """`take` has a decision logged, without waiting. Raises: what it raises answers the question."""
        self._keys, self.decider, self._take = keys, decider, take
        self._refused: Counter[int] = Counter()

    async def respond(self, request: Request) -> Response:
        """The answer to one question."""
        try:
            caller = self._keys.check(request.headers, request.client.host if request.client else None, "steer")
            bodies.content_type(request, JSON)
            if bodies.encoding(request) != "identity":
                raise UnsupportedBody("Content-Encoding", "gzip", "identity")
            question = read_question(await bodies.read(request, lambda _: None, BODY_LIMIT))
            decided = self.decider.decide(question, caller.source)
            self._take(decided.decision)
        except TrimtabError as error:
            answered = refused(error)
            self._refused[answered.status_code] += 1
            return answered
        return Response(answer(decided), media_type=JSON, headers=_NO_STORE)

    def figures(self, agents: list[str]) -> Figures:
        """The present figures, the regret of these agents among them."""
        return Figures(
            self.decider.counts(), dict(self._refused), self._keys.refused(), self._keys.use(),
            {agent: self.decider.spent(agent) for agent in agents},
        )  # fmt: skip


def refused(error: TrimtabError) -> Response:
    """The answer where an error was the outcome."""
    match error:
        case UnknownAgent():
            return JSONResponse({"error": str(error)}, status_code=404)
        case PoliciesUnread():
            return JSONResponse({"error": str(error)}, status_code=503, headers={"Retry-After": "5"})
        case _:
            return refusal(error)
