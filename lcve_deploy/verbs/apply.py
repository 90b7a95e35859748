"""Add key folders from the owner to a model folder, as the operator. Needs no key and no torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcve_deploy.artifact import KeyFolder, Manifest, PublicKey, find_keys, open_key, read_key_manifest
from lcve_deploy.artifact.key_folder import key_manifest_digest, require_key_name
from lcve_deploy.artifact.names import KEY_MANIFEST, KEY_SIGNATURE, KEYS
from lcve_deploy.clips import KeyRef
from lcve_deploy.errors import ArtifactError, ExistsError, MismatchError, ParityError
from lcve_deploy.files.writing import new_folder, remove_folder
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.runtime import ProbeReport, Session, SessionOptions
from lcve_deploy.runtime.opening import open_server
from lcve_deploy.runtime.probing import check_answer

__all__ = ["AddedKey", "add_keys", "remove_key", "require_key"]


@dataclass(frozen=True, kw_only=True)
class AddedKey:
    """A key folder of a model folder.

    Args:
        name: its name in ``keys/``.
        key: key id and salt.
        probe: how the model answers its probe; None if the same folder had been added before.
    """

    name: str
    key: KeyRef
    probe: ProbeReport | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        probe = self.probe.to_json() if self.probe else None
        return {"name": self.name, "key_id": self.key.key_id, "salt": self.key.salt, "probe": probe}


def add_keys(
    server: str | os.PathLike[str],
    folders: Mapping[str, Path],
    *,
    signed_by: PublicKey | None = None,
    progress: Progress = silent,
) -> tuple[AddedKey, ...]:
    """Copy key folders to ``keys/NAME`` of a model folder. Each appears complete and proven, or not at all.

    A folder is checked, copied under a hidden name, and renamed once the model has answered its probe with the copy.
    Servers that run the model see it then. Model, engines and other keys do not change. A folder that was added before
    is not added again, so the call can be repeated.

    Args:
        server: model folder.
        folders: key folders from the owner, by their names in ``keys/``.
        signed_by: pinned public key of the owner; must have signed the manifests of the model and of every key folder.
        progress: receives every key.

    Raises:
        ArtifactError: the model folder, a name or a key folder is invalid.
        SignatureError: the pinned key has not signed a manifest.
        MismatchError: a key folder was made for another model.
        ExistsError: the model folder has another key folder of that name, or one for the same key.
        ParityError: the model fails the probe of a key.
        SessionError, MissingDependencyError: the model cannot be opened.
        WriteError: ``keys/`` cannot be written.
    """
    root = Path(server)
    for name in folders:
        require_key_name(name)
    with step(progress, "opening the model"):
        manifest, session = open_server(root, SessionOptions(signed_by=signed_by, max_keys=1))
    adding = _Adding(server=root, manifest=manifest, session=session, signed_by=signed_by)
    added = []
    for done, (name, folder) in enumerate(folders.items()):
        progress("adding keys", done, len(folders))
        added.append(adding.add(name, folder))
    progress("adding keys", len(folders), len(folders))
    return tuple(added)


def remove_key(server: str | os.PathLike[str], name: str) -> None:
    """Remove a key folder of a model folder: servers see all of it or nothing.

    Raises:
        ArtifactError: the model folder has no key folder of that name.
        WriteError: it cannot be removed.
    """
    remove_folder(require_key(server, name))


def require_key(server: str | os.PathLike[str], name: str) -> Path:
    """Return the key folder of a name in a model folder, whatever is in it.

    Raises:
        ArtifactError: the model folder has no key folder of that name.
    """
    found = find_keys(Path(server))
    if name not in found:
        raise ArtifactError(
            f"{Path(server) / KEYS} has no key folder {name!r}", hint=f"there are: {', '.join(found) or 'none'}"
        )
    return found[name]


@dataclass(frozen=True, kw_only=True)
class _Adding:
    """A model folder and its opened model."""

    server: Path
    manifest: Manifest
    session: Session
    signed_by: PublicKey | None

    def add(self, name: str, source: Path) -> AddedKey:
        key = open_key(source, self.manifest, self.signed_by)
        key.verify()
        target = self.server / KEYS / name
        if os.path.lexists(target):
            self._require_same(target, key)
            return AddedKey(name=name, key=key.manifest.binding.key, probe=None)
        self._require_new(key)
        (self.server / KEYS).mkdir(exist_ok=True)
        with new_folder(target) as stage:
            for file in (KEY_MANIFEST, KEY_SIGNATURE, *key.manifest.files):
                if (source / file).is_file():
                    shutil.copyfile(source / file, stage / file)
            copy = open_key(stage, self.manifest, self.signed_by)
            copy.verify()
            report = self._prove(copy, source)
        return AddedKey(name=name, key=copy.manifest.binding.key, probe=report)

    def _prove(self, key: KeyFolder, source: Path) -> ProbeReport:
        probe = key.probe()
        report = check_answer(probe, self.session.run_with(probe.clip, key.tensors()), self.manifest.parity)
        if not report.ok:
            raise ParityError(
                f"the model fails the probe of the key folder {source}: max |Δlogit| {report.max_difference:.3g}, "
                f"tolerance {report.tolerance:.3g}",
                hint="ask the owner for the key folder again",
            )
        return report

    def _require_same(self, target: Path, key: KeyFolder) -> None:
        try:
            same = key_manifest_digest(target) == key.manifest.digest
        except ArtifactError:
            same = False
        if not same:
            raise ExistsError(
                f"{target} exists, and nothing is overwritten",
                hint="choose another name; clients change over while both keys are there, then remove the old one",
            )
        open_key(target, self.manifest, self.signed_by).verify()

    def _require_new(self, key: KeyFolder) -> None:
        """Refuse a second folder for one key, as a server could not tell which one to use."""
        for name, path in find_keys(self.server).items():
            try:
                known = read_key_manifest(path).binding.key
            except ArtifactError:  # a folder that is refused serves no key
                continue
            if known == key.manifest.binding.key:
                raise MismatchError(
                    f"the key folder {name} of {self.server} is for the same key and salt as {key.folder}",
                    hint="ask the owner for one with a new salt, or remove the old folder first",
                )
