"""Logits of class vectors, computed in NumPy from the vector of another reference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lcve_deploy.exporters.checkpoints.class_vectors import ClassVectors
from lcve_deploy.exporters.reference.builtin import Reference

__all__ = ["ClassVectorReference"]


class ClassVectorReference:
    """A reference that answers vectors, and a vector for each class.

    Args:
        inner: answers a vector for each clip.
        vectors: vectors of the classes.
    """

    def __init__(self, inner: Reference, vectors: ClassVectors) -> None:
        self._inner, self._vectors = inner, vectors

    @property
    def name(self) -> str:
        """Name of the implementation, for reports."""
        return f"{self._inner.name}, with class vectors"

    def logits(self, clips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Compute logits ``[batch, classes]`` of plain clips, uint8 RGB ``[batch, T, H, W, C]``."""
        features = self._inner.logits(clips)
        if self._vectors.unit:
            features = features / np.linalg.norm(features, axis=-1, keepdims=True)
        logits: npt.NDArray[np.float64] = features @ self._vectors.weight.T + self._vectors.bias
        return logits
