"""Seal requests of a client, and open their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from lcve_deploy.errors import MismatchError, SealingError, SessionError
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.protocol.sealing import SEALED, SEALING, Offer
from lcve_deploy.remote.address import Address
from lcve_deploy.remote.faults import shown
from lcve_deploy.remote.limits import BodyLimits
from lcve_deploy.remote.transport import LogitsReply, Request, Values, logits_from_bytes
from lcve_deploy.sealing import SealingPublicKey, seal_request
from lcve_deploy.sealing.messages import answer_size

__all__ = ["SealedQuestion", "require_offer"]

_JSON_BYTES: Final = 2**16


class SealedQuestion:
    """Clips sealed for one attempt. A retry needs a new one: a server accepts each only once.

    Args:
        request: clips.
        to: public key of the server.
        address: address of the model.
        output: expected output.

    Raises:
        SealingError: nothing can be sealed to the key.
    """

    def __init__(self, request: Request, to: SealingPublicKey, address: Address, *, output: ModelOutput) -> None:
        self._shape, self._values = (request.clips, *output.shape), output.values
        self._sealed = seal_request(
            request.values.data.cast("B"),
            clips=request.clips,
            binding=request.binding,
            to=to,
            model=address.model,
            version=address.version,
        )

    @property
    def values(self) -> Values:
        """Return the bytes of the request, uint8 ``[bytes]``."""
        return np.frombuffer(self._sealed.data, np.uint8)

    @property
    def limits(self) -> BodyLimits:
        """Return the maximum bytes of the answer's HTTP body."""
        return BodyLimits(json=_JSON_BYTES, binary=answer_size(self._shape[0], self._values))

    @property
    def max_message_bytes(self) -> int:
        """Return the maximum bytes of the answer's gRPC message."""
        return _JSON_BYTES + answer_size(self._shape[0], self._values)

    def read(self, outputs: Sequence[tuple[object, object, object]], data: bytes, endpoint: str) -> LogitsReply:
        """Open the answer.

        Args:
            outputs: stated name, datatype and shape of each output.
            data: bytes of the output.
            endpoint: ``host:port``, for the error.

        Raises:
            SessionError: the answer is not sealed.
            SealingError: the answer belongs to another request, was changed, or was not made by the server.
        """
        if list(outputs) != [(SEALED, "UINT8", [len(data)])]:
            raise SessionError(f"{endpoint} did not seal its answer: it returned {shown(str(outputs))}")
        try:
            opened = self._sealed.open_answer(data, classes=self._values)
        except (SealingError, MismatchError) as error:
            raise SealingError(f"the answer of {endpoint} is refused: {shown(str(error))}", hint=error.hint) from None
        logits = logits_from_bytes(opened.logits, self._shape, endpoint)
        return LogitsReply(logits=logits, model=opened.model, version=opened.version)


def require_offer(config: Any, endpoint: str, *, sealed: bool) -> None:
    """Check that a server does what the client wants, before a clip is sent.

    Args:
        config: ``ModelConfig``.
        endpoint: ``host:port``.
        sealed: whether requests are sealed.

    Raises:
        MismatchError: the server does not open sealed requests, or accepts no others.
    """
    offer = config.parameters[SEALING].string_value if SEALING in config.parameters else ""
    if sealed and offer not in list(Offer):
        raise MismatchError(
            f"{endpoint} opens no sealed requests, and nothing has been sent",
            hint="the operator starts the server with --open-with",
        )
    if not sealed and offer == Offer.REQUIRED:
        raise MismatchError(
            f"{endpoint} accepts only sealed requests, and nothing has been sent",
            hint="seal to the operator's public key: --seal-to, or RemoteOptions(seal_to=...)",
        )
