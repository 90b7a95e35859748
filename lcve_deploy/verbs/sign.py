"""Sign the manifests of an existing artifact, as the owner. Needs a signing key, but no artifact key and no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lcve_deploy.artifact import find_keys, manifest_data, parse_manifest, read_signature, verify_files
from lcve_deploy.artifact.digests import MANIFEST, SIGNATURE
from lcve_deploy.artifact.key_folder import key_manifest_data, parse_key_manifest
from lcve_deploy.artifact.names import KEY_MANIFEST, KEY_SIGNATURE
from lcve_deploy.errors import ExistsError, MismatchError
from lcve_deploy.files.writing import new_file
from lcve_deploy.keys.signing import SigningKey

__all__ = ["sign"]


@dataclass(frozen=True, kw_only=True)
class _Signature:
    """A signature that belongs into a folder."""

    folder: Path
    name: str
    data: bytes

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def is_there(self) -> bool:
        """Whether it has been written already.

        Raises:
            ExistsError: there is a signature by another key or of another manifest.
        """
        if read_signature(self.folder, self.name) == self.data:
            return True
        if os.path.lexists(self.path):
            raise ExistsError(
                f"{self.path} already exists: a signature by another key or of another manifest",
                hint=f"remove it and sign again: rm {self.path}",
            )
        return False


def sign(folder: str | os.PathLike[str], *, signing_key: SigningKey) -> tuple[Path, ...]:
    """Check the digests of all files in a model folder or key folder, then write the signature of its manifest.

    In a model folder, all key folders in ``keys/`` are checked and signed too. What the same key has already signed is
    left as it is. If anything is wrong, nothing is written.

    Args:
        folder: model folder, key folder, or a folder with the one or the other as ``server/``.
        signing_key: private signing key of the owner.

    Returns:
        Paths of the signatures.

    Raises:
        ArtifactError: a manifest is invalid, or files do not match it.
        MismatchError: a key folder was made for another model.
        ExistsError: there is a signature by another key or of another manifest.
        WriteError: a signature could not be written.
    """
    signatures = tuple(_signatures(_inner(Path(folder)), signing_key))
    for signature in [signature for signature in signatures if not signature.is_there]:
        with new_file(signature.path) as file:
            file.write(signature.data)
    return tuple(signature.path for signature in signatures)


def _inner(folder: Path) -> Path:
    """Return the ``server/`` of an artifact or of an enrolled key, or the folder itself."""
    inner = folder / "server"
    return inner if (inner / MANIFEST).is_file() or (inner / KEY_MANIFEST).is_file() else folder


def _signatures(folder: Path, signing_key: SigningKey) -> Iterator[_Signature]:
    if (folder / KEY_MANIFEST).is_file():
        yield _key_signature(folder, signing_key)
        return
    data = manifest_data(folder)
    manifest = parse_manifest(data, folder / MANIFEST)
    verify_files(folder, manifest.files)
    yield _Signature(folder=folder, name=SIGNATURE, data=signing_key.sign(data))
    for path in find_keys(folder).values():
        yield _key_signature(path, signing_key, manifest.digest)


def _key_signature(folder: Path, signing_key: SigningKey, model_sha256: str | None = None) -> _Signature:
    data = key_manifest_data(folder)
    manifest = parse_key_manifest(data, folder / KEY_MANIFEST)
    verify_files(folder, manifest.files, listing=KEY_MANIFEST, signature=KEY_SIGNATURE)
    if model_sha256 not in (None, manifest.model_sha256):
        raise MismatchError(f"the key folder {folder} was made for another model", hint="remove it, and sign again")
    return _Signature(folder=folder, name=KEY_SIGNATURE, data=signing_key.sign_key(data))
