"""The key holder: knows the true orders, and encrypts clips."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Final

import numpy as np

from lcve_deploy.artifact import KeyFolder
from lcve_deploy.attacks.holdings import Cubes, Estimate
from lcve_deploy.cipher.clips import encrypt
from lcve_deploy.clips import COEFFICIENTS, SALT_BYTES, STEP, Binding, EncryptedClip, Layout, PlainClip
from lcve_deploy.errors import MismatchError
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.verbs.audit.subject import Subject

__all__ = ["Victim", "in_cubes", "independent_orders"]

_INDEPENDENT_KEYS: Final = 32


def independent_orders(folder: KeyFolder) -> tuple[Estimate, ...]:
    """Return the orders of new random keys for the same model, to measure the score of chance."""
    classes = folder.model.classes if folder.manifest.labels == "hidden" else None
    keys = (SecurityKey.create() for _ in range(_INDEPENDENT_KEYS))
    return tuple(_truth(_orders(key, folder.manifest.binding, classes)) for key in keys)


class Victim:
    """The key holder: knows the true orders, and encrypts clips.

    Args:
        subject: key folder of the key.
        binding: of the key folder, perhaps with another salt.
        key: the key.

    Raises:
        MismatchError: the key does not belong to the key folder.
    """

    def __init__(self, subject: Subject, binding: Binding, key: SecurityKey) -> None:
        if key.key_id != binding.key_id:
            raise MismatchError(
                f"the key does not belong to {subject.folder.folder}: expected key id {binding.key_id}, received "
                f"{key.key_id}",
                hint="pass the key that the key folder was made with, or none: then attacks run without scores",
            )
        self._subject, self._key = subject, key
        self.orders = _orders(key, binding, subject.hidden_classes)
        self.truth = _truth(self.orders)

    def encrypt(self, cubes: Cubes) -> Cubes:
        """Encrypt clips in cubes, uint8 ``[clips, N, L]``."""
        clip = encrypt(PlainClip(values=self.orders.geometry.from_cubes(cubes, np)), self.orders)
        return in_cubes(clip)

    def renewed(self) -> Victim:
        """Return a victim with the same key and a new salt."""
        binding = replace(self._subject.key.binding, salt=secrets.token_bytes(SALT_BYTES).hex())
        return Victim(self._subject, binding, self._key)


def in_cubes(clip: EncryptedClip) -> Cubes:
    """Return encrypted clips in cubes ``[clips, N, L]``: uint8 values, or coefficients times their step in float32."""
    if clip.binding.packed:
        coefficients: Cubes = clip.values[COEFFICIENTS].astype(np.float32) * clip.values[STEP][..., None, None]
        return coefficients
    as_video = clip.binding.layout is Layout.VIDEO
    cubes: Cubes = clip.binding.geometry.to_cubes(clip.values, np) if as_video else clip.values
    return cubes


def _orders(key: SecurityKey, binding: Binding, classes: int | None) -> Orders:
    return derive_orders(
        key, salt=bytes.fromhex(binding.salt), geometry=binding.geometry, classes=classes, scheme=binding.scheme
    )


def _truth(orders: Orders) -> Estimate:
    signs = None if orders.signs is None else orders.signs[orders.pixel_order].astype(np.int64)
    return Estimate(cubes=orders.cube_order, values=orders.pixel_order, labels=orders.label_order, signs=signs)
