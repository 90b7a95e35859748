"""Read both sides of an artifact, and check that they belong together."""

from __future__ import annotations

from pathlib import Path

from lcve_deploy.artifact import Manifest, PublicKey, manifest_data, parse_manifest, record_of
from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.client import Client
from lcve_deploy.errors import ArtifactError, MismatchError
from lcve_deploy.keys.secret import SecurityKey

__all__ = ["paired_client", "read_pair"]


def paired_client(artifact: Path, key: SecurityKey, signed_by: PublicKey | None = None) -> Client:
    """The client side of an artifact, once it is certain that it belongs to the server side.

    Raises:
        ArtifactError, MismatchError: it does not, or one of them does not hold.
        SignatureError: a key is pinned, and has not signed the manifest.
    """
    return read_pair(artifact, key, signed_by)[1]


def read_pair(artifact: Path, key: SecurityKey, signed_by: PublicKey | None = None) -> tuple[Manifest, Client]:
    """What both sides of an artifact say, once it is certain that they belong together.

    Raises:
        ArtifactError, MismatchError: it does not, or one of them does not hold.
        SignatureError: a key is pinned, and has not signed the manifest.
    """
    if (artifact / "manifest.json").is_file():
        raise ArtifactError(
            f"{artifact} is the server's side alone; with a key, both sides are needed", hint=f"pass {artifact.parent}"
        )
    client = Client.open(artifact / "client", key)
    data = manifest_data(artifact / "server", signed_by)
    manifest = parse_manifest(data, artifact / "server" / MANIFEST)
    if record_of([memoryview(data)]).sha256 != client.settings.manifest_sha256:
        raise MismatchError(
            f"the manifest of {artifact / 'server'} is not the one that {artifact / 'client'} was made with",
            hint="use server and client folders of the same export",
        )
    return manifest, client
