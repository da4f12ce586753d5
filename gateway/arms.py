"""Arms over HTTP, for those who deploy agents; scope admin.

    GET /v1/arms/{agent}          the agent's arms: {"arms": [...]}
    PUT /v1/arms/{agent}/{arm}    define an arm (201) or change it (200); a slash in the arm's name may stand as it is

A PUT states the arm as a whole, but for state and baseline: left out, these stay (a new arm is enabled). 409 says that
the present state does not allow the change.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import bodies
from gateway.access import Access
from gateway.bodies import UnsupportedBody
from gateway.refusals import JSON, refusal
from store import arms
from store.connection import Store
from store.errors import ActionRefused, IngestError, NotFound, TrimtabError

__all__ = ["BODY_LIMIT", "ArmUnreadable", "Arms"]

BODY_LIMIT: Final = 64 << 10
"""The largest body in bytes."""

_FIELDS: Final = ("kind", "definition", "description", "state", "reason", "baseline")
_REASON = "by the API"


class ArmUnreadable(IngestError):
    """A body that states no arm; the text names the field, and what was expected."""

    def __init__(self, field: str, expected: str) -> None:
        self.field, self.expected = field, expected
        super().__init__(f"{field} must be {expected}.")


@dataclass(frozen=True)
class _Stated:
    kind: str
    definition: dict[str, Any]
    description: str | None
    state: str | None
    reason: str
    baseline: bool


class Arms:
    """The routes."""

    def __init__(self, store: Store, access: Access) -> None:
        self._store, self._access = store, access

    async def listed(self, request: Request) -> Response:
        """All arms of an agent, in whatever state."""
        agent = str(request.path_params["agent"])
        try:
            self._check(request)
            found = await to_thread.run_sync(_documents, self._store, agent)
        except TrimtabError as error:
            return _refusal(error)
        if not found:
            return JSONResponse({"error": f"The agent {agent[:200]!r} has no arms."}, status_code=404)
        return JSONResponse({"agent": agent, "arms": found})

    async def put(self, request: Request) -> Response:
        """Define or change an arm."""
        agent, arm = (str(request.path_params[name]) for name in ("agent", "arm"))
        try:
            by = self._check(request)
            bodies.content_type(request, JSON)
            if bodies.encoding(request) != "identity":
                raise UnsupportedBody("Content-Encoding", "gzip", "identity")
            for what, name in (("agent", agent), ("arm", arms.clean_name(arm))):
                if why := arms.unusable(name):
                    raise ArmUnreadable(f"The {what}", f"1 to {arms.MAX_NAME} visible characters: {why}".rstrip("."))
            stated = _read(await bodies.read(request, lambda _: None, BODY_LIMIT))
            new = await to_thread.run_sync(_put, self._store, agent, arm, stated, by)
            found = await to_thread.run_sync(_documents, self._store, agent)
        except TrimtabError as error:
            return _refusal(error)
        name = arms.clean_name(arm)
        return JSONResponse(next(each for each in found if each["arm"] == name), status_code=201 if new else 200)

    def _check(self, request: Request) -> str:
        client = request.client.host if request.client else None
        return self._access.check(request.headers, client, "admin").name


def _put(store: Store, agent: str, arm: str, stated: _Stated, by: str) -> bool:
    """Define or change an arm; returns whether it is new."""
    name = arms.clean_name(arm)
    held = arms.listed(store, agent=agent)
    row = next((row for row in held.to_dicts() if row["arm"] == name), None)
    if row is None:
        arms.define(
            store, agent, name, kind=stated.kind, definition=stated.definition, description=stated.description,
            baseline=stated.baseline, state=stated.state or "enabled", origin="api", by=by,
        )  # fmt: skip
        return True
    arms.change(
        store, agent, name, kind=stated.kind, definition=stated.definition, description=stated.description, by=by
    )
    if stated.state is not None:
        arms.set_state(store, agent, name, stated.state, reason=stated.reason or _REASON, by=by)
    if stated.baseline:
        arms.set_baseline(store, agent, name, by=by)
    return False


def _documents(store: Store, agent: str) -> list[dict[str, Any]]:
    """The agent's arms as JSON can hold them."""
    return [
        {
            **row,
            "definition": json.loads(row["definition"]),
            "created_at": row["created_at"].isoformat(),
            "updated_at": row["updated_at"].isoformat(),
        }
        for row in arms.listed(store, agent=agent).to_dicts()
    ]


def _read(body: bytes) -> _Stated:
    """The arm that a body states. Raises: `ArmUnreadable`."""
    try:
        document = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArmUnreadable("The body", f"a JSON object in UTF-8 ({str(error)[:200]})") from error
    if not isinstance(document, dict):
        raise ArmUnreadable("The body", "a JSON object")
    unknown = sorted(set(document) - set(_FIELDS))
    if unknown:
        raise ArmUnreadable("Every field", f"one of {', '.join(_FIELDS)}; came {unknown[0][:60]!a}")
    kind, definition = document.get("kind"), document.get("definition", {})
    if kind not in arms.KINDS:
        raise ArmUnreadable("kind", f"one of {', '.join(arms.KINDS)}")
    if not isinstance(definition, dict):
        raise ArmUnreadable("definition", "a JSON object")
    state, baseline = document.get("state"), document.get("baseline", False)
    if state is not None and state not in arms.STATES:
        raise ArmUnreadable("state", f"one of {', '.join(arms.STATES)}")
    if not isinstance(baseline, bool):
        raise ArmUnreadable("baseline", "true or false; another arm becomes the baseline by a PUT of its own")
    for field in ("description", "reason"):
        if not isinstance(document.get(field), str | None):
            raise ArmUnreadable(field, "a text")
    return _Stated(kind, definition, document.get("description"), state, document.get("reason") or "", baseline)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _refusal(error: TrimtabError) -> Response:
    match error:
        case ActionRefused():
            return JSONResponse({"error": str(error)}, status_code=409)
        case NotFound():
            return JSONResponse({"error": str(error)}, status_code=404)
        case _:
            return refusal(error)
