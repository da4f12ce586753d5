"""The OpenAPI document of the gateway, at /v1/openapi.json. Its examples are sent to the routes by the tests."""

from dataclasses import fields
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import lesson_proposal
from gateway.steer_question import LONGEST, MOST_ARMS
from pipelines.ingest.layout_columns import ANNOTATOR_KIND_WORDS, SIGNAL_KIND_WORDS, SIGNALS, ColumnType
from pipelines.steering.policy import Limits
from store.arms import KINDS, STATES
from store.version import code_version

_TYPES: Final[dict[ColumnType, dict[str, Any]]] = {
    ColumnType.NUMBER: {"type": "number"},
    ColumnType.POSITION: {"type": "integer", "minimum": 1},
    ColumnType.PROPENSITY: {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    ColumnType.BOOLEAN: {"type": "boolean"},
    ColumnType.TIME: {"type": "string", "format": "date-time"},
    ColumnType.JSON_OBJECT: {"type": "object"},
    ColumnType.SIGNAL_KIND: {"type": "string", "enum": list(SIGNAL_KIND_WORDS)},
    ColumnType.ANNOTATOR_KIND: {"type": "string", "enum": list(ANNOTATOR_KIND_WORDS)},
}

_SIGNAL: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["kind"],
    "additionalProperties": True,
    "properties": {
        column.name: {**_TYPES.get(column.type, {"type": "string"}), "description": column.description}
        for column in SIGNALS
    },
}

EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "/v1/traces": {
        "one model call": {
            "resourceSpans": [
                {
                    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "support-bot"}}]},
                    "scopeSpans": [
                        {
                            "spans": [
                                {
                                    "traceId": "5b8efff798038103d269b633813fc60c",
                                    "spanId": "eee19b7ec3c1b174",
                                    "name": "chat",
                                    "startTimeUnixNano": "1790000000000000000",
                                    "endTimeUnixNano": "1790000001500000000",
                                    "attributes": [
                                        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                                        {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-5"}},
                                        {"key": "input.value", "value": {"stringValue": "Where is my order?"}},
                                        {"key": "output.value", "value": {"stringValue": "It ships today."}},
                                        {"key": "user.id", "value": {"stringValue": "user-7"}},
                                    ],
                                    "status": {"code": 1},
                                }
                            ]
                        }
                    ],
                }
            ]
        }
    },
    "/v1/signals": {
        "a thumb": {
            "signal_id": "thumb-1",
            "trace_id": "5b8efff798038103d269b633813fc60c",
            "user_id": "user-7",
            "kind": "thumb",
            "value": 1,
            "annotator_kind": "user",
            "occurred_at": "2026-09-21T12:00:00Z",
        },
        "clicks on what was shown": [
            {
                "signal_id": "shown-1",
                "session_id": "visit-3",
                "user_id": "user-7",
                "kind": "impression",
                "item": "sku-1",
                "position": 1,
                "propensity": 0.5,
                "occurred_at": "2026-09-21T12:00:00Z",
            },
            {
                "signal_id": "click-1",
                "session_id": "visit-3",
                "user_id": "user-7",
                "kind": "click",
                "item": "sku-1",
                "position": 1,
                "occurred_at": "2026-09-21T12:00:05Z",
            },
        ],
        "a rating that was asked for": {
            "signal_id": "rating-1",
            "trace_id": "5b8efff798038103d269b633813fc60c",
            "kind": "rating",
            "value": 0.75,
            "solicited": True,
            "propensity": 0.1,
            "annotator_kind": "user",
        },
    },
    "/v1/steer": {
        "before acting": {
            "agent": "support-bot",
            "user_id": "user-7",
            "session_id": "visit-3",
            "task": "refund",
            "input": "Where is my order?",
        },
        "an agent that can run some arms only": {"agent": "support-bot", "arms": ["baseline", "short answers"]},
    },
}

_LIMITS: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What the agent must not do; null and empty mean no limit.",
    "required": [each.name for each in fields(Limits)],
    "properties": {
        **{
            name: {"type": "array", "items": {"type": "string"}}
            for name in ("off_limits_tools", "off_limits_sites", "off_limits_actions")
        },
        **{
            name: {"type": ["number", "null"], "minimum": 0}
            for name in ("min_delay_seconds", "max_actions_per_minute", "max_spend_usd")
        },
    },
}

_QUESTION: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["agent"],
    "properties": {
        "agent": {"type": "string", "minLength": 1, "maxLength": LONGEST},
        "user_id": {"type": ["string", "null"], "maxLength": LONGEST},
        "session_id": {
            "type": ["string", "null"],
            "maxLength": LONGEST,
            "description": "A session keeps its arm; without one every decision is drawn by itself.",
        },
        "task": {"type": ["string", "null"], "maxLength": LONGEST},
        "input": {"description": "The request at hand, any JSON: lessons are matched with it. Only its hash is kept."},
        "arms": {
            "type": ["array", "null"],
            "items": {"type": "string", "maxLength": LONGEST},
            "maxItems": MOST_ARMS,
            "description": "The only arms that the agent can run now.",
        },
    },
}

_PROBABILITY: Final[dict[str, Any]] = {"type": "number", "minimum": 0, "maximum": 1}

_DECISION: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "decision_id": {"type": "string", "description": "Put it on the trace as steer.decision_id."},
        "policy_version": {"type": "integer", "description": "That the arm was drawn by; of a session, its first."},
        "arm": {"type": "string"},
        "explore": {"type": "boolean", "description": "It is not the arm with the highest expected reward."},
        "propensity": {**_PROBABILITY, "description": "With which this arm was drawn."},
        "propensities": {
            "type": "object",
            "description": "Of every arm that could be drawn; they sum to 1.",
            "additionalProperties": _PROBABILITY,
        },
        "rate": {**_PROBABILITY, "description": "The probability of leaving the arm with the highest reward."},
        "sticky": {"type": "boolean", "description": "Repeats the arm of an earlier decision of the session."},
        "solicit": {"type": "boolean", "description": "Ask the person for explicit feedback, and mark it solicited."},
        "solicit_propensity": {**_PROBABILITY, "description": "With which `solicit` was drawn to be true."},
        "note": {"type": ["string", "null"], "description": "What was unusual."},
        "definition": {"type": "object", "description": "What running the arm takes, as an operator defined it."},
        "lessons": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Ids of those in `instructions`. Put them on the trace as steer.lesson.ids.",
        },
        "instructions": {
            "type": "string",
            "description": 'The lessons for this request, for the prompt; "" where none were chosen or all withheld.',
        },
        "lesson_set_hash": {"type": ["string", "null"], "description": "Of `lessons` and `instructions`; null: none."},
        "playbook_version": {
            "type": ["integer", "null"],
            "description": "Of the playbook that they were chosen from; null: the agent has none.",
        },
        "limits": {"$ref": "#/components/schemas/Limits"},
        "ttl_s": {"type": "number", "description": "So long may the answer be reused when no other can be had."},
    },
}
_DECISION["required"] = list(_DECISION["properties"])

_POLICY: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["agent", "version", "built_at", "age_s", "arms", "rate", "limits", "problem"],
    "properties": {
        "agent": {"type": "string"},
        "version": {"type": "integer"},
        "built_at": {"type": "string", "format": "date-time"},
        "age_s": {"type": "number"},
        "arms": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["arm", "kind", "state", "baseline", "definition", "mean", "sd", "n", "limits"],
                "properties": {
                    "arm": {"type": "string"},
                    "state": {
                        "type": "string",
                        "enum": list(STATES),
                        "description": "off: the baseline, nothing enabled.",
                    },
                    "mean": {"type": "number", "description": "Of the posterior of the arm's mean reward."},
                    "sd": {"type": "number", "exclusiveMinimum": 0},
                    "n": {"type": "integer"},
                    "limits": {"$ref": "#/components/schemas/Limits"},
                },
            },
        },
        "rate": _PROBABILITY,
        "limits": {"$ref": "#/components/schemas/Limits"},
        "problem": {
            "type": ["object", "null"],
            "description": "Why a newer version is not in force.",
            "properties": {"text": {"type": "string"}, "since": {"type": "string", "format": "date-time"}},
        },
    },
}


_STATED_ARM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["kind"],
    "additionalProperties": False,
    "properties": {
        "kind": {"type": "string", "enum": list(KINDS)},
        "definition": {"type": "object", "description": "What the agent needs to run it; sent with each decision."},
        "description": {"type": ["string", "null"]},
        "state": {"type": "string", "enum": list(STATES), "description": "Left out: as it is; a new arm is enabled."},
        "reason": {"type": ["string", "null"], "description": "Why it is in this state."},
        "baseline": {"type": "boolean", "description": "true makes it the baseline in place of the present one."},
    },
}

_ARM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["agent", "arm", "kind", "state", "baseline", "definition", "origin", "created_at", "updated_at"],
    "properties": {
        **{name: {"type": "string"} for name in ("agent", "arm", "origin", "state_by")},
        "kind": {"type": "string", "enum": list(KINDS)},
        "state": {"type": "string", "enum": list(STATES)},
        "baseline": {"type": "boolean"},
        "definition": {"type": "object"},
        "description": {"type": ["string", "null"]},
        "state_reason": {"type": ["string", "null"]},
        "created_at": {"type": "string", "format": "date-time"},
        "updated_at": {"type": "string", "format": "date-time"},
    },
}


async def document(request: Request) -> Response:
    """The OpenAPI document, with the address it was asked at."""
    return JSONResponse(openapi(str(request.base_url).rstrip("/")))


def openapi(server: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a gateway at this address."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Trimtab gateway",
            "version": code_version(),
            "description": "Data from agents, of which 200 means that it is on disk; and steering for them.",
        },
        "servers": [{"url": server}],
        "security": [{"bearer": []}, {"key": []}],
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {
                "Signal": _SIGNAL,
                "Question": _QUESTION,
                "Decision": _DECISION,
                "Policy": _POLICY,
                "Limits": _LIMITS,
                "Arm": _ARM,
                "Lesson": lesson_proposal.DOCUMENTED["lesson"],
                "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
            },
            "responses": {
                str(status): {
                    "description": text,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                }
                for status, text in _ERRORS.items()
            },
        },
        "paths": {
            "/v1/traces": {"post": _traces()},
            "/v1/signals": {"post": _signals()},
            "/v1/upload": {"post": _upload()},
            "/v1/upload/{load_id}": {"get": _upload_status()},
            "/v1/steer": {"post": _steer()},
            "/v1/policies/{agent}": {"get": _policy()},
            "/v1/playbooks/{agent}": {"get": _playbook()},
            "/v1/arms/{agent}": {"get": _arms()},
            "/v1/arms/{agent}/{arm}": {"put": _put_arm()},
            "/v1/lessons": {"post": _propose()},
            "/v1/lessons/{lesson_id}": {"get": _lesson()},
            "/healthz": {"get": {**_plain("The process answers."), "security": []}},
            "/readyz": {"get": {**_plain("The store can be read and takes data; else 503."), "security": []}},
            "/metrics": {"get": _plain("Figures as Prometheus text; for this machine, else scope admin.")},
        },
    }


_ERRORS: Final = {
    400: "The request as a whole cannot be read.",
    401: "No key, or one that is not in force.",
    403: "The key lacks the scope.",
    413: "The body is too large.",
    415: "The Content-Type or Content-Encoding is not taken.",
    429: "Too much waits, or the key's rate is used up: send it again after Retry-After seconds.",
    503: "It cannot be stored now (a full disk, a stop): send it again after Retry-After seconds.",
}


def _errors() -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in _ERRORS}


def _examples(path: str) -> dict[str, Any]:
    return {name: {"value": value} for name, value in EXAMPLES[path].items()}


def _traces() -> dict[str, Any]:
    body = {"schema": {"type": "object"}, "examples": _examples("/v1/traces")}
    binary = {"schema": {"type": "string", "format": "binary", "description": "ExportTraceServiceRequest"}}
    answer = {"schema": {"type": "object", "properties": {"partialSuccess": {"type": "object"}}}}
    return {
        "summary": "Spans by OTLP/HTTP; scope ingest",
        "requestBody": {"content": {"application/json": body, "application/x-protobuf": binary}},
        "responses": {
            "200": {
                "description": "Committed; partialSuccess names what was not taken.",
                "content": {"application/json": answer},
            },
            **_errors(),
        },
    }


def _signals() -> dict[str, Any]:
    one = {"$ref": "#/components/schemas/Signal"}
    answer = {
        "type": "object",
        "properties": {"accepted": {"type": "integer"}, "rejected": {"type": "array", "items": {"type": "object"}}},
    }
    return {
        "summary": "One signal or an array of them; scope ingest",
        "requestBody": {
            "content": {
                "application/json": {
                    "schema": {"oneOf": [one, {"type": "array", "items": one}]},
                    "examples": _examples("/v1/signals"),
                }
            }
        },
        "responses": {
            "200": {"description": "Committed.", "content": {"application/json": {"schema": answer}}},
            **_errors(),
        },
    }


def _upload() -> dict[str, Any]:
    return {
        "summary": "A file that the Data page accepts; scope ingest",
        "parameters": [_query("name", "The file's name for people."), _query("source", "Where it comes from.")],
        "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        "responses": {"202": {"description": "On disk; it is loaded next."}, **_errors()},
    }


def _upload_status() -> dict[str, Any]:
    path = {"name": "load_id", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "summary": "How far the load of a file is; scope ingest",
        "parameters": [path],
        "responses": {"200": {"description": "State, progress and report."}, "404": {"description": "Not known."}},
    }


def _steer() -> dict[str, Any]:
    return {
        "summary": "Which arm to run now, and what goes with it; scope steer",
        "requestBody": {
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Question"},
                    "examples": _examples("/v1/steer"),
                }
            }
        },
        "responses": {
            "200": {
                "description": "Decided and logged. Any other answer: run what the agent runs by default.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Decision"}}},
            },
            "404": {
                "description": "There is no policy for the agent.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
            **_errors(),
        },
    }


def _policy() -> dict[str, Any]:
    return {
        "summary": "The policy in force of an agent; scope steer",
        "parameters": [_AGENT, _HELD],
        "responses": {
            "200": {
                "description": "With an ETag.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Policy"}}},
            },
            "304": {"description": "As the client has it."},
            "404": {"description": "There is none."},
            **_errors(),
        },
    }


def _playbook() -> dict[str, Any]:
    return {
        "summary": "The lessons in force of an agent, as one block of text; scope steer",
        "parameters": [_AGENT, _HELD],
        "responses": {
            "200": {
                "description": "With an ETag.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            },
            "304": {"description": "As the client has it."},
            "404": {"description": "There is none."},
            **_errors(),
        },
    }


def _arms() -> dict[str, Any]:
    listed = {
        "type": "object",
        "properties": {"arms": {"type": "array", "items": {"$ref": "#/components/schemas/Arm"}}},
    }
    return {
        "summary": "All arms of an agent, in whatever state; scope admin",
        "parameters": [_AGENT],
        "responses": {
            "200": {"description": "Its arms.", "content": {"application/json": {"schema": listed}}},
            "404": {"description": "It has none."},
            **_errors(),
        },
    }


def _put_arm() -> dict[str, Any]:
    held = {"application/json": {"schema": {"$ref": "#/components/schemas/Arm"}}}
    path = {"name": "arm", "in": "path", "required": True, "schema": {"type": "string"}}
    example = {
        "kind": "prompt", "definition": {"prompt_version": "v5"}, "description": "Short answers", "state": "shadow",
    }  # fmt: skip
    return {
        "summary": "Define an arm or change it; scope admin",
        "parameters": [_AGENT, path],
        "requestBody": {"content": {"application/json": {"schema": _STATED_ARM, "example": example}}},
        "responses": {
            "200": {"description": "Changed.", "content": held},
            "201": {"description": "Defined.", "content": held},
            "409": {"description": "What is there does not allow it; the text says why and what to do."},
            **_errors(),
        },
    }


def _propose() -> dict[str, Any]:
    held = {"application/json": {"schema": {"$ref": "#/components/schemas/Lesson"}}}
    stated = {"schema": lesson_proposal.DOCUMENTED["proposal"], "example": lesson_proposal.DOCUMENTED["example"]}
    return {
        "summary": "Propose a lesson, which waits for an operator; scope propose",
        "requestBody": {"content": {"application/json": stated}},
        "responses": {
            "200": {"description": "The same was proposed before; this is what became of it.", "content": held},
            "201": {"description": "It waits for an operator.", "content": held},
            **_errors(),
        },
    }


def _lesson() -> dict[str, Any]:
    held = {"application/json": {"schema": {"$ref": "#/components/schemas/Lesson"}}}
    path = {"name": "lesson_id", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "summary": "What became of a lesson that this key proposed; scope propose",
        "parameters": [path],
        "responses": {
            "200": {"description": "The lesson as it is now.", "content": held},
            "404": {"description": "This key proposed no such lesson."},
            **_errors(),
        },
    }


_AGENT: Final = {"name": "agent", "in": "path", "required": True, "schema": {"type": "string"}}
_HELD: Final = {
    "name": "If-None-Match", "in": "header", "required": False, "description": "The ETag of what the client has.",
    "schema": {"type": "string"},
}  # fmt: skip


def _query(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}


def _plain(text: str) -> dict[str, Any]:
    return {"summary": text, "responses": {"200": {"description": text}}}
