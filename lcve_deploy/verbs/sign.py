"""Sign the manifest of an artifact that exists: the owner's verb. No key of the artifact, no torch."""

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
    """Write ``manifest.sig`` into a server folder, once all files have their digests.

    Args:
        server: the folder with ``manifest.json``.
        signing_key: the owner's.

    Returns:
        The path of the signature; one by the same key over the same manifest stays as it is.

    Raises:
        ArtifactError: an invalid manifest, or files that are not its own.
        ExistsError: there is another signature.
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
            f"{path} is a signature by another key or of another manifest, and nothing is overwritten",
            hint=f"remove it and sign again: rm {path}",
        )
    with new_file(path) as file:
        file.write(signature)
    return path
