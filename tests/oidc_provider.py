"""An OpenID provider on this machine: discovery, a page that asks who one is, tokens signed with RS256, keys, sign-out.

It believes whatever address is typed. The claims of the next tokens can be changed, as a provider may have them.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "trimtab-tests", "a secret of the client"


class Provider(ThreadingHTTPServer):
    """The provider; `claims` are put over those of the next tokens, `signing` signs them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.key = RSAKey.generate_key(2048, parameters={"kid": "one"})
        self.signing = self.key
        self.claims: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.issued = 0

    @property
    def issuer(self) -> str:
        """The provider's address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def metadata_url(self) -> str:
        """Where it describes itself."""
        return f"{self.issuer}/.well-known/openid-configuration"

    def token(self, asked: dict[str, str]) -> dict[str, Any]:
        """The answer to a code that was given out for what was `asked`."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT, "sub": hashlib.sha256(asked["email"].encode()).hexdigest()[:16],
            "email": asked["email"], "email_verified": True, "iat": now, "exp": now + 600, "nonce": asked["nonce"],
        } | self.claims  # fmt: skip
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.signing)
        self.issued += 1
        return {"access_token": secrets.token_hex(8), "token_type": "Bearer", "expires_in": 600, "id_token": signed}


@contextmanager
def running() -> Iterator[Provider]:
    """A provider that answers until the end of the block."""
    provider = Provider()
    threading.Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield provider
    finally:
        provider.shutdown()
        provider.server_close()


class _Answers(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/.well-known/openid-configuration":
            self._json(self._metadata())
        elif parts.path == "/keys":
            self._json({"keys": [self.server.key.as_dict(private=False, alg="RS256", use="sig")]})
        elif parts.path == "/authorize":
            hidden = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in asked.items())
            self._send(
                200,
                f'<title>Provider</title><form action="/come"><input name="email" aria-label="Address">{hidden}'
                "<button>Come in</button></form>",
                "text/html",
            )
        elif parts.path == "/come" and asked["client_id"] == CLIENT:
            code = secrets.token_hex(8)
            self.server.codes[code] = asked
            self._redirect(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")
        elif parts.path == "/leave":
            self._redirect(asked["post_logout_redirect_uri"])
        else:
            self._send(404, "", "text/plain")

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        given = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
        known = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        asked = self.server.codes.pop(given.get("code", ""), None)
        if self.headers.get("authorization") != f"Basic {known}" or asked is None or not _proves(given, asked):
            self._send(401, json.dumps({"error": "invalid_client"}), "application/json")
            return
        self._json(self.server.token(asked))

    def _metadata(self) -> dict[str, Any]:
        issuer = self.server.issuer
        return {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/keys",
            "end_session_endpoint": f"{issuer}/leave",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }

    def _json(self, content: dict[str, Any]) -> None:
        self._send(200, json.dumps(content), "application/json")

    def _redirect(self, place: str) -> None:
        self.send_response(302)
        self.send_header("Location", place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, status: int, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _proves(given: dict[str, str], asked: dict[str, str]) -> bool:
    """Whether whoever brings the code is who asked for it (RFC 7636, S256)."""
    digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
