"""What the tests in this folder share."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

from lcve_deploy import (
    SigningKey,
)
from tests.conftest import ORACLES, SECRET

TINY = ORACLES["v1_model_args"]
OWNER = SigningKey(SECRET)
STRANGER = SigningKey(bytes(32))
PIN = OWNER.public_key
FINGERPRINT = "a050837d85070582ccf7394b0988847cc312cb88259b894899f6f239cf1791a5"
Breakage = Callable[[Path], object]


def forms_of_the_secret(secret: bytes = SECRET) -> tuple[str, ...]:
    """The secret as hex, in the base64 of its PEM file, and as Python shows bytes."""
    line = SigningKey(secret).to_bytes().decode().splitlines()[1]
    return secret.hex(), base64.b64encode(secret).decode(), line, line[-20:], repr(secret)[2:-1]
