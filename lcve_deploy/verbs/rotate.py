"""Make another key or salt for an artifact, as the owner. Needs no checkpoint, no torch and no engine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.artifact import KeyManifest
from lcve_deploy.errors import MismatchError
from lcve_deploy.files.writing import new_folder, require_absent
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.keys.signing import SigningKey
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.verbs._base import KeyBase
from lcve_deploy.verbs._keys import new_salt

__all__ = ["RotateOptions", "RotateResult", "rotate"]

_UNSIGNED_NOTE: Final = "the artifact is signed, and the new key folder is not: pass --signing-key to sign it"


@dataclass(frozen=True, kw_only=True)
class RotateOptions:
    """The new key, the new salt and the signature of a rotation.

    Args:
        new_key: key to make a key folder for; by default the same key, with a new salt.
        salt: 16 public bytes; random by default.
        signing_key: signs the key folder; by default it is not signed.
    """

    new_key: SecurityKey | None = None
    salt: bytes | None = None
    signing_key: SigningKey | None = None


@dataclass(frozen=True, kw_only=True)
class RotateResult:
    """Result of ``rotate``.

    Args:
        folder: folder with ``server/``, the new key folder, and ``client/``.
        manifest: manifest of the new key folder.
        notes: remarks for the owner.
    """

    folder: Path
    manifest: KeyManifest
    notes: tuple[str, ...]


def rotate(
    artifact: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    key: SecurityKey,
    options: RotateOptions = RotateOptions(),
    progress: Progress = silent,
) -> RotateResult:
    """Make a key folder and a ``client/`` under another key or salt. The folder appears complete or not at all.

    Model and engines do not change. The old key works until its folder is removed.

    Args:
        artifact: folder with ``server/`` and ``client/``; not changed.
        output: folder to create; must not exist.
        key: a key whose folder is in ``server/keys``.
        options: new key, salt and signing key.
        progress: receives every step.

    Raises:
        ArtifactError: the artifact is invalid.
        MismatchError: the key does not belong to the artifact, its two sides do not belong together, or key and salt
            are not new.
        ExistsError, WriteError: the output already exists, or cannot be written.
    """
    target = require_absent(output)
    with step(progress, "reading the artifact"):
        base = KeyBase.open(Path(artifact), key)
    with step(progress, "reordering the keyed tensors"):
        orders = base.content.orders_of(options.new_key or key, options.salt or new_salt())
        if (orders.key_id, orders.salt) == (key.key_id, base.content.orders.salt):
            raise MismatchError(
                f"expected a new key or a new salt, received those of the artifact, with the salt {orders.salt.hex()}",
                hint="omit the salt: a random one is used",
            )
        with new_folder(target) as stage:
            manifest = base.write(stage, orders, options.signing_key)
    unsigned = base.signed and options.signing_key is None
    return RotateResult(folder=target, manifest=manifest, notes=(_UNSIGNED_NOTE,) if unsigned else ())
