"""Google's token endpoint and metadata server on the loopback interface, and the credentials that go with them.

Tokens are given as OAuth 2.0 has it: for a JWT that a service account signed (RFC 7523), for a user's refresh token,
and by a machine's metadata server. User credentials name no endpoint: google-auth asks ``https://oauth2.googleapis.com``.
So this is an HTTPS proxy too, which answers in that name.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, urlsplit

import trustme
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

EMAIL = "reader@tests.iam.gserviceaccount.com"
AUDIENCE = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/cloud-healthcare"
REFRESH_TOKEN = "1//refresh-token-of-the-user"
CLIENT_SECRET = "client-secret-of-the-user"
SKEW_SECONDS = 300
"""How far a JWT's times may lie from the endpoint's clock."""

REVOKED = (400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
UNTIMELY = {
    "error": "invalid_grant",
    "error_description": "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim.",
}
UNSIGNED = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}


class TokenEndpoint:
    """Gives ``tokens`` one after the other, the last one for ever.

    ``says`` is what it answers instead, if anything, as status and body; ``hangs`` makes it silent. ``clock_offset`` is
    how many seconds its clock is ahead. Everything can be changed while it runs.
    """

    def __init__(self, lifetime_seconds: float = 3600.0) -> None:
        self.tokens = [f"ya29.token-{number:04}-of-the-tests" for number in range(500)]
        self.lifetime_seconds = lifetime_seconds
        self.says: tuple[int, Any] | None = None
        self.hangs = False
        self.clock_offset = 0.0
        self.asked = 0
        """Requests for a token."""
        self.given: list[str] = []
        self.scopes: list[str] = []
        """That the tokens were asked for with."""
        self.port = 0
        self._released = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listens; on the same port as before, if it did before."""
        endpoint = self
        self._released.clear()

        class Handler(_Handler):
            owner = endpoint

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Listens no more."""
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``"""
        return f"127.0.0.1:{self.port}"

    @cached_property
    def key(self) -> rsa.RSAPrivateKey:
        """The service account's."""
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def authority(self) -> trustme.CA:
        """Who vouches for this being ``oauth2.googleapis.com``."""
        return trustme.CA()

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """In the name of Google."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("oauth2.googleapis.com").configure_cert(context)
        return context

    def service_account(self, path: Path) -> Path:
        """Writes the key file of a service account."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account",
            "project_id": "tests",
            "private_key_id": "key-1",
            "private_key": pem.decode(),
            "client_email": EMAIL,
            "token_uri": f"http://{self.host}/token",
        }
        path.write_text(json.dumps(account))
        return path

    def user(self, path: Path, **more: str) -> Path:
        """Writes what ``gcloud auth application-default login`` leaves behind."""
        account = {
            "type": "authorized_user",
            "client_id": "client-of-the-user.apps.googleusercontent.com",
            "client_secret": CLIENT_SECRET,
            "refresh_token": REFRESH_TOKEN,
        }
        path.write_text(json.dumps(account | more))
        return path

    def secrets(self) -> list[str]:
        """What may stand in no output: every token, and what tokens are had for."""
        return [*self.given, REFRESH_TOKEN, CLIENT_SECRET, "PRIVATE KEY"]

    def answer(self, grant: dict[str, str]) -> tuple[int, Any]:
        """Status and body for a request with these parameters."""
        with self._lock:
            self.asked += 1
        if self.hangs:
            self._released.wait()
        if self.says is not None:
            return self.says
        if (refusal := self._refusal(grant)) is not None:
            return 400, refusal
        with self._lock:
            self.given.append(self.tokens[min(len(self.given), len(self.tokens) - 1)])
            self.scopes.append(grant.get("scope", ""))
            token = {"access_token": self.given[-1], "expires_in": self.lifetime_seconds, "token_type": "Bearer"}
        return 200, token

    def _refusal(self, grant: dict[str, str]) -> dict[str, str] | None:
        if "assertion" in grant:
            return self._untrue(grant)
        if grant.get("grant_type") == "refresh_token":
            known = (grant["refresh_token"], grant["client_secret"]) == (REFRESH_TOKEN, CLIENT_SECRET)
            return None if known else {"error": "invalid_client", "error_description": "Unauthorized"}
        return None if grant.get("machine") else {"error": "unsupported_grant_type"}

    def _untrue(self, grant: dict[str, str]) -> dict[str, str] | None:
        """What is wrong with the JWT (RFC 7519, RFC 7523); leaves its scope in ``grant``."""
        head, claims, signature = grant["assertion"].split(".")
        try:
            self.key.public_key().verify(
                _decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return UNSIGNED
        said, now = json.loads(_decoded(claims)), time.time() + self.clock_offset
        timely = abs(said["iat"] - now) <= SKEW_SECONDS and now - SKEW_SECONDS < said["exp"] <= said["iat"] + 3600
        if not timely:
            return UNTIMELY
        wrong = (said["iss"], said["aud"], said["scope"]) != (EMAIL, AUDIENCE, SCOPE)
        grant["scope"] = said["scope"]
        return {"error": "invalid_scope", "error_description": str(said)} if wrong else None


class _Server(ThreadingHTTPServer):
    block_on_close = False
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked has gone away, which is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ClassVar[TokenEndpoint]

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.connection = self.owner.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        self.connection.close()  # the server closes what was accepted, which TLS may have replaced

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._reply(*self.owner.answer({name: values[0] for name, values in parse_qs(body).items()}))

    def do_GET(self) -> None:
        """The metadata server (https://cloud.google.com/compute/docs/metadata)."""
        path = urlsplit(self.path).path.removeprefix("/computeMetadata/v1")
        if self.headers.get("metadata-flavor") != "Google":
            self._reply(403, "wrong flavor")
        elif path in ("/", ""):
            self._reply(200, "")
        elif path == "/project/project-id":
            self._reply(200, "tests")
        elif path == "/instance/service-accounts/default/":
            self._reply(200, {"email": EMAIL, "scopes": [SCOPE], "aliases": ["default"]})
        elif path == "/instance/service-accounts/default/token":
            self._reply(*self.owner.answer({"machine": "yes", "scope": self.path}))
        else:
            self._reply(404, "no such metadata")

    def _reply(self, status: int, body: Any) -> None:
        payload = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("Metadata-Flavor", "Google")
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nowhere."""


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
