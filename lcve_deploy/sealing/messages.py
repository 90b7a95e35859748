"""Seal and open requests and their answers.

A request contains a public key that is created for its answer only. The key is part of the encrypted content, not of
the header, so only the server that opened the request can make an answer that the client opens.

Source: format ``lcve-seal-1``, sections "Request" and "Answer".
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Final

from lcve_deploy.clips import Binding
from lcve_deploy.errors import MismatchError, SealingError
from lcve_deploy.sealing.envelope import Buffer, open_sealed, read_envelope, seal
from lcve_deploy.sealing.header import Header, Kind
from lcve_deploy.sealing.keyring import Keyring
from lcve_deploy.sealing.keys import SealingKey, SealingPublicKey
from lcve_deploy.sealing.replays import Replays

__all__ = ["OpenedAnswer", "OpenedRequest", "SealedRequest", "answer_size", "open_request", "seal_request"]

_ID_BYTES: Final = 16
_FLOAT_BYTES: Final = 4
_MAX_OVERHEAD: Final = 8192
"""Maximum bytes that sealing adds to an answer: header, encapsulated key, tag."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedAnswer:
    """Content of an answer.

    Args:
        logits: float32, little-endian, ``[clips, classes]``.
        model: name of the model that ran.
        version: version that ran.
    """

    logits: bytes
    model: str
    version: str


@dataclass(frozen=True, kw_only=True, eq=False)
class SealedRequest:
    """Sealed request, and the key that opens its answer.

    Args:
        data: bytes to send.
        header: header of the request.
        key: private key for the answer.
    """

    data: bytes
    header: Header
    key: SealingKey

    def open_answer(self, data: Buffer, *, classes: int) -> OpenedAnswer:
        """Open the answer.

        Args:
            data: received bytes.
            classes: expected logits per clip.

        Raises:
            SealingError: the data is not the answer of this server to this request.
            MismatchError: the answer is for clips of another artifact.
        """
        sealed = read_envelope(data, kind=Kind.ANSWER)
        asked, header = self.header, sealed.header
        if header.id != asked.id:
            raise SealingError("the answer belongs to another request", hint="ask again")
        if (header.clips, header.classes, header.model) != (asked.clips, classes, asked.model):
            raise SealingError(
                f"expected the answer of {asked.model!r} for {asked.clips} clips and {classes} classes, received one "
                f"of {header.model!r} for {header.clips} and {header.classes}"
            )
        size = header.clips * header.classes * _FLOAT_BYTES
        logits = open_sealed(sealed, self.key, binding=asked.binding, size=size)
        return OpenedAnswer(logits=logits, model=header.model, version=header.version)


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedRequest:
    """Content of a request.

    Args:
        header: header of the request.
        values: uint8 values of all clips, or packed clips.
        reply_to: public key for the answer.
    """

    header: Header
    values: memoryview
    reply_to: SealingPublicKey

    def seal_answer(self, logits: Buffer, *, classes: int, version: str) -> bytes:
        """Seal the answer.

        Args:
            logits: float32, little-endian, ``[clips, classes]``.
            classes: logits per clip.
            version: version of the model that ran.

        Raises:
            SealingError: the client sent a key that nothing can be sealed to.
        """
        asked = self.header
        header = Header(
            kind=Kind.ANSWER,
            suite=asked.suite,
            recipient=self.reply_to.fingerprint,
            binding=asked.binding,
            id=asked.id,
            model=asked.model,
            version=version,
            clips=asked.clips,
            classes=classes,
        )
        return seal(header, logits, self.reply_to)


def seal_request(
    values: Buffer, *, clips: int, binding: Binding, to: SealingPublicKey, model: str, version: str = ""
) -> SealedRequest:
    """Seal clips as a request. A server accepts it once, within minutes; to send the clips again, seal them again.

    Args:
        values: uint8 values of all clips, or packed clips.
        clips: number of clips.
        binding: binding of the clips.
        to: public key of the server.
        model: name of the model on the server.
        version: requested version; empty for any.

    Raises:
        SealingError: nothing can be sealed to the key.
    """
    reply = SealingKey.create(to.suite)
    header = Header(
        kind=Kind.REQUEST,
        suite=to.suite,
        recipient=to.fingerprint,
        binding=binding,
        id=secrets.token_hex(_ID_BYTES),
        model=model,
        version=version,
        clips=clips,
        time=time.time_ns() // 1_000_000,
        size=memoryview(values).nbytes,
    )
    data = seal(header, b"".join((reply.public_key.raw, values)), to)
    return SealedRequest(data=data, header=header, key=reply)


def open_request(
    data: Buffer, keys: Keyring, replays: Replays | None, *, binding: Binding, model: str, version: str
) -> OpenedRequest:
    """Open a request. The caller must then pass its id and time to ``Replays.remember``.

    Args:
        data: received bytes.
        keys: private keys of the server.
        replays: accepted requests, to refuse a replay before it is opened; None skips this check.
        binding: binding of the requested model, with the key of the header, which the caller has looked up.
        model: requested model, as the protocol states it.
        version: requested version, as the protocol states it.

    Raises:
        SealingError: the request is sealed to another key, was changed or replayed, or is too old.
        MismatchError: the request is sealed for another model or version, or for another artifact.
    """
    sealed = read_envelope(data, kind=Kind.REQUEST)
    header = sealed.header
    key = keys.key_of(header)
    if (header.model, header.version) != (model, version):
        raise MismatchError(
            f"sealed for the model {header.model!r}, version {header.version or 'any'!r}; asked is {model!r}, version "
            f"{version or 'any'!r}",
            hint="seal for the model that is asked",
        )
    if replays is not None:
        replays.require_new(header.id, header.time)
    size = key.suite.public_bytes + header.values_size
    content = open_sealed(sealed, key, binding=binding, size=size)
    reply_to = SealingPublicKey(suite=key.suite, raw=content[: key.suite.public_bytes])
    return OpenedRequest(header=header, values=memoryview(content)[key.suite.public_bytes :], reply_to=reply_to)


def answer_size(clips: int, classes: int) -> int:
    """Return the maximum bytes of a sealed answer."""
    return clips * classes * _FLOAT_BYTES + _MAX_OVERHEAD
