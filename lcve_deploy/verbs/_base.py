"""The key of an artifact that further keys are made from, as the owner. Needs no checkpoint and no engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lcve_deploy.artifact import (
    ClientSettings,
    KeyManifest,
    Manifest,
    find_keys,
    is_signed,
    open_key,
    read_client,
    read_key_manifest,
    read_manifest,
)
from lcve_deploy.artifact.key_folder import KeyFolder
from lcve_deploy.artifact.names import KEY_SIGNATURE, KEYS
from lcve_deploy.cipher.clips import binding_of
from lcve_deploy.errors import ArtifactError, MismatchError
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.keys.signing import SigningKey
from lcve_deploy.verbs._keys import KeyContent, write_client_side
from lcve_deploy.verbs.pairs import require_artifact

__all__ = ["KeyBase"]


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyBase:
    """A key of an artifact with its tensors and probe, read and checked once for any number of new keys.

    Args:
        manifest: of the model.
        settings: of the artifact's client; new clients differ in the binding.
        content: tensors and probe of the key.
        signed: whether its key folder is signed.
    """

    manifest: Manifest
    settings: ClientSettings
    content: KeyContent
    signed: bool

    @classmethod
    def open(cls, artifact: Path, key: SecurityKey) -> KeyBase:
        """Read a key of an artifact, and check its files.

        Args:
            artifact: folder with ``server/`` and ``client/``.
            key: a key whose folder is in ``server/keys``.

        Raises:
            ArtifactError: the artifact or the key folder is invalid.
            MismatchError: the two sides do not belong together, or ``server/keys`` has no folder of this key.
        """
        require_artifact(artifact)
        server, client = artifact / "server", read_client(artifact / "client")
        manifest = read_manifest(server)
        if manifest.digest != client.manifest_sha256:
            raise MismatchError(
                f"{artifact / 'client'} was not made with the manifest of {server}",
                hint="use server and client folders of the same export",
            )
        folder = _folder_of(server, manifest, key)
        folder.verify()
        orders = _orders_of(folder.manifest, manifest, key)
        content = KeyContent(
            orders=orders, layout=manifest.model.layout, tensors=folder.tensors(), probe=folder.probe()
        )
        _require_same_labels(folder, client.settings)
        signed = is_signed(folder.folder, KEY_SIGNATURE)
        return cls(manifest=manifest, settings=client.settings, content=content, signed=signed)

    def write(self, stage: Path, orders: Orders, signing_key: SigningKey | None) -> KeyManifest:
        """Write ``server/`` and ``client/`` of other orders into a folder that is being staged."""
        new = self.content.under(orders)
        for side in ("server", "client"):
            (stage / side).mkdir()
        write_client_side(stage / "client", self.settings, new.binding, self.manifest.digest)
        return new.write(stage / "server", model_sha256=self.manifest.digest, signing_key=signing_key)


def _folder_of(server: Path, manifest: Manifest, key: SecurityKey) -> KeyFolder:
    """Return the first key folder of a key, whatever its salt."""
    problems = []
    for path in find_keys(server).values():
        try:
            if read_key_manifest(path).binding.key_id == key.key_id:
                return open_key(path, manifest)
        except ArtifactError as error:
            problems.append(str(error))
    raise MismatchError(
        f"{server / KEYS} has no key folder of the key {key.key_id}" + "".join(f"; {problem}" for problem in problems),
        hint="pass the key that the artifact was exported with",
    )


def _orders_of(key: KeyManifest, manifest: Manifest, secret: SecurityKey) -> Orders:
    binding = key.binding
    classes = manifest.classes if key.labels == "hidden" else None
    orders = derive_orders(
        secret,
        salt=bytes.fromhex(binding.salt),
        geometry=binding.geometry,
        classes=classes,
        scheme=binding.scheme,
    )
    binding.require(binding_of(orders, binding.layout), here="key folder", there="key")
    return orders


def _require_same_labels(folder: KeyFolder, settings: ClientSettings) -> None:
    theirs, ours = (folder.manifest.labels, folder.model.result), (settings.labels, settings.answer)
    if theirs != ours:
        raise MismatchError(
            f"{folder.folder} answers {theirs[1]} with {theirs[0]} labels, the client folder expects {ours[1]} with "
            f"{ours[0]} labels",
            hint="use server and client folders of the same export",
        )
