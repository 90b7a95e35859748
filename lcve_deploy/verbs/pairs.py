"""Read both sides of an artifact, and check that they belong together."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Final

from lcve_deploy.artifact import (
    Manifest,
    PublicKey,
    find_key,
    find_keys,
    read_client,
    read_key_manifest,
    read_manifest,
)
from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.client import Client
from lcve_deploy.errors import ArtifactError, MismatchError
from lcve_deploy.keys.secret import SecurityKey

__all__ = ["paired_client", "read_pair", "read_sides", "require_artifact"]

_MAX_READ: Final = 1024
"""Maximum key folders that are read to say which one a key has."""


def paired_client(artifact: Path, key: SecurityKey, signed_by: PublicKey | None = None) -> Client:
    """Open the client side of an artifact after checking that it belongs to the server side.

    Raises:
        ArtifactError, MismatchError, SignatureError: as for ``read_sides``.
    """
    return read_pair(artifact, key, signed_by)[1]


def read_pair(artifact: Path, key: SecurityKey, signed_by: PublicKey | None = None) -> tuple[Manifest, Client]:
    """Read manifest and client of an artifact folder with ``server/`` and ``client/``.

    Raises:
        ArtifactError, MismatchError, SignatureError: as for ``read_sides``.
    """
    require_artifact(artifact)
    _require_key_of_client(artifact, key)
    return read_sides(artifact / "server", artifact / "client", key, signed_by)


def require_artifact(artifact: Path) -> None:
    """Refuse a model folder where an artifact is expected.

    Raises:
        ArtifactError: the folder is the ``server/`` of an artifact.
    """
    if (artifact / MANIFEST).is_file():
        raise ArtifactError(
            f"expected a folder with server/ and client/, received a server folder: {artifact}",
            hint=f"pass {artifact.parent}",
        )


def _require_key_of_client(artifact: Path, key: SecurityKey) -> None:
    """Refuse a further key of the model, whose client folder is not that of the artifact; of many, the first are read.

    Raises:
        MismatchError: the key is not that of ``client/``, and ``server/keys`` has a folder of it.
    """
    if read_client(artifact / "client").settings.binding.key_id == key.key_id:
        return
    for name, folder in itertools.islice(find_keys(artifact / "server").items(), _MAX_READ):
        with contextlib.suppress(ArtifactError):  # a folder that is invalid is not of this key
            if read_key_manifest(folder).binding.key_id == key.key_id:
                raise MismatchError(
                    f"{artifact / 'client'} is of another key than the given one, whose key folder is {name}",
                    hint=f"pass {artifact / 'server'} together with the client folder that was made with this key",
                )


def read_sides(
    server: Path, client_folder: Path, key: SecurityKey, signed_by: PublicKey | None = None
) -> tuple[Manifest, Client]:
    """Read the model's manifest and the client of two folders, which need not have the same parent.

    Raises:
        ArtifactError: a folder is invalid.
        MismatchError: the key does not belong to the client folder, the folders are of different exports, or the model
            folder has no key folder for it.
        SignatureError: the pinned key has not signed the manifest of the model or of the key folder.
    """
    content = read_client(client_folder)
    client = Client.of(content.settings, key)
    manifest = read_manifest(server, signed_by)
    if manifest.digest != content.manifest_sha256:
        raise MismatchError(
            f"{client_folder} was not made with the manifest of {server}",
            hint="use server and client folders of the same export",
        )
    found = find_key(server, manifest, content.settings.binding.key, signed_by)
    theirs, ours = (found.manifest.labels, manifest.model.result), (content.settings.labels, content.settings.answer)
    if theirs != ours:
        raise MismatchError(
            f"{found.folder} answers {theirs[1]} with {theirs[0]} labels, {client_folder} expects {ours[1]} with "
            f"{ours[0]} labels",
            hint="use server and client folders of the same export",
        )
    return manifest, client
