"""Convert an artifact of format 1, as the owner: one key inside the model becomes a key folder. Needs no checkpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.artifact import (
    Manifest,
    ModelSpec,
    TensorSpec,
    is_signed,
    list_engines,
    record_files,
    verify_files,
    write_probe,
)
from lcve_deploy.artifact.client_settings import ClientFile
from lcve_deploy.artifact.digests import hold_checked
from lcve_deploy.artifact.format_1 import OldManifest, read_old_client, read_old_manifest
from lcve_deploy.artifact.key_folder import require_key_name
from lcve_deploy.artifact.names import BANK_PREFIX, KEYS, MODEL, PROBE
from lcve_deploy.artifact.probe import parse_probe
from lcve_deploy.client import Client
from lcve_deploy.errors import MismatchError
from lcve_deploy.exporters.converting import split_v1
from lcve_deploy.files.writing import new_folder, require_absent
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.keys.signing import SigningKey
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
from lcve_deploy.runtime.probing import check_answer
from lcve_deploy.verbs._keys import KeyContent, Tensors, run_together, write_client_side, write_signed
from lcve_deploy.verbs._versions import installed_versions

__all__ = ["ConvertResult", "convert"]

_MADE_BY: Final = "lcve-deploy/convert"


@dataclass(frozen=True, kw_only=True)
class ConvertResult:
    """Result of ``convert``.

    Args:
        folder: the artifact in the format of today.
        manifest: manifest of the model.
        notes: remarks for the owner.
    """

    folder: Path
    manifest: Manifest
    notes: tuple[str, ...]


def convert(
    artifact: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    key: SecurityKey,
    key_name: str = "main",
    signing_key: SigningKey | None = None,
    progress: Progress = silent,
) -> ConvertResult:
    """Write an artifact of format 1 in the format of today. The folder appears complete or not at all.

    No weight changes, and the converted model must answer the old probe. Clips that were encrypted for the old artifact
    can be used with the new one. Engines are not carried over, because their graphs have other inputs.

    Args:
        artifact: folder with ``server/`` and ``client/`` of format 1; not changed.
        output: folder to create; must not exist.
        key: key of the artifact.
        key_name: name of the key folder in ``server/keys``.
        signing_key: signs the manifests of the model and of the key; by default they are not signed.
        progress: receives every step.

    Raises:
        ArtifactError: the artifact is invalid, or is not of format 1.
        MismatchError: the key does not belong to the artifact, or its two sides do not belong together.
        ParityError: the converted model fails the probe; nothing is written.
        ExistsError, WriteError: the output already exists, or cannot be written.
        MissingDependencyError: onnx-ir or ONNX Runtime is not installed.
    """
    require_absent(output)
    require_key_name(key_name)
    root = Path(artifact)
    with step(progress, "reading the artifact"):
        old, content = _read(root)
        client = Client.of(content.settings, key)
    with new_folder(output) as stage:
        server, folder = stage / "server", stage / "server" / KEYS / key_name
        server.mkdir()
        with step(progress, "writing the graph") as steps:
            tensors = split_v1(root / "server" / MODEL, server / MODEL, steps=steps)
        model = _model(old, tensors)
        with step(progress, "running the probe"):
            moved = _check(root / "server", server, old, model, client, tensors)
        manifest = _write_manifest(server, old, model, signing_key)
        folder.mkdir(parents=True)
        moved.write(folder, model_sha256=manifest.digest, signing_key=signing_key)
        (stage / "client").mkdir()
        write_client_side(stage / "client", client.settings, moved.binding, manifest.digest)
    return ConvertResult(folder=Path(output), manifest=manifest, notes=_notes(root / "server", signing_key))


def _read(root: Path) -> tuple[OldManifest, ClientFile]:
    old, content = read_old_manifest(root / "server"), read_old_client(root / "client")
    if old.digest != content.manifest_sha256:
        raise MismatchError(
            f"{root / 'client'} was not made with the manifest of {root / 'server'}",
            hint="use server and client folders of the same export",
        )
    old.binding.require(content.settings.binding, here="server folder", there="client folder")
    if old.labels != content.settings.labels:
        raise MismatchError(
            f"the server folder has {old.labels} labels, the client folder {content.settings.labels} labels",
            hint="use server and client folders of the same export",
        )
    verify_files(root / "server", old.files)
    return old, content


def _model(old: OldManifest, tensors: Tensors) -> ModelSpec:
    return ModelSpec(
        scheme=old.binding.scheme,
        geometry=old.binding.geometry,
        layout=old.binding.layout,
        input=old.input,
        bank=tuple(
            TensorSpec(name=f"{BANK_PREFIX}{name}", dtype=str(tensor.dtype), shape=(None, *tensor.shape))
            for name, tensor in tensors.items()
        ),
        output=old.output,
    )


def _check(
    old_server: Path, server: Path, old: OldManifest, model: ModelSpec, client: Client, tensors: Tensors
) -> KeyContent:
    """Require that the new graph answers the old probe, also under a key that is not kept; write the model's probe."""
    data = bytes(hold_checked(old_server, PROBE, old.files, mapped=False).data)
    probe = parse_probe(data, old_server / PROBE, model, with_tensors=False)
    content = KeyContent(orders=client.orders, layout=model.layout, tensors=tensors, probe=probe)
    no_key = content.under_no_key()
    answers = run_together(OnnxRuntimeSession(server / MODEL, model), content, no_key)
    for part, logits in zip((content, no_key), answers, strict=True):
        check_answer(part.probe, logits, old.parity).require()
    write_probe(server, no_key.as_model_probe())
    return content


def _write_manifest(server: Path, old: OldManifest, model: ModelSpec, signing_key: SigningKey | None) -> Manifest:
    version = installed_versions(["lcve-deploy"]).get("lcve-deploy", "unknown")
    manifest = Manifest(
        model=model,
        precision=old.precision,
        opset=old.opset,
        files=record_files(server),
        parity=old.parity,
        made_by={**old.made_by, _MADE_BY: version},
    )
    return write_signed(server, manifest, signing_key)


def _notes(server: Path, signing_key: SigningKey | None) -> tuple[str, ...]:
    notes = ["the parity figures are those of the export; a conversion changes no number"]
    if engines := list_engines(server):
        notes.append(f"engines are not carried over: {', '.join(engines)}; build them again with lcve build")
    if is_signed(server) and signing_key is None:
        notes.append("the artifact was signed, and the converted one is not: pass --signing-key to sign it")
    return tuple(notes)
