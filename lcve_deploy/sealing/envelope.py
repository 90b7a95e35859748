"""Sealed data as bytes: a magic, the header in the clear, and what HPKE made of the content.

    8 bytes    LCVESEAL
    4 bytes    length of the header, little-endian
    header     JSON
    rest       encapsulated key, ciphertext and tag

What binds the header and the purpose is ``info``:
``lcve/seal/1`` ‖ SHA-256(binding of the model) ‖ kind (1 byte) ‖ SHA-256(header).

Source: format ``lcve-seal-1``; RFC 9180, sections 5 and 6.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from lcve_deploy.clips import Binding
from lcve_deploy.errors import SealingError
from lcve_deploy.sealing.header import MAX_HEADER_BYTES, Header, Kind
from lcve_deploy.sealing.keys import SealingKey, SealingPublicKey

__all__ = ["MAGIC", "PREFIX_BYTES", "Sealed", "info_of", "is_sealed", "open_sealed", "read_envelope", "seal"]

MAGIC: Final = b"LCVESEAL"
PREFIX_BYTES: Final = 12
"""Bytes before the header."""

_LABEL: Final = b"lcve/seal/1"
_WORDS: Final = {
    Kind.CLIP: "a sealed clip, which lcve encrypt --seal-to makes",
    Kind.REQUEST: "a sealed request, which is made for one server and one answer",
    Kind.ANSWER: "a sealed answer",
}

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, kw_only=True, eq=False)
class Sealed:
    """Sealed data, divided.

    Args:
        header: parsed.
        head: its bytes, as they stand in the data.
        body: encapsulated key, ciphertext and tag; a view of the data.
    """

    header: Header
    head: bytes
    body: memoryview


def is_sealed(head: Buffer) -> bool:
    """Whether data begins as sealed data does."""
    return bytes(head[: len(MAGIC)]) == MAGIC


def seal(header: Header, content: Buffer, to: SealingPublicKey) -> bytes:
    """Seal content to a key.

    Args:
        header: describes it; names the key.
        content: what nobody else may read.
        to: the key.

    Raises:
        SealingError: a header that is too long, or a key that nothing can be sealed to.
    """
    head = header.to_bytes()
    if len(head) > MAX_HEADER_BYTES:
        raise SealingError(f"a header has at most {MAX_HEADER_BYTES} bytes, received {len(head)}")
    try:
        body = to.suite.encrypt(bytes(content), to.raw, info_of(header.binding, header.kind, head))
    except ValueError:
        raise SealingError("nothing can be sealed to this public key", hint="ask for another one") from None
    return b"".join((MAGIC, len(head).to_bytes(4, "little"), head, body))


def read_envelope(data: Buffer, *, kind: Kind) -> Sealed:
    """Divide sealed data and check its header; nothing is opened.

    Raises:
        SealingError: not sealed data of this kind, or a header that is cut off or invalid.
    """
    if not is_sealed(data):
        raise SealingError(f"expected {_WORDS[kind]}, received other data: it does not begin with LCVESEAL")
    length = int.from_bytes(data[len(MAGIC) : PREFIX_BYTES], "little")
    if len(data) < PREFIX_BYTES or length > MAX_HEADER_BYTES or PREFIX_BYTES + length > len(data):
        raise SealingError("the sealed data is cut off or damaged: it ends before its header does")
    head = bytes(data[PREFIX_BYTES : PREFIX_BYTES + length])
    header = Header.parse(head)
    if header.kind is not kind:
        raise SealingError(f"expected {_WORDS[kind]}, received {_WORDS[header.kind]}")
    return Sealed(header=header, head=head, body=memoryview(data)[PREFIX_BYTES + length :])


def open_sealed(sealed: Sealed, key: SealingKey, *, binding: Binding, size: int) -> bytes:
    """Open sealed data.

    Args:
        sealed: as of ``read_envelope``.
        key: of the recipient.
        binding: of the model that the opener has.
        size: bytes that the content must have, as the header describes it.

    Raises:
        SealingError: sealed to another key; cut off, extended or changed.
        MismatchError: sealed for another model.
    """
    header = sealed.header
    if header.recipient != key.public_key.fingerprint:
        raise SealingError(
            f"sealed to the key {header.recipient[:16]}..., and this key is {key.public_key.fingerprint[:16]}...",
            hint="open it with the private key of the public key that it was sealed to",
        )
    if header.suite is not key.suite:
        raise SealingError(f"sealed with the suite {header.suite}, but its key is of the suite {key.suite}")
    binding.require(header.binding, here="model", there="sealed data")
    expected = size + key.suite.overhead
    if len(sealed.body) != expected:
        raise SealingError(
            f"the sealed data was cut off or extended: expected {expected} bytes after its header, received "
            f"{len(sealed.body)}"
        )
    try:
        return key.decrypt(sealed.body, info_of(binding, header.kind, sealed.head))
    except SealingError as error:
        raise SealingError(f"the sealed {header.kind} cannot be opened: {error}", hint=error.hint) from None


def info_of(binding: Binding, kind: Kind, head: bytes) -> bytes:
    """HPKE's ``info``, 76 bytes: for which model, for what, and with which header."""
    fields = (binding.scheme, binding.key_id, binding.salt, str(binding.geometry), str(binding.layout))
    model = hashlib.sha256("\n".join(fields).encode("ascii")).digest()
    return _LABEL + model + bytes([kind.number]) + hashlib.sha256(head).digest()
