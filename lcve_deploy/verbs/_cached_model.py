"""Cache the answers of a model that takes encrypted clips."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import EncryptedClip
from lcve_deploy.encrypted_model import EncryptedModel

__all__ = ["CachedModel"]


class CachedModel:
    """A model that runs the same encrypted clips only once."""

    def __init__(self, model: EncryptedModel) -> None:
        self._model = model
        self._answers: dict[bytes, npt.NDArray[np.float32]] = {}

    def remember(self, clip: EncryptedClip, logits: npt.NDArray[np.float32]) -> None:
        """Keep the logits of clips that were run in another way."""
        self._answers[_digest(clip)] = logits

    def run(self, clip: EncryptedClip) -> npt.NDArray[np.float32]:
        """Return the logits of the wrapped model, computed once for the same clips."""
        digest = _digest(clip)
        if digest not in self._answers:
            self._answers[digest] = self._model.run(clip)
        return self._answers[digest]


def _digest(clip: EncryptedClip) -> bytes:
    return hashlib.sha256(clip.values.tobytes()).digest()
