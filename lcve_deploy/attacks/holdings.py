"""What an attacker has, and what an attack estimates. Contains no key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import Scheme
from lcve_deploy.geometry import ClipGeometry

__all__ = ["HELD", "Cubes", "Estimate", "Holdings", "Order", "Planted", "Tensors"]

Tensors = Mapping[str, npt.NDArray[Any]]
Order = npt.NDArray[np.int64]
Cubes = npt.NDArray[Any]
"""Clips in cubes: uint8 values; encrypted clips of ``lcve-dct-1`` are float32 coefficients times their step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Holdings:
    """What an attacker has; a field is None if the attacker does not have it.

    Args:
        geometry: clip and cube size; public.
        scheme: encryption scheme; public.
        artifact: keyed tensors of a key folder by the names of ``KEYED_TENSORS``, as in the graph:
            ``cube_embedding.weight`` ``[L, D]``, ``positional_encoding`` ``[tokens, D]``, ``head.weight``
            ``[D, classes]``, ``head.bias`` ``[classes]``, ``rotary.cos`` and ``rotary.sin`` ``[tokens, head width]``,
            ``relative_position.index`` ``[tokens, tokens]``; those that the model has.
        reference: the same tensors of a plain model that the artifact may come from, in the plain order.
        ciphertexts: encrypted clips ``[clips, N, L]``.
        known: plain clips in cubes, and their encryption; both ``[clips, N, L]``. Of the scheme ``lcve-dct-1``, the
            plain side are coefficients with the same step as the other.
        oracle: encrypts plain clips of the attacker's choice, uint8 ``[clips, N, L]``.
        other: keyed tensors of another key of the same model.
        embedding: cube embedding in the plain order, float ``[L, D]``.
        classified: known classes of clips, in the plain order, int64 ``[clips]``, and the artifact's logits for
            them, float ``[clips, classes]``.
        tokens: tokens of one clip under this embedding, in the plain order of cubes, float ``[N, D]``.
        found: estimate of earlier attacks with no other holdings.
    """

    geometry: ClipGeometry
    scheme: Scheme = Scheme.LCVE
    artifact: Tensors | None = None
    reference: Tensors | None = None
    ciphertexts: Cubes | None = None
    known: tuple[Cubes, Cubes] | None = None
    oracle: Callable[[Cubes], Cubes] | None = None
    other: Tensors | None = None
    embedding: npt.NDArray[np.floating] | None = None
    tokens: npt.NDArray[np.floating] | None = None
    classified: tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]] | None = None
    found: Estimate | None = None


HELD: Final = {
    "artifact": "the artifact",
    "reference": "a reference checkpoint",
    "ciphertexts": "encrypted clips",
    "classified": "clips of known classes",
    "known": "plain clips and their encryption",
    "oracle": "chosen clips, encrypted",
    "other": "another key of the model",
    "embedding": "the plain embedding",
    "tokens": "the tokens of a clip",
}
"""What each field of ``Holdings`` that an attacker may lack is called."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """Orders or a clip, as found by an attack or as they truly are; a field is None if it is unknown.

    Args:
        cubes: K1: encrypted cube i is plain cube ``cubes[i]``; -1 if unknown. int64 ``[N]``.
        values: K2: encrypted value (or coefficient) j of a cube is its plain value ``values[j]``; -1 if unknown. int64
            ``[L]``.
        labels: K3: logit c of the artifact is plain logit ``labels[c]``. int64 ``[classes]``.
        clip: one plain clip in cubes, values 0..255, float or uint8 ``[N, L]``.
        signs: of the scheme ``lcve-dct-1``: encrypted coefficient j is its plain coefficient times ``signs[j]``, 1 or
            -1; 0 if unknown. int64 ``[L]``.
    """

    cubes: Order | None = None
    values: Order | None = None
    labels: Order | None = None
    clip: npt.NDArray[Any] | None = None
    signs: Order | None = None

    def order(self, name: str) -> Order:
        """Return an order by the name of its field.

        Raises:
            ValueError: the order is unknown.
        """
        order: Order | None = getattr(self, name)
        if order is None:
            raise ValueError(f"expected an order of the {name}, received none")
        return order

    def relative_to(self, other: Estimate) -> Estimate:
        """Return these orders relative to those of another key of the same model; without a clip."""
        names = [
            name
            for name in ("cubes", "values", "labels")
            if getattr(self, name) is not None and getattr(other, name) is not None
        ]
        found = {name: np.argsort(other.order(name))[self.order(name)] for name in names}
        signs = None
        if self.signs is not None and other.signs is not None:
            signs = self.signs * other.signs[found["values"]]
        return Estimate(**found, signs=signs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """A case with a known answer. The failure of an attack is meaningful only if the attack solves such a case."""

    holdings: Holdings
    truth: Estimate
