"""A second implementation of format ``lcve-seal-1``, from its description alone: RFC 9180 written out.

``python -m tests.support.second_sealer`` writes docs/reference/sealing-vectors.json. It shares no code with the
package, and none with the library's HPKE: only X25519, ML-KEM, HMAC and AES-GCM.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VECTORS = Path(__file__).parents[2] / "docs/reference/sealing-vectors.json"

BINDING = {
    "scheme": "lcve-1",
    "key_id": "c563e0dffdc0a37403a8727bffcab4a5",
    "salt": "101112131415161718191a1b1c1d1e1f",
    "geometry": "2x4x4x3/2x2x2",
    "layout": "cubes",
}
KINDS = {"clip": 1, "request": 2, "answer": 3}
KEMS = {"x25519": 0x0020, "mlkem768-x25519": 0x647A}
XWING = b"\\.//^\\"
PKCS8 = bytes.fromhex("302e020100300506032b656e04220420")


def extract(salt: bytes, label: bytes, suite: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, "sha256")


def expand(secret: bytes, label: bytes, suite: bytes, info: bytes, length: int) -> bytes:
    labelled, out, block = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info, b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(secret, block + labelled + bytes([number]), "sha256")
        out += block
    return out[:length]


def key_and_nonce(suite: str, shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """The key schedule in base mode."""
    name = b"HPKE" + struct.pack(">HHH", KEMS[suite], 0x0001, 0x0002)
    context = b"\0" + extract(b"", b"psk_id_hash", name, b"") + extract(b"", b"info_hash", name, info)
    secret = extract(shared, b"secret", name, b"")
    return expand(secret, b"key", name, context, 32), expand(secret, b"base_nonce", name, context, 12)


def dhkem(agreed: bytes, enc: bytes, public: bytes) -> bytes:
    name = b"KEM" + struct.pack(">H", KEMS["x25519"])
    return expand(extract(b"", b"eae_prk", name, agreed), b"shared_secret", name, enc + public, 32)


def x25519_public(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agree(secret: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def public_of(suite: str, secret: bytes) -> bytes:
    classical = x25519_public(secret[-32:])
    if suite == "x25519":
        return classical
    return MLKEM768PrivateKey.from_seed_bytes(secret[:64]).public_key().public_bytes_raw() + classical


def decapsulate(suite: str, enc: bytes, secret: bytes) -> bytes:
    public = x25519_public(secret[-32:])
    agreed = agree(secret[-32:], enc[-32:])
    if suite == "x25519":
        return dhkem(agreed, enc, public)
    lattice = MLKEM768PrivateKey.from_seed_bytes(secret[:64]).decapsulate(enc[:1088])
    return hashlib.sha3_256(lattice + agreed + enc[1088:] + public + XWING).digest()


def encapsulate(suite: str, public: bytes, ephemeral: bytes) -> tuple[bytes, bytes]:
    """Encapsulated key and shared secret; ML-KEM adds randomness of its own."""
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

    enc = x25519_public(ephemeral)
    agreed = agree(ephemeral, public[-32:])
    if suite == "x25519":
        return enc, dhkem(agreed, enc, public)
    lattice, ciphertext = MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
    mixed = hashlib.sha3_256(lattice + agreed + enc + public[1184:] + XWING).digest()
    return ciphertext + enc, mixed


def info_of(kind: str, head: bytes) -> bytes:
    model = hashlib.sha256("\n".join(BINDING.values()).encode()).digest()
    return b"lcve/seal/1" + model + bytes([KINDS[kind]]) + hashlib.sha256(head).digest()


def fingerprint(suite: str, public: bytes) -> str:
    return hashlib.sha256(suite.encode() + b"\0" + public).hexdigest()


def header(kind: str, suite: str, public: bytes, **more: object) -> bytes:
    fields = {"format": "lcve-seal-1", "kind": kind, "suite": suite, "recipient": fingerprint(suite, public)}
    return json.dumps({**fields, **BINDING, **more}, sort_keys=True, separators=(",", ":")).encode()


def seal(kind: str, suite: str, head: bytes, content: bytes, public: bytes, ephemeral: bytes) -> bytes:
    enc, shared = encapsulate(suite, public, ephemeral)
    key, nonce = key_and_nonce(suite, shared, info_of(kind, head))
    return b"LCVESEAL" + struct.pack("<I", len(head)) + head + enc + AESGCM(key).encrypt(nonce, content, b"")


def open_(data: bytes, secret: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and content."""
    assert data[:8] == b"LCVESEAL"
    (length,) = struct.unpack("<I", data[8:12])
    head, body = data[12 : 12 + length], data[12 + length :]
    fields = json.loads(head)
    assert head == json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    suite = fields["suite"]
    size = 32 if suite == "x25519" else 1120
    shared = decapsulate(suite, body[:size], secret)
    key, nonce = key_and_nonce(suite, shared, info_of(fields["kind"], head))
    return fields, AESGCM(key).decrypt(nonce, body[size:], b"")


def pem(suite: str, secret: bytes) -> str:
    """The private key file; of the hybrid, as the library writes ML-KEM's part."""
    der = base64.encodebytes(PKCS8 + secret[-32:]).decode()
    classical = f"-----BEGIN PRIVATE KEY-----\n{der}-----END PRIVATE KEY-----\n"
    if suite == "x25519":
        return classical
    seed = base64.b64encode(bytes.fromhex("3054020100300b060960864801650304040204428040") + secret[:64]).decode()
    lines = "\n".join(seed[at : at + 64] for at in range(0, len(seed), 64))
    return f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n{classical}"


def vectors(suite: str) -> dict[str, Any]:
    size = 32 if suite == "x25519" else 96
    secret, reply = bytes(range(size)), bytes(range(128, 128 + size))
    ephemeral = [bytes([number]) * 32 for number in (0x40, 0x50, 0x60)]
    public, reply_public = public_of(suite, secret), public_of(suite, reply)
    values, logits = bytes(range(96)), struct.pack("<5f", 0.5, -1.25, 3.0, 0.0, 2.0)
    exchange = {"id": "f0" * 16, "model": "actions", "clips": 1}
    heads = {
        "clip": header("clip", suite, public, views="1x1"),
        "request": header("request", suite, public, **exchange, version="", time=1_800_000_000_000),
        "answer": header("answer", suite, reply_public, **exchange, version="1", classes=5),
    }
    contents = {"clip": values, "request": reply_public + values, "answer": logits}
    keys = {"clip": public, "request": public, "answer": reply_public}
    return {
        "suite": suite,
        "secret": secret.hex(),
        "private_file": pem(suite, secret),
        "public_sha256": hashlib.sha256(public).hexdigest(),
        "fingerprint": fingerprint(suite, public),
        "reply_secret": reply.hex(),
        "values_hex": values.hex(),
        "logits_hex": logits.hex(),
        **{
            kind: {
                "header": head.decode(),
                "info_hex": info_of(kind, head).hex(),
                "file_hex": seal(kind, suite, head, contents[kind], keys[kind], eph).hex(),
            }
            for (kind, head), eph in zip(heads.items(), ephemeral, strict=True)
        },
    }


def main() -> None:
    """Write the vectors; those of the hybrid differ every time, as ML-KEM draws at random."""
    content = {
        "about": "Vectors of format lcve-seal-1. Written by tests/support/second_sealer.py.",
        "binding": BINDING,
        "suites": [vectors(suite) for suite in KEMS],
    }
    VECTORS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
