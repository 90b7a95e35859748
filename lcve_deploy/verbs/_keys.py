"""What the owner's verbs write: manifests, and key folders and clients made from those of another key."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import (
    ClientFile,
    ClientSettings,
    KeyManifest,
    Manifest,
    Probe,
    manifest_data,
    parse_manifest,
    write_client,
    write_key_folder,
    write_manifest,
    write_signature,
)
from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.artifact.key_folder import key_manifest_bytes
from lcve_deploy.artifact.names import KEY_SIGNATURE
from lcve_deploy.cipher.clips import binding_of, reencrypt
from lcve_deploy.cipher.rotation import reorder_output, rotate_tensors
from lcve_deploy.clips import SALT_BYTES, Binding, EncryptedClip, Layout
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.keys.signing import SigningKey
from lcve_deploy.runtime import Session
from lcve_deploy.verbs._versions import installed_versions

__all__ = ["KeyContent", "Tensors", "new_salt", "run_together", "write_client_side", "write_signed"]

_SOFTWARE: Final = ("lcve-deploy", "numpy")

Tensors = Mapping[str, npt.NDArray[Any]]


def new_salt() -> bytes:
    """Return a random salt."""
    return secrets.token_bytes(SALT_BYTES)


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyContent:
    """Keyed tensors and probe of a model under one key.

    Args:
        orders: of the key.
        layout: layout of encrypted clips.
        tensors: keyed tensors by name, without the axis of the keys.
        probe: random ciphertext and the reference's logits in the label order of the key.
    """

    orders: Orders
    layout: Layout
    tensors: Tensors
    probe: Probe

    @property
    def binding(self) -> Binding:
        """Binding of clips under this key."""
        return binding_of(self.orders, self.layout)

    @property
    def labels(self) -> str:
        """``hidden`` or ``shown``."""
        return "shown" if self.orders.label_order is None else "hidden"

    def orders_of(self, key: SecurityKey, salt: bytes) -> Orders:
        """Return the orders of another key of the same model, with the labels hidden or shown as here."""
        hidden = self.orders.label_order
        classes = None if hidden is None else len(hidden)
        orders = self.orders
        return derive_orders(key, salt=salt, geometry=orders.geometry, classes=classes, scheme=orders.scheme)

    def under(self, orders: Orders) -> KeyContent:
        """Return the same under other orders. Every number moves once, and none changes."""
        clip = reencrypt(EncryptedClip(values=self.probe.clip, binding=self.binding), self.orders, orders)
        return KeyContent(
            orders=orders,
            layout=self.layout,
            tensors=rotate_tensors(self.tensors, self.orders, orders),
            probe=Probe(
                clip=clip.values,
                logits=reorder_output(self.probe.logits, self.orders, orders),
            ),
        )

    def under_no_key(self) -> KeyContent:
        """Return the same under a random key that is not kept: what the probe of the model contains."""
        return self.under(self.orders_of(SecurityKey.create(), new_salt()))

    def as_model_probe(self) -> Probe:
        """Return the probe with its tensors, as a model folder stores it."""
        return dataclasses.replace(self.probe, tensors=self.tensors)

    def write(self, folder: Path, *, model_sha256: str, signing_key: SigningKey | None) -> KeyManifest:
        """Write a key folder into an empty folder that is being staged.

        Args:
            folder: empty folder.
            model_sha256: digest of the model's manifest.
            signing_key: signs ``key.json``; None writes no signature.
        """
        manifest = write_key_folder(
            folder,
            binding=self.binding,
            labels=self.labels,
            model_sha256=model_sha256,
            tensors=self.tensors,
            probe=self.probe,
            made_by=installed_versions(_SOFTWARE),
        )
        signature = signing_key.sign_key(key_manifest_bytes(manifest)) if signing_key else None
        write_signature(folder, signature, KEY_SIGNATURE)
        return manifest


def run_together(session: Session, *contents: KeyContent) -> list[npt.NDArray[np.float32]]:
    """Run the probes of several keys in one batch, so that the graph must keep the keys apart.

    Returns:
        The logits of each probe, float32 ``[clips, classes]``, in the label order of its key.
    """
    for content in contents:
        session.bank.put(content.binding.key, content.tensors)
    clips = [EncryptedClip(values=content.probe.clip, binding=content.binding) for content in contents]
    logits = session.run_batch(clips)
    ends = np.cumsum([len(content.probe.clip) for content in contents])
    return np.split(logits, ends[:-1])


def write_signed(server: Path, manifest: Manifest, signing_key: SigningKey | None) -> Manifest:
    """Write the manifest of a model folder that is being staged, and its signature if there is a signing key.

    Returns:
        The manifest as it was written, with its digest.
    """
    write_manifest(server, manifest)
    data = manifest_data(server)
    write_signature(server, signing_key.sign(data) if signing_key else None)
    return parse_manifest(data, server / MANIFEST)


def write_client_side(folder: Path, settings: ClientSettings, binding: Binding, manifest_sha256: str) -> None:
    """Write ``client.json`` with the binding of a key into an empty folder that is being staged."""
    settings = dataclasses.replace(settings, binding=binding)
    write_client(folder, ClientFile(settings=settings, manifest_sha256=manifest_sha256))
