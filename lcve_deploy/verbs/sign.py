"""Sign the manifest of an existing artifact, as the owner. Needs a signing key, but no artifact key and no torch."""

from __future__ import annotations

import os
from pathlib import Path

from lcve_deploy.artifact import manifest_data, parse_manifest, read_signature, verify_files
from lcve_deploy.artifact.digests import MANIFEST, SIGNATURE
from lcve_deploy.errors import ExistsError
from lcve_deploy.files.writing import new_file
from lcve_deploy.keys.signing import SigningKey

__all__ = ["sign"]


def sign(server: str | os.PathLike[str], *, signing_key: SigningKey) -> Path:
    """Check the digests of all files in a server folder, then write ``manifest.sig``.

    If the same key has already signed the manifest, nothing is written.

    Args:
        server: the folder with ``manifest.json``.
        signing_key: private signing key of the owner.

    Returns:
        Path of the signature.

    Raises:
        ArtifactError: the manifest is invalid, or files do not match it.
        ExistsError: there is a signature by another key or of another manifest.
        WriteError: the signature could not be written.
    """
    folder = Path(server)
    data = manifest_data(folder)
    verify_files(folder, parse_manifest(data, folder / MANIFEST).files)
    signature, path = signing_key.sign(data), folder / SIGNATURE
    if read_signature(folder) == signature:
        return path
    if os.path.lexists(path):
        raise ExistsError(
            f"{path} already exists: a signature by another key or of another manifest",
            hint=f"remove it and sign again: rm {path}",
        )
    with new_file(path) as file:
        file.write(signature)
    return path
