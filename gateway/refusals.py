"""Errors as HTTP answers: which status, which headers, and the text that says what to do."""

from google.protobuf.json_format import MessageToJson
from google.rpc.status_pb2 import Status
from starlette.responses import JSONResponse, Response

from gateway.access import AccessRefused
from gateway.bodies import UnsupportedBody
from pipelines.live.intake import Busy
from pipelines.live.prepare import BodyTooLarge
from pipelines.live.preparer import DecoderLost
from store.errors import DiskFull, IngestError, MemoryExhausted, StoreClosed, TrimtabError

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

# gRPC's codes, which the Status message of OTLP carries.
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 413: 8, 415: 3, 429: 8, 500: 13, 503: 14}


def status_of(error: TrimtabError) -> tuple[int, dict[str, str]]:
    """The status and headers by which an error is answered.

    503 and 429 tell a client to send the same again later; the others tell it not to.
    """
    match error:
        case AccessRefused():
            return error.status, error.headers
        case Busy():
            return 429, {"Retry-After": str(error.retry_after)}
        case BodyTooLarge():
            return 413, {}
        case UnsupportedBody():
            return 415, {}
        case DiskFull():
            return 503, {"Retry-After": "30"}
        case MemoryExhausted():
            return 503, {"Retry-After": "5"}
        case StoreClosed() | DecoderLost():
            return 503, {"Retry-After": "2"}
        case IngestError():
            return 400, {}
        case _:
            return 500, {}


def refusal(error: TrimtabError) -> Response:
    """The answer to a request that was not taken: {"error": text}."""
    status, headers = status_of(error)
    return JSONResponse({"error": str(error)}, status_code=status, headers=headers)


def otlp_refusal(error: TrimtabError, media: str) -> Response:
    """As `refusal`, as the Status message that OTLP clients read, in the media type of their request."""
    status, headers = status_of(error)
    message = Status(code=_CODES.get(status, 2), message=str(error))
    if media == PROTOBUF:
        return Response(message.SerializeToString(), status_code=status, headers=headers, media_type=PROTOBUF)
    return Response(MessageToJson(message, indent=None), status_code=status, headers=headers, media_type=JSON)
