"""Both sides of an artifact, once it is certain that they belong together."""

from __future__ import annotations

from pathlib import Path

from lcve_deploy.artifact import Manifest, PublicKey, manifest_data, parse_manifest, read_client, record_of
from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.client import Client
from lcve_deploy.errors import ArtifactError, MismatchError
from lcve_deploy.keys.secret import SecurityKey

__all__ = ["paired_client", "read_pair", "read_sides"]


def paired_client(artifact: Path, key: SecurityKey, signed_by: PublicKey | None = None) -> Client:
    """The client side of an artifact, once it is certain that it belongs to the server side.

    Raises:
        ArtifactError, MismatchError, SignatureError: as of ``read_sides``.
    """
    return read_pair(artifact, key, signed_by)[1]


def read_pair(artifact: Path, key: SecurityKey, signed_by: PublicKey | None = None) -> tuple[Manifest, Client]:
    """Manifest and client of an artifact folder, with ``server/`` and ``client/``.

    Raises:
        ArtifactError, MismatchError, SignatureError: as of ``read_sides``.
    """
    if (artifact / MANIFEST).is_file():
        raise ArtifactError(
            f"{artifact} is the server's side alone; with a key, both sides are needed", hint=f"pass {artifact.parent}"
        )
    return read_sides(artifact / "server", artifact / "client", key, signed_by)


def read_sides(
    server: Path, client_folder: Path, key: SecurityKey, signed_by: PublicKey | None = None
) -> tuple[Manifest, Client]:
    """Manifest and client of two folders, which may have come from different places.

    Raises:
        ArtifactError: one of them is invalid.
        MismatchError: another key than theirs, or folders of different exports.
        SignatureError: a key is pinned, and has not signed the manifest.
    """
    content = read_client(client_folder)
    client = Client.of(content.settings, key)
    data = manifest_data(server, signed_by)
    manifest = parse_manifest(data, server / MANIFEST)
    if record_of([memoryview(data)]).sha256 != content.manifest_sha256:
        raise MismatchError(
            f"the manifest of {server} is not the one that {client_folder} was made with",
            hint="use server and client folders of the same export",
        )
    return manifest, client
