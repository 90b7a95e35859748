"""A model at one endpoint, over HTTP.

tritonclient writes and reads the bodies. Its own connections belong to one thread each, read without bound, and know
no deadline but that of a single wait; so those of Python's library carry them.
"""

from __future__ import annotations

import http.client
import ssl
from threading import Lock
from typing import Any, Final
from urllib.parse import quote

from lcve_deploy.artifact.names import INPUT, OUTPUT
from lcve_deploy.errors import (
    DeadlineError,
    DeniedError,
    LcveError,
    SessionError,
    UnavailableError,
)
from lcve_deploy.files.reading import MAX_JSON_BYTES
from lcve_deploy.libraries.requiring import require
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.protocol.stubs import config_messages, messages
from lcve_deploy.remote.address import Address
from lcve_deploy.remote.bodies import read_answer, read_description, read_words
from lcve_deploy.remote.connection import Connection, Reply
from lcve_deploy.remote.faults import Fault, http_fault
from lcve_deploy.remote.options import RemoteOptions
from lcve_deploy.remote.tls import tls_context
from lcve_deploy.remote.token import Token
from lcve_deploy.remote.transport import MAX_RESPONSE_BYTES, LogitsReply, Request, countdown

__all__ = ["HttpTransport"]

_OK: Final = 200
_SUFFERED: Final[tuple[tuple[type[Exception], type[LcveError]], ...]] = (
    (SessionError, SessionError),
    (TimeoutError, DeadlineError),
    (ssl.SSLEOFError, UnavailableError),
    (ssl.SSLZeroReturnError, UnavailableError),
    (ssl.SSLError, DeniedError),
    (http.client.RemoteDisconnected, UnavailableError),
    (http.client.IncompleteRead, UnavailableError),
    (http.client.HTTPException, SessionError),
)
"""The first that fits counts; anything else is a server that is away."""


class HttpTransport:
    """Connections to one endpoint, kept open: one for each request under way.

    Args:
        address: of the model.
        endpoint: one of the address.
        options: of the session.
        token: sent with every request.

    Raises:
        DeniedError: certificates that cannot be used.
        MissingDependencyError: tritonclient is not installed.
    """

    def __init__(self, address: Address, endpoint: str, options: RemoteOptions, token: Token) -> None:
        self._http = _library()
        self._endpoint, self._token = endpoint, token
        self._context = tls_context(options) if address.scheme.encrypted else None
        version = f"/versions/{address.version}" if address.version else ""
        self._path = f"/v2/models/{quote(address.model, safe='')}{version}"
        self._lock, self._idle, self._closed = Lock(), list[Connection](), False

    def describe(self, seconds: float) -> tuple[Any, Any]:
        """What the server says of the model."""
        left = countdown(seconds)
        metadata = self._description(messages().ModelMetadataResponse(), "", left())
        return metadata, self._description(config_messages().ModelConfig(), "/config", left())

    def infer(self, request: Request, *, classes: int, seconds: float) -> LogitsReply:
        """Answer clips, sent and received as they are, not as numbers in JSON."""
        data = self._http.InferInput(INPUT, list(request.values.shape), "UINT8")
        data.set_data_from_numpy(request.values, binary_data=True)
        body, length = self._http.InferenceServerClient.generate_request_body(
            [data],
            outputs=[self._http.InferRequestedOutput(OUTPUT, binary_data=True)],
            parameters=binding_to_parameters(request.binding),
        )
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}
        reply = self._ask("POST", "/infer", body, headers, seconds, MAX_RESPONSE_BYTES)
        return read_answer(reply.body, reply.header_length, (len(request.values), classes), self._endpoint)

    def forget(self) -> None:
        """Connections that are not in use go."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """End all connections; those of requests under way once these have ended."""
        self._closed = True
        self.forget()

    def _description(self, message: Any, path: str, seconds: float) -> Any:
        return read_description(self._ask("GET", path, None, {}, seconds, MAX_JSON_BYTES).body, message, self._endpoint)

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float, largest: int
    ) -> Reply:
        left = countdown(seconds)
        sent = {"Accept-Encoding": "identity", **headers, **self._token.headers()}
        connection = self._take()
        try:
            reply = connection.ask(method, self._path + path, body, sent, seconds=seconds, largest=largest)
        except ConnectionError as error:
            connection.close()
            if not connection.used:
                raise self._error(error) from None
            self.forget()  # the server closed it while nobody used it, and so those beside it
            return self._ask(method, path, body, headers, left(), largest)
        except (OSError, http.client.HTTPException, UnicodeError, SessionError) as error:
            connection.close()
            raise self._error(error) from None
        self._give_back(connection)
        if reply.status != _OK:
            raise http_fault(reply.status, read_words(reply.body), self._endpoint).error(self._token)
        if reply.encoding.lower() != "identity":
            raise SessionError(f"{self._endpoint} answered in an encoding that nobody asked for")
        return reply

    def _error(self, error: Exception) -> LcveError:
        """Of what a connection suffered."""
        kind = next((ours for theirs, ours in _SUFFERED if isinstance(error, theirs)), UnavailableError)
        words = "the answer is not HTTP" if type(error) is http.client.BadStatusLine else str(error)
        return Fault(kind=kind, endpoint=self._endpoint, words=words).error(self._token)

    def _take(self) -> Connection:
        if self._closed:
            raise SessionError("the session is closed")
        with self._lock:
            return self._idle.pop() if self._idle else Connection(self._endpoint, self._context)

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _library() -> Any:
    with require("speaking to a server over HTTP needs tritonclient", extra="remote"):
        import tritonclient.http
    return tritonclient.http
