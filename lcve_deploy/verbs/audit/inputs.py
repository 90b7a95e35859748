"""What an attacker is assumed to have in addition to the artifact."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from lcve_deploy.artifact import PublicKey
from lcve_deploy.keys.secret import SecurityKey

__all__ = ["AuditInputs", "StrPath"]

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class AuditInputs:
    """What the attacker is assumed to have in addition to the artifact, and the keys that score the attacks.

    Args:
        reference: official checkpoint or Hugging Face folder that the artifact may come from.
        ciphertexts: encrypted clip files. Of sealed ones, the report says that there is nothing to run an attack on.
        known_clips: plain clips that the attacker knows: videos, or ``.npy`` arrays of the model's geometry.
        known_classes: encrypted clip files of which the attacker knows the class, each with its number in the plain
            order, from 0. The artifact is run on them.
        name: name of the key folder in ``keys/`` to attack; by default the only one.
        other: another key folder of the same model; with a key, the default is this one with a new salt.
        key: key of the key folder; scores the attacks and encrypts known or chosen clips. Without it, nothing
            is scored.
        other_key: key of ``other``; by default ``key``.
        signed_by: public key that must have signed the model and both key folders; by default signatures are not
            checked.
    """

    name: str | None = None

    reference: StrPath | None = None
    ciphertexts: Sequence[StrPath] = ()
    known_clips: Sequence[StrPath] = ()
    known_classes: Sequence[tuple[StrPath, int]] = ()
    other: StrPath | None = None
    key: SecurityKey | None = None
    other_key: SecurityKey | None = None
    signed_by: PublicKey | None = None
