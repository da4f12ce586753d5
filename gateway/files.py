"""Files by HTTP: any file that the Data page accepts.

    POST /v1/upload?name=FILE&source=NAME   the bytes of the file    202 {"load_id", "status_url"}
    GET  /v1/upload/{load_id}               how far it is            {"state", "report", ...}

202 means that the file is on disk and will be loaded, also when the server is killed meanwhile.
"""

from dataclasses import asdict

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import bodies
from gateway.access import Access, Caller
from gateway.refusals import refusal
from pipelines.ingest.loads import Loads
from pipelines.ingest.uploads import Upload, Uploads
from pipelines.live.prepare import BodyTooLarge
from store.errors import TrimtabError

# So many bytes are gathered before they are written, to write seldom.
_BLOCK = 1 << 20
_KEYLESS = "this machine, without a key"


class Files:
    """The routes for files; `limit` is the largest file in bytes."""

    def __init__(self, access: Access, uploads: Uploads, loads: Loads, limit: int) -> None:
        self._access = access
        self._uploads = uploads
        self._loads = loads
        self._limit = limit

    async def send(self, request: Request) -> Response:
        """Keep a file and queue it for loading."""
        try:
            caller = self._check(request)
            bodies.stated_length(request, self._limit)
            upload = await self._receive(request, request.query_params.get("name") or "upload")
            source = request.query_params.get("source") or None
            actor = f"key {caller.name}" if caller.key_id is not None else _KEYLESS
            load_id = await to_thread.run_sync(lambda: self._uploads.submit(upload, actor=actor, source=source))
        except TrimtabError as error:
            return refusal(error)
        url = f"/v1/upload/{load_id}"
        return JSONResponse({"load_id": load_id, "status_url": url}, status_code=202, headers={"Location": url})

    async def status(self, request: Request) -> Response:
        """How far the load of a file is."""
        try:
            self._check(request)
        except TrimtabError as error:
            return refusal(error)
        load_id = str(request.path_params["load_id"])
        status = self._loads.status(load_id)
        if status is None:
            text = "No load of this id is known. Loads are forgotten at a restart; their batches are on the Data page."
            return JSONResponse({"error": text}, status_code=404)
        return JSONResponse(
            {
                "load_id": load_id,
                "file": status.file,
                "state": status.state,
                "progress": asdict(status.progress) if status.progress else None,
                "report": asdict(status.report) if status.report else None,
                "error": status.error,
            }
        )

    def _check(self, request: Request) -> Caller:
        return self._access.check(request.headers, request.client.host if request.client else None, "ingest")

    async def _receive(self, request: Request, name: str) -> Upload:
        """The file on disk. Raises: `BodyTooLarge`, `DiskFull`."""
        with self._uploads.receiving(name) as (upload, target):
            waiting: list[bytes] = []
            gathered = total = 0
            async for part in bodies.parts(request):
                waiting.append(part)
                gathered += len(part)
                total += len(part)
                if total > self._limit:
                    raise BodyTooLarge(self._limit, "The file")
                if gathered >= _BLOCK:
                    await to_thread.run_sync(target.write, b"".join(waiting))
                    waiting, gathered = [], 0
            await to_thread.run_sync(target.write, b"".join(waiting))
        return upload
