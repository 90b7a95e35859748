"""Seal and open data: magic, header, and the content encrypted with HPKE.

    8 bytes    LCVESEAL
    4 bytes    length of the header, little-endian
    header     JSON
    rest       encapsulated key, ciphertext and tag

``info`` binds the header, the model and the kind:
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
    """Parts of sealed data.

    Args:
        header: parsed header.
        head: bytes of the header.
        body: encapsulated key, ciphertext and tag; a view of the data.
    """

    header: Header
    head: bytes
    body: memoryview


def is_sealed(head: Buffer) -> bool:
    """Return whether data begins with the magic of sealed data."""
    return bytes(head[: len(MAGIC)]) == MAGIC


def seal(header: Header, content: Buffer, to: SealingPublicKey) -> bytes:
    """Seal content to a key.

    Args:
        header: header, with the kind and the recipient.
        content: plaintext.
        to: public key of the recipient.

    Raises:
        SealingError: the header is too long, or nothing can be sealed to the key.
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
    """Divide sealed data into its parts and check the header, without opening it.

    Raises:
        SealingError: the data is not sealed data of this kind, or its header is truncated or invalid.
    """
    if not is_sealed(data):
        raise SealingError(f"expected {_WORDS[kind]}, received other data: it does not begin with LCVESEAL")
    length = int.from_bytes(data[len(MAGIC) : PREFIX_BYTES], "little")
    if len(data) < PREFIX_BYTES or length > MAX_HEADER_BYTES or PREFIX_BYTES + length > len(data):
        raise SealingError("the sealed data is truncated or damaged: it ends before its header does")
    head = bytes(data[PREFIX_BYTES : PREFIX_BYTES + length])
    header = Header.parse(head)
    if header.kind is not kind:
        raise SealingError(f"expected {_WORDS[kind]}, received {_WORDS[header.kind]}")
    return Sealed(header=header, head=head, body=memoryview(data)[PREFIX_BYTES + length :])


def open_sealed(sealed: Sealed, key: SealingKey, *, binding: Binding, size: int) -> bytes:
    """Open sealed data.

    Args:
        sealed: result of ``read_envelope``.
        key: private key of the recipient.
        binding: binding of the reader's own model.
        size: expected bytes of the content, as the header describes it.

    Raises:
        SealingError: the data is sealed to another key, or was truncated, extended or changed.
        MismatchError: the data is sealed for another model.
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
            f"the sealed data was truncated or extended: expected {expected} bytes after its header, received "
            f"{len(sealed.body)}"
        )
    try:
        return key.decrypt(sealed.body, info_of(binding, header.kind, sealed.head))
    except SealingError as error:
        raise SealingError(f"the sealed {header.kind} cannot be opened: {error}", hint=error.hint) from None


def info_of(binding: Binding, kind: Kind, head: bytes) -> bytes:
    """Return HPKE's ``info``, 76 bytes: label, model, kind and header."""
    fields = (binding.scheme, binding.key_id, binding.salt, str(binding.geometry), str(binding.layout))
    model = hashlib.sha256("\n".join(fields).encode("ascii")).digest()
    return _LABEL + model + bytes([kind.number]) + hashlib.sha256(head).digest()
