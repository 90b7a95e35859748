"""The key folder that is attacked, and another one that an attacker may have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lcve_deploy.artifact import KeyFolder, KeyManifest, PublicKey, find_keys, open_key
from lcve_deploy.artifact.names import KEY_MANIFEST, KEYS
from lcve_deploy.attacks.holdings import Tensors
from lcve_deploy.clips import Scheme
from lcve_deploy.errors import ArtifactError
from lcve_deploy.model.output import OutputKind
from lcve_deploy.runtime.opening import checked_manifest
from lcve_deploy.verbs.audit.inputs import AuditInputs

__all__ = ["Subject", "find_subject", "read_other"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A key folder that is attacked, or that an attacker has in addition.

    Args:
        server: model folder.
        folder: key folder, checked for the model.
        tensors: its keyed tensors.
    """

    server: Path
    folder: KeyFolder
    tensors: Tensors

    @property
    def key(self) -> KeyManifest:
        """Manifest of the key folder."""
        return self.folder.manifest

    @property
    def scheme(self) -> Scheme:
        """Encryption scheme of model and clips."""
        return Scheme(self.key.binding.scheme)

    @property
    def hidden_classes(self) -> int | None:
        """Number of classes if the labels are hidden."""
        return self.folder.model.classes if self.key.labels == "hidden" else None

    def to_json(self) -> dict[str, str]:
        """Return what the report says of it."""
        binding = self.key.binding
        return {
            "key id": binding.key_id,
            "salt": binding.salt,
            "geometry": str(binding.geometry),
            **({} if self.scheme is Scheme.LCVE else {"scheme": str(self.scheme)}),
            **self._answer(),
        }

    def _answer(self) -> dict[str, str]:
        output = self.folder.model.result
        return {
            **({} if output.kind is OutputKind.LOGITS else {"output": str(output)}),
            **({"classes": f"{output.width}, labels {self.key.labels}"} if output.kind.has_labels else {}),
        }


def find_subject(server: Path, inputs: AuditInputs) -> Subject:
    """Open the key folder that is attacked: by name, or because it is the only one."""
    manifest, folders = checked_manifest(server, inputs.signed_by), find_keys(server)
    if inputs.name is None and len(folders) == 1:
        (path,) = folders.values()
    elif inputs.name in folders:
        path = folders[inputs.name]
    else:
        names = ", ".join(list(folders)[:5]) or "none"
        raise ArtifactError(
            f"expected the name of one of the {len(folders)} key folders in {server / KEYS}, received "
            f"{inputs.name or 'none'}; the first are {names}",
            hint="pass --key-name NAME",
        )
    folder = open_key(path, manifest, inputs.signed_by)
    return Subject(server=server, folder=folder, tensors=folder.tensors())


def read_other(path: Path, subject: Subject, signed_by: PublicKey | None) -> Subject:
    """Open another key folder of the same model."""
    if not (path / KEY_MANIFEST).is_file():
        raise ArtifactError(
            f"expected a key folder with {KEY_MANIFEST}, received {path}",
            hint=f"pass a folder of {KEYS}/, or the server/ of an enrolled key",
        )
    folder = open_key(path, checked_manifest(subject.server, signed_by), signed_by)
    return Subject(server=subject.server, folder=folder, tensors=folder.tensors())
