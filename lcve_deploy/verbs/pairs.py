"""Read both sides of an artifact, and check that they belong together."""

from __future__ import annotations

from pathlib import Path

from lcve_deploy.artifact import Manifest, PublicKey, manifest_data, parse_manifest, read_client, record_of
from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.client import Client
from lcve_deploy.errors import ArtifactError, MismatchError
from lcve_deploy.keys.secret import SecurityKey

__all__ = ["paired_client", "read_pair", "read_sides"]


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
    if (artifact / MANIFEST).is_file():
        raise ArtifactError(
            f"expected a folder with server/ and client/, received a server folder: {artifact}",
            hint=f"pass {artifact.parent}",
        )
    return read_sides(artifact / "server", artifact / "client", key, signed_by)


def read_sides(
    server: Path, client_folder: Path, key: SecurityKey, signed_by: PublicKey | None = None
) -> tuple[Manifest, Client]:
    """Read manifest and client of two folders, which need not have the same parent.

    Raises:
        ArtifactError: a folder is invalid.
        MismatchError: the key does not belong to the client folder, or the folders are of different exports.
        SignatureError: the pinned key has not signed the manifest.
    """
    content = read_client(client_folder)
    client = Client.of(content.settings, key)
    data = manifest_data(server, signed_by)
    manifest = parse_manifest(data, server / MANIFEST)
    if record_of([memoryview(data)]).sha256 != content.manifest_sha256:
        raise MismatchError(
            f"{client_folder} was not made with the manifest of {server}",
            hint="use server and client folders of the same export",
        )
    return manifest, client
