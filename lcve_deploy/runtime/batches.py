"""Any number of clips through an engine that takes some batch sizes only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import Profile
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.runtime.session import Session

__all__ = ["run_within"]


def run_within(session: Session, clip: EncryptedClip, profile: Profile | None) -> npt.NDArray[np.float32]:
    """Logits ``[clips, classes]``; batches above the profile are divided, those below it filled with clips again.

    Args:
        session: the engine.
        clip: NumPy values ``[clips, N, L]`` or ``[clips, T, H, W, C]``.
        profile: batch sizes that the session takes; None where it takes any.

    Raises:
        MismatchError, SessionError: as of ``Session.run``.
    """
    if profile is None:
        return session.run(clip)
    parts = []
    for first in range(0, len(clip.values), profile.maximum):
        values = clip.values[first : first + profile.maximum]
        filled = np.resize(np.arange(len(values)), max(len(values), profile.minimum))
        logits = session.run(EncryptedClip(values=values[filled], binding=clip.binding))
        parts.append(logits[: len(values)])
    return np.concatenate(parts)
