"""Lessons that agents propose; scope propose. An agent may teach; an operator decides.

    POST /v1/lessons               propose one: {"lesson_id", "state": "proposed", ...}; 201, or 200 when it is known
    GET  /v1/lessons/{lesson_id}   what became of one, for whoever proposed it

A proposal is checked field by field, and its quotes are looked for in the traces that it names. No field sets a state,
trust or approval. The same proposal again answers the same lesson.
"""

from typing import Any, Final

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import bodies
from gateway.access import Access
from gateway.bodies import UnsupportedBody
from gateway.lesson_proposal import BODY_LIMIT, read_proposal
from gateway.refusals import JSON, refusal
from pipelines.lessons import proposing
from pipelines.lessons.proposing import MOST_WAITING, Proposal
from store import lessons
from store.connection import Store
from store.errors import ActionRefused, NotFound, TrimtabError
from store.lesson_proposals import TooManyWaiting

__all__ = ["Lessons"]

_RETRY_SECONDS: Final = 3600


class Lessons:
    """The routes."""

    def __init__(self, store: Store, access: Access) -> None:
        self._store, self._access = store, access

    async def propose(self, request: Request) -> Response:
        """Take a proposal."""
        try:
            author = self._author(request)
            bodies.content_type(request, JSON)
            if bodies.encoding(request) != "identity":
                raise UnsupportedBody("Content-Encoding", "gzip", "identity")
            proposal = read_proposal(await bodies.read(request, lambda _: None, BODY_LIMIT))
            made = await to_thread.run_sync(self._propose, proposal, author)
            answer = await to_thread.run_sync(self._document, made.lesson_id)
        except TrimtabError as error:
            return _refusal(error)
        return JSONResponse(answer, status_code=201 if made.new else 200)

    async def one(self, request: Request) -> Response:
        """What became of a proposal."""
        lesson_id = str(request.path_params["lesson_id"])
        try:
            author = self._author(request)
            answer = await to_thread.run_sync(self._document, lesson_id, author)
        except TrimtabError as error:
            return _refusal(error)
        return JSONResponse(answer)

    def _author(self, request: Request) -> str:
        """Under which name a caller proposes: never that of an operator."""
        client = request.client.host if request.client else None
        return f"agent key {self._access.check(request.headers, client, 'propose').source}"

    def _propose(self, proposal: Proposal, author: str) -> proposing.Proposed:
        return proposing.propose(self._store, proposal, origin="agent", author=author, most_waiting=MOST_WAITING)

    def _document(self, lesson_id: str, author: str | None = None) -> dict[str, Any]:
        """A lesson as JSON. Raises: `NotFound`, also when somebody else than `author` proposed it."""
        lesson = lessons.one(self._store, lesson_id)
        proposer = lessons.versions(self._store, lesson_id).row(-1, named=True)["author"]
        if lesson["origin"] != "agent" or (author is not None and proposer != author):
            raise NotFound("lesson", lesson_id)
        return {
            **{name: lesson[name] for name in ("lesson_id", "agent", "task", "segment", "state")},
            "reason": lesson["state_reason"],
            "version": lesson["version"],
            "title": lesson["title"],
            "when": lesson["when_text"],
            "when_not": lesson["when_not"],
            "do": lesson["do_text"],
            "why": lesson["why"],
            "proposed_at": lesson["created_at"].isoformat(),
            "updated_at": lesson["updated_at"].isoformat(),
        }


def _refusal(error: TrimtabError) -> Response:
    match error:
        case TooManyWaiting():
            return JSONResponse({"error": str(error)}, status_code=429, headers={"Retry-After": str(_RETRY_SECONDS)})
        case ActionRefused():
            return JSONResponse({"error": str(error)}, status_code=400)
        case NotFound():
            return JSONResponse({"error": str(error)}, status_code=404)
        case _:
            return refusal(error)
