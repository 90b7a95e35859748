"""Rotate the key of an artifact, as the owner. Needs no checkpoint, no torch and no engine."""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy.typing as npt

from lcve_deploy.artifact import (
    ClientFile,
    FileRecord,
    Manifest,
    carry_probe,
    check_keyed,
    copy_files,
    is_signed,
    list_engines,
    manifest_bytes,
    manifest_digest,
    match_rows,
    read_keyed,
    read_manifest,
    read_probe,
    record_of,
    verify_files,
    write_client,
    write_signature,
)
from lcve_deploy.artifact.delta import Delta, write_delta
from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.artifact.keyed import KEYED
from lcve_deploy.artifact.names import PROBE
from lcve_deploy.artifact.tensorfile import replace_tensors, write_parts
from lcve_deploy.cipher.clips import binding_of
from lcve_deploy.cipher.rotation import rotate_tensors
from lcve_deploy.client import Client
from lcve_deploy.clips import SALT_BYTES, Binding
from lcve_deploy.errors import ArtifactError, MismatchError
from lcve_deploy.files.writing import new_folder, require_absent
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.keys.signing import SigningKey
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.verbs._versions import installed_versions
from lcve_deploy.verbs.pairs import read_pair

if TYPE_CHECKING:
    from lcve_deploy.verbs._carry_over import CarriedEngine

__all__ = ["RotateOptions", "RotateResult", "rotate", "rotate_delta"]

_MADE_BY: Final = "lcve-deploy/rotate"
_MIB: Final = 2**20
_UNSIGNED_NOTE: Final = "the artifact was signed, and the rotated one is not: pass --signing-key to sign it"
_PARITY_NOTE: Final = "the parity figures are those of the export; a rotation reorders weights and changes none"


@dataclass(frozen=True, kw_only=True)
class RotateOptions:
    """The new key, the new salt and the signature of a rotation.

    Args:
        new_key: key of the rotated artifact; by default the same key, with a new salt.
        salt: 16 public bytes that differ from the artifact's salt; random by default.
        signing_key: key to sign the new manifest; without it, the manifest is not signed, even if the old one was.
    """

    new_key: SecurityKey | None = None
    salt: bytes | None = None
    signing_key: SigningKey | None = None


@dataclass(frozen=True, kw_only=True)
class RotateResult:
    """Result of ``rotate`` or ``rotate_delta``.

    Args:
        folder: the rotated artifact; for ``rotate_delta``, the folder with the delta and the new ``client/``.
        manifest: manifest of the rotated server side.
        notes: remarks for the owner.
        engines: outcome for each engine of the old artifact; empty for ``rotate_delta``.
    """

    folder: Path
    manifest: Manifest
    notes: tuple[str, ...]
    engines: tuple[CarriedEngine, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rotated:
    """A rotated artifact in memory, without the files that do not change."""

    base: str
    manifest: Manifest
    manifest_data: bytes
    signature: bytes | None
    client: ClientFile
    tensors: Mapping[str, npt.NDArray[Any]]
    files: Mapping[str, list[memoryview]]


def rotate(
    artifact: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    key: SecurityKey,
    options: RotateOptions = RotateOptions(),
    progress: Progress = silent,
) -> RotateResult:
    """Write an artifact under another key or salt. The folder appears complete or not at all.

    Engines are refitted or rebuilt and must pass the probe; an engine that fails is left out.

    Args:
        artifact: folder with ``server/`` and ``client/``; not changed.
        output: folder to create; must not exist.
        key: key of the artifact.
        options: new key, salt and signing key.
        progress: receives every step.

    Raises:
        ArtifactError: the artifact is invalid, or has no keyed file.
        MismatchError: the key is not the artifact's, its two sides do not belong together, or the salt is not new.
        ExistsError, WriteError: the output already exists, or cannot be written.
    """
    require_absent(output)
    root = Path(artifact)
    rotated = _rotate(root, key, options, progress)
    with new_folder(output) as stage:
        server = stage / "server"
        server.mkdir()
        _copy_unchanged(root / "server", server, rotated, progress)
        for name, parts in rotated.files.items():
            write_parts(server / name, parts)
        (server / MANIFEST).write_bytes(rotated.manifest_data)
        write_signature(server, rotated.signature)
        _write_client(stage, rotated.client)
        engines = _carry_over(root / "server", server, progress)
    return _result(root, output, rotated, engines)


def rotate_delta(
    artifact: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    key: SecurityKey,
    options: RotateOptions = RotateOptions(),
    progress: Progress = silent,
) -> RotateResult:
    """Write only what a rotation changes: ``rotation.safetensors`` for the operator, and a new ``client/``.

    The operator applies the delta to the old server folder with ``apply_delta``. Of files that do not change, only the
    size is checked here; ``apply_delta`` checks their digests.

    Args:
        artifact: folder with ``server/`` and ``client/``; not changed.
        output: folder to create; must not exist.
        key: key of the artifact.
        options: new key, salt and signing key.
        progress: receives every step.

    Raises:
        ArtifactError, MismatchError, ExistsError, WriteError: as for ``rotate``.
    """
    require_absent(output)
    root = Path(artifact)
    rotated = _rotate(root, key, options, progress)
    with new_folder(output) as stage, step(progress, "writing the delta"):
        write_delta(
            stage,
            Delta(
                base=rotated.base,
                manifest=rotated.manifest,
                manifest_data=rotated.manifest_data,
                tensors=rotated.tensors,
                signature=rotated.signature,
            ),
        )
        _write_client(stage, rotated.client)
    return _result(root, output, rotated)


def _rotate(root: Path, key: SecurityKey, options: RotateOptions, progress: Progress) -> _Rotated:
    """Compute everything that changes. Digests are computed in a second thread; both parts take about as long."""
    server = root / "server"
    with ThreadPoolExecutor(max_workers=1) as executor:
        with step(progress, "reading the artifact"):
            digests = executor.submit(_check_changing_files, server)
            manifest, client = read_pair(root, key)
            _check_sides(root, manifest, client)
            new = _new_orders(client, options.new_key or key, options.salt)
            digests.result()
            tensors, probe = read_keyed(server), read_probe(server, manifest)
            check_keyed(tensors, manifest.binding.geometry, manifest.classes)
        with step(progress, "reordering the keyed tensors"):
            moved = rotate_tensors(tensors, client.orders, new)
            keyed = replace_tensors(server / KEYED, moved)
            keyed_record = executor.submit(record_of, keyed)
            binding = binding_of(new, manifest.binding.layout)
            new_probe = carry_probe(probe, match_rows(tensors, moved, cubes=binding.geometry.cubes), binding)
            probe_file = replace_tensors(server / PROBE, {"clip": new_probe.clip, "logits": new_probe.logits})
        records = {KEYED: keyed_record.result(), PROBE: record_of(probe_file)}
    manifest = _rotated_manifest(manifest, binding, records)
    data = manifest_bytes(manifest)
    digest = record_of([memoryview(data)]).sha256
    return _Rotated(
        base=manifest_digest(server),
        manifest=manifest,
        manifest_data=data,
        signature=options.signing_key.sign(data) if options.signing_key else None,
        client=ClientFile(settings=dataclasses.replace(client.settings, binding=binding), manifest_sha256=digest),
        tensors=moved,
        files={KEYED: keyed, PROBE: probe_file},
    )


def _rotated_manifest(manifest: Manifest, binding: Binding, records: Mapping[str, FileRecord]) -> Manifest:
    version = installed_versions(["lcve-deploy"]).get("lcve-deploy", "unknown")
    return dataclasses.replace(
        manifest.with_binding(binding),
        files={**manifest.files, **records},
        made_by={**manifest.made_by, _MADE_BY: version},
    )


def _check_changing_files(server: Path) -> None:
    """Check the digests of the files that change, and the sizes of all; the others are checked when copied."""
    verify_files(server, read_manifest(server).files, read=(KEYED, PROBE))


def _check_sides(root: Path, manifest: Manifest, client: Client) -> None:
    settings = client.settings
    manifest.binding.require(settings.binding, here="server folder", there="client folder")
    if (manifest.labels, manifest.classes) != (settings.labels, len(settings.classes)):
        raise MismatchError(
            f"the server folder has {manifest.classes} classes with {manifest.labels} labels, the client folder "
            f"{len(settings.classes)} with {settings.labels} labels",
            hint="use server and client folders of the same export",
        )
    if KEYED not in manifest.files:
        raise ArtifactError(
            f"{root / 'server'} has no {KEYED}, so there is nothing to rotate", hint="export the artifact again"
        )


def _new_orders(client: Client, key: SecurityKey, salt: bytes | None) -> Orders:
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    if salt.hex() == client.settings.binding.salt:
        raise MismatchError(
            f"expected a new salt, received that of the artifact, {salt.hex()}",
            hint="omit the salt: a random one is used",
        )
    old = client.orders
    classes = None if old.label_order is None else len(old.label_order)
    return derive_orders(key, salt=salt, geometry=old.geometry, classes=classes)


def _copy_unchanged(source: Path, target: Path, rotated: _Rotated, progress: Progress) -> None:
    unchanged = {name: record for name, record in rotated.manifest.files.items() if name not in rotated.files}
    stage, total = "copying unchanged files (MiB)", 1 + sum(record.bytes for record in unchanged.values()) // _MIB
    progress(stage, 0, total)
    copy_files(source, target, unchanged, steps=lambda done: progress(stage, min(1 + done // _MIB, total - 1), total))
    progress(stage, total, total)


def _carry_over(old: Path, new: Path, progress: Progress) -> tuple[CarriedEngine, ...]:
    """Refit or rebuild the engines. The modules that build engines are loaded only if there are any."""
    if not list_engines(old):
        return ()
    from lcve_deploy.verbs._carry_over import carry_over_engines

    return carry_over_engines(old, new, progress=progress)


def _write_client(stage: Path, content: ClientFile) -> None:
    (stage / "client").mkdir()
    write_client(stage / "client", content)


def _result(
    root: Path, output: str | os.PathLike[str], rotated: _Rotated, engines: tuple[CarriedEngine, ...] = ()
) -> RotateResult:
    unsigned = rotated.signature is None and is_signed(root / "server")
    notes = (_PARITY_NOTE, _UNSIGNED_NOTE) if unsigned else (_PARITY_NOTE,)
    return RotateResult(folder=Path(output), manifest=rotated.manifest, notes=notes, engines=engines)
