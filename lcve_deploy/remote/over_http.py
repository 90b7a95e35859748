"""Call a model on one endpoint over HTTP.

tritonclient writes and parses the bodies. Its connections are bound to one thread, read without a size limit, and have
a timeout per read but no overall deadline; so connections of the standard library carry the bodies.
"""

from __future__ import annotations

import http.client
import ssl
from dataclasses import replace
from threading import Lock
from typing import Any, Final
from urllib.parse import quote

from lcve_deploy.errors import (
    DeadlineError,
    DeniedError,
    LcveError,
    SessionError,
    UnavailableError,
)
from lcve_deploy.libraries.requiring import require
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.protocol.sealing import SEALED
from lcve_deploy.protocol.stubs import config_messages, messages
from lcve_deploy.remote.address import Address
from lcve_deploy.remote.bodies import read_answer, read_description, read_sealed, read_words
from lcve_deploy.remote.connection import Connection, Reply
from lcve_deploy.remote.faults import Fault, http_fault
from lcve_deploy.remote.limits import BodyLimits
from lcve_deploy.remote.options import RemoteOptions
from lcve_deploy.remote.sealed import SealedQuestion
from lcve_deploy.remote.tls import tls_context
from lcve_deploy.remote.token import Token
from lcve_deploy.remote.transport import LogitsReply, Request, Values, countdown
from lcve_deploy.sealing import SealingPublicKey

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
"""Error class for each exception; the first match counts. Any other means that the server is unavailable."""


class HttpTransport:
    """Persistent connections to one endpoint: one for each concurrent request.

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
        self._address, self._seal_to, self._pad = address, options.seal_to, options.pad
        self._context = tls_context(options) if address.scheme.encrypted else None
        version = f"/versions/{address.version}" if address.version else ""
        self._path = f"/v2/models/{quote(address.model, safe='')}{version}"
        self._lock, self._idle, self._closed = Lock(), list[Connection](), False

    def describe(self, seconds: float) -> tuple[Any, Any]:
        """Fetch the model's metadata and configuration."""
        left = countdown(seconds)
        metadata = self._description(messages().ModelMetadataResponse(), "", left())
        return metadata, self._description(config_messages().ModelConfig(), "/config", left())

    def infer(self, request: Request, *, output: ModelOutput, seconds: float) -> LogitsReply:
        """Run one batch. Clips and logits travel as binary data, not as JSON numbers."""
        if self._seal_to is not None:
            return self._infer_sealed(request, self._seal_to, output, seconds)
        name, shape = output.kind.value, (request.clips, *output.shape)
        body, headers = self._body(request.input_name, request.values, name, binding_to_parameters(request.binding))
        reply = self._ask("POST", "/infer", body, headers, seconds, BodyLimits.of_logits(shape))
        answer = read_answer(reply.body, reply.header_length, shape, self._endpoint, name=name)
        return replace(answer, sent_bytes=len(body))

    def _infer_sealed(self, request: Request, to: SealingPublicKey, output: ModelOutput, seconds: float) -> LogitsReply:
        """Seal and run one batch; seal it again for another connection, as the first may have carried the request."""
        left = countdown(seconds)
        while True:
            question = SealedQuestion(request, to, self._address, output=output)
            body, headers = self._body(SEALED, question.values, SEALED, {})
            reply = self._ask_once("POST", "/infer", body, headers, left(), question.limits)
            if reply is not None:
                answer = read_sealed(reply.body, reply.header_length, question, self._endpoint)
                return replace(answer, sent_bytes=len(body))

    def _body(self, name: str, values: Values, output: str, parameters: dict[str, str]) -> tuple[bytes, dict[str, str]]:
        """Return body and headers of a request with one input, as binary data."""
        data = self._http.InferInput(name, list(values.shape), "UINT8")
        data.set_data_from_numpy(values, binary_data=True)
        outputs = [self._http.InferRequestedOutput(output, binary_data=True)]
        body, length = self._http.InferenceServerClient.generate_request_body(
            [data], outputs=outputs, parameters=parameters
        )
        return body, {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}

    def forget(self) -> None:
        """Close idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Close all connections; those of running requests when the requests end."""
        self._closed = True
        self.forget()

    def _description(self, message: Any, path: str, seconds: float) -> Any:
        reply = self._ask("GET", path, None, {}, seconds, BodyLimits.of_description())
        return read_description(reply.body, message, self._endpoint)

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float, limits: BodyLimits
    ) -> Reply:
        """Send a request that is safe to repeat, and return its response."""
        left = countdown(seconds)
        while True:
            reply = self._ask_once(method, path, body, headers, left(), limits)
            if reply is not None:
                return reply

    def _ask_once(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float, limits: BodyLimits
    ) -> Reply | None:
        """Send a request and return its response; None if the server has closed the connection that was reused."""
        sent = {"Accept-Encoding": "identity", **headers, **self._token.headers()}
        connection = self._take()
        try:
            reply = connection.ask(method, self._path + path, body, sent, seconds=seconds, limits=limits)
        except ConnectionError as error:
            connection.close()
            if not connection.used:
                raise self._error(error) from None
            self.forget()  # the server closed it while idle, and so probably the others
            return None
        except (OSError, http.client.HTTPException, UnicodeError, SessionError) as error:
            connection.close()
            raise self._error(error) from None
        self._give_back(connection)
        if reply.status != _OK:
            words, name = read_words(reply.body)
            fault = http_fault(reply.status, words, self._endpoint, retry_after=reply.retry_after, name=name)
            raise fault.error(self._token, pad=self._pad)
        if reply.encoding.lower() != "identity":
            raise SessionError(f"{self._endpoint} answered in encoding {reply.encoding[:40]!r}, expected identity")
        return reply

    def _error(self, error: Exception) -> LcveError:
        """Return the error for a failed connection."""
        kind = next((ours for theirs, ours in _SUFFERED if isinstance(error, theirs)), UnavailableError)
        words = "the response is not HTTP" if type(error) is http.client.BadStatusLine else str(error)
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
    with require("calling a server over HTTP needs tritonclient", extra="remote"):
        import tritonclient.http
    return tritonclient.http
