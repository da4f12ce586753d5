"""The other end of the control routes: asks the server that holds the file to do the work."""

import http.client
import json
from collections.abc import Generator
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.ingest.mapping import Mapping
from pipelines.operations import Event
from store.errors import TrimtabError
from store.presence import Presence, read

_CONNECT_SECONDS = 3.0
# The server says something every second while it works.
_SILENCE_SECONDS = 60.0


class ServerError(TrimtabError):
    """The server that holds the file refused or could not do what was asked; the text is the server's."""


def find_server(db: Path) -> "RemoteOperations | None":
    """The server that holds a database file; None when there is none that answers."""
    presence = read(db)
    if presence is None:
        return None
    connection = http.client.HTTPConnection(presence.host, presence.port, timeout=_CONNECT_SECONDS)
    try:
        connection.request("GET", "/control/hello", headers=_headers(presence))
        response = connection.getresponse()
        if response.status != 200 or json.loads(response.read())["pid"] != presence.pid:
            return None
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()
    return RemoteOperations(presence)


class RemoteOperations:
    """Operations on the store of a running server; see `pipelines.operations.Operations`."""

    def __init__(self, presence: Presence) -> None:
        self.presence = presence

    def ingest(self, paths: list[Path], source: str | None, mapping: Mapping | None, operator: str) -> Generator[Event]:
        """Load files one after the other; the server reads them from this machine's disk."""
        body = {
            "paths": [str(path.resolve()) for path in paths],
            "source": source,
            "mapping": mapping.to_json() if mapping else None,
            "operator": operator,
        }
        return self._events("/control/ingest", body)

    def run(self, job: str) -> Generator[Event]:
        """Run a job now."""
        return self._events("/control/run", {"job": job})

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs in order, each with its schedule and its latest run."""
        listed: list[dict[str, Any]] = json.loads(self._whole("GET", "/control/jobs", None))
        return listed

    def sql(self, text: str, timeout: float | None) -> pl.DataFrame:
        """Run one reading statement."""
        silence = None if timeout is None else timeout + _CONNECT_SECONDS
        answer = self._whole("POST", "/control/sql", {"sql": text, "timeout": timeout}, silence)
        return pl.read_ipc_stream(BytesIO(answer))

    def backup(self, path: Path, operator: str) -> dict[str, Any]:
        """Copy the store into a new file."""
        body = {"path": str(path.resolve()), "operator": operator}
        made: dict[str, Any] = json.loads(self._whole("POST", "/control/backup", body, None))
        return made

    def create_key(
        self, scopes: list[str], name: str | None, rate: float | None, burst: int | None, operator: str
    ) -> dict[str, Any]:
        """Make an API key; the answer holds its text as `key`, for this once."""
        body = {"scopes": scopes, "name": name, "rate": rate, "burst": burst, "operator": operator}
        made: dict[str, Any] = json.loads(self._whole("POST", "/control/keys", body))
        return made

    def keys(self) -> list[dict[str, Any]]:
        """All API keys, newest first, without their secrets."""
        listed: list[dict[str, Any]] = json.loads(self._whole("GET", "/control/keys", None))
        return listed

    def revoke_key(self, key_id: str, operator: str) -> dict[str, Any]:
        """Put an API key out of force; the server refuses it from then on."""
        body = {"key_id": key_id, "operator": operator}
        revoked: dict[str, Any] = json.loads(self._whole("POST", "/control/keys/revoke", body))
        return revoked

    def draft_preview(self, agent: str | None, task: str | None) -> dict[str, Any]:
        """What asking the model for lessons would say and cost."""
        shown: dict[str, Any] = json.loads(
            self._whole("POST", "/control/draft-preview", {"agent": agent, "task": task})
        )
        return shown

    def graduate(self, action: str, told: dict[str, Any]) -> dict[str, Any]:
        """An action of graduation, done by the server."""
        # An export reads and redacts thousands of traces before it answers.
        answer = self._whole("POST", "/control/graduate", {"action": action, "told": told}, None)
        done: dict[str, Any] = json.loads(answer)
        return done

    def privacy(self, action: str, told: dict[str, Any]) -> dict[str, Any]:
        """An action on a person's data or the audit log, done by the server."""
        # Forgetting reads every text and writes the file anew before it answers.
        answer = self._whole("POST", "/control/privacy", {"action": action, "told": told}, None)
        done: dict[str, Any] = json.loads(answer)
        return done

    def _events(self, path: str, body: dict[str, Any]) -> Generator[Event]:
        """The events of a stream. Raises: `ServerError` when the stream breaks off before its end."""
        connection = self._connection(_SILENCE_SECONDS)
        try:
            response = self._ask(connection, "POST", path, body)
            for line in response:
                event: Event = json.loads(line)
                if event["event"] == "error":
                    raise ServerError(str(event["error"]))
                if event["event"] == "end":
                    return
                yield event
            raise ServerError(f"The server (process {self.presence.pid}) ended before the work did.")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken(error) from error
        finally:
            connection.close()

    def _whole(
        self, method: str, path: str, body: dict[str, Any] | None, silence: float | None = _SILENCE_SECONDS
    ) -> bytes:
        connection = self._connection(silence)
        try:
            return self._ask(connection, method, path, body).read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken(error) from error
        finally:
            connection.close()

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: dict[str, Any] | None
    ) -> http.client.HTTPResponse:
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, path, body=content, headers=_headers(self.presence))
        response = connection.getresponse()
        if response.status != 200:
            raise ServerError(str(json.loads(response.read())["error"]))
        return response

    def _connection(self, timeout: float | None) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.presence.host, self.presence.port, timeout=timeout)

    def _broken(self, error: Exception) -> ServerError:
        return ServerError(f"The server (process {self.presence.pid}) that holds the file does not answer: {error}.")


def _headers(presence: Presence) -> dict[str, str]:
    return {"Authorization": f"Bearer {presence.token}", "Content-Type": "application/json"}
