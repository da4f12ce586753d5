"""What agents send: traces by OTLP, and signals.

    POST /v1/traces    an ExportTraceServiceRequest in protobuf or JSON
    POST /v1/signals   one signal, or an array of them, in JSON

200 means that everything taken is on disk; parts that were not taken are named in the answer.
"""

import asyncio

from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import bodies
from gateway.access import Access
from gateway.refusals import JSON, PROTOBUF, otlp_refusal, refusal
from pipelines.live.intake import LiveIntake
from pipelines.live.prepare import Body, Prepared
from pipelines.live.preparer import Preparer
from pipelines.otel.wire import Refused
from store.errors import TrimtabError

# How many refused parts an answer names.
_NAMED = 20


class Ingest:
    """The routes that take data."""

    def __init__(self, access: Access, intake: LiveIntake, preparer: Preparer) -> None:
        self._access = access
        self._intake = intake
        self._preparer = preparer

    async def traces(self, request: Request) -> Response:
        """Take spans."""
        media = PROTOBUF
        try:
            media = bodies.content_type(request, PROTOBUF, JSON)
            prepared = await self._take(request, "otlp-json" if media == JSON else "otlp-protobuf")
        except TrimtabError as error:
            return otlp_refusal(error, media)
        answer = ExportTraceServiceResponse()
        if prepared.refused:
            answer.partial_success.rejected_spans = len(prepared.refused)
            answer.partial_success.error_message = _named(prepared.refused)
        if media == JSON:
            return Response(MessageToJson(answer, indent=None), media_type=JSON)
        return Response(answer.SerializeToString(), media_type=PROTOBUF)

    async def signals(self, request: Request) -> Response:
        """Take signals."""
        try:
            bodies.content_type(request, JSON)
            prepared = await self._take(request, "signals")
        except TrimtabError as error:
            return refusal(error)
        taken = prepared.received - len(prepared.refused)
        rejected = [{"where": each.where, "reason": each.reason} for each in prepared.refused]
        body = {"accepted": taken, "rejected": rejected}
        if rejected and not taken:
            return JSONResponse({"error": rejected[0]["reason"], **body}, status_code=400)
        return JSONResponse(body)

    async def _take(self, request: Request, kind: Body) -> Prepared:
        """Read, decode and store a request; returns what it held once that is on disk. Raises: `TrimtabError`."""
        client = request.client.host if request.client else None
        caller = self._access.check(request.headers, client, "ingest")
        encoding = bodies.encoding(request)
        with self._intake.admitted(bodies.stated_length(request)) as room:
            body = await bodies.read(request, room)
            prepared = await self._preparer.prepare(
                body, kind, encoding, caller.source, self._intake.redaction(caller.source)
            )
            del body
            room(prepared.size)
            if prepared.received:
                await asyncio.wrap_future(self._intake.submit(caller.source, prepared))
            return prepared


def _named(refused: list[Refused]) -> str:
    """The refused parts by place and reason, as far as an answer holds them."""
    texts = [f"{each.where}: {each.reason}" for each in refused[:_NAMED]]
    if len(refused) > _NAMED:
        texts.append(f"and {len(refused) - _NAMED:,} more")
    return " | ".join(texts)
