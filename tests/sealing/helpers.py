"""What the tests in this folder share."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from lcve_deploy import Binding, ClipFile, ClipGeometry, EncryptedClip, Layout, Views
from lcve_deploy.sealing import Keyring, SealedRequest, SealingKey, Suite, seal_request
from tests.support.second_sealer import VECTORS

GEOMETRY = ClipGeometry.parse("2x4x4x3/2x2x2")
BINDING = Binding(
    scheme="lcve-1",
    key_id="c563e0dffdc0a37403a8727bffcab4a5",
    salt="101112131415161718191a1b1c1d1e1f",
    geometry=GEOMETRY,
    layout=Layout.CUBES,
)
OTHER = dataclasses.replace(BINDING, salt="0" * 32)
SIZE = GEOMETRY.cubes * GEOMETRY.values
CLASSES = 5

SUITES = tuple(Suite)
KEYS = {suite: SealingKey(suite, bytes(range(suite.secret_bytes))) for suite in Suite}
"""The keys of the vectors."""


def vectors() -> dict[str, dict[str, Any]]:
    """By suite."""
    return {entry["suite"]: entry for entry in json.loads(VECTORS.read_text())["suites"]}


def content(views: int = 1) -> ClipFile:
    values = np.arange(views * SIZE, dtype=np.uint8).reshape(views, GEOMETRY.cubes, GEOMETRY.values)
    return ClipFile(clip=EncryptedClip(values=values, binding=BINDING), views=Views(temporal=views))


def request(key: SealingKey, *, clips: int = 1, **changes: Any) -> SealedRequest:
    how: dict[str, Any] = {"binding": BINDING, "to": key.public_key, "model": "actions", **changes}
    return seal_request(bytes(range(SIZE)) * clips, clips=clips, **how)


def ring(*keys: SealingKey) -> Keyring:
    return Keyring(keys=keys)
