"""Apply a key rotation to a server folder, as the operator. Needs no key and no torch.

The probe is converted with the old and the new keyed tensors alone: equal rows show how the orders changed. Anyone who
kept an old artifact can do the same, so a rotation gives no forward secrecy against them.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.artifact import (
    Manifest,
    PublicKey,
    carry_probe,
    check_keyed,
    copy_files,
    manifest_data,
    match_rows,
    parse_manifest,
    read_keyed,
    read_probe,
    record_of,
    verify_files,
    write_signature,
)
from lcve_deploy.artifact.delta import Delta, read_delta
from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.artifact.keyed import KEYED
from lcve_deploy.artifact.names import PROBE
from lcve_deploy.artifact.tensorfile import replace_tensors, write_parts
from lcve_deploy.errors import ArtifactError, MismatchError
from lcve_deploy.files.writing import new_folder, require_absent
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.runtime import ProbeReport
from lcve_deploy.runtime.opening import open_server
from lcve_deploy.runtime.probe import probe_session
from lcve_deploy.verbs._carry_over import CarriedEngine, carry_over_engines

__all__ = ["ApplyResult", "apply_delta"]

_CHANGED: Final = (KEYED, PROBE)


@dataclass(frozen=True, kw_only=True)
class ApplyResult:
    """Result of ``apply_delta``.

    Args:
        folder: the rotated server folder.
        manifest: its manifest.
        probe: how the rotated model answers the probe.
        engines: outcome for each engine of the old folder.
    """

    folder: Path
    manifest: Manifest
    probe: ProbeReport
    engines: tuple[CarriedEngine, ...]


def apply_delta(
    server: str | os.PathLike[str],
    delta: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    signed_by: PublicKey | None = None,
    progress: Progress = silent,
) -> ApplyResult:
    """Apply a key rotation to a server folder, and write the result to a new folder.

    The output appears only after the rotated model has passed the probe. Engines are refitted or rebuilt and must pass
    it too; an engine that fails is left out.

    Args:
        server: current server folder; not changed.
        delta: ``rotation.safetensors`` from the owner.
        output: folder to create; must not exist.
        signed_by: pinned public key of the owner; must have signed the old and the new manifest.
        progress: receives every step.

    Raises:
        ArtifactError: the server folder or the delta is invalid.
        SignatureError: the pinned key has not signed one of the manifests; nothing is written.
        MismatchError: the delta was made for another artifact.
        ParityError: the rotated model fails the probe; nothing is written.
        SessionError, MissingDependencyError: the rotated model cannot be opened; nothing is written.
        ExistsError, WriteError: the output already exists, or cannot be written.
    """
    require_absent(output)
    root = Path(server)
    with step(progress, "reading the delta"):
        data = manifest_data(root, signed_by)
        manifest, rotation = parse_manifest(data, root / MANIFEST), read_delta(Path(delta), signed_by)
        _check_delta(root, record_of([memoryview(data)]).sha256, manifest, rotation)
        verify_files(root, manifest.files, read=_CHANGED)
    with new_folder(output) as stage:
        with step(progress, "writing the server folder"):
            copy_files(root, stage, {n: record for n, record in manifest.files.items() if n not in _CHANGED})
            _write_changed(root, stage, manifest, rotation)
        with step(progress, "running the probe"):
            report = _run_probe(stage)
        engines = carry_over_engines(root, stage, progress=progress)
    return ApplyResult(folder=Path(output), manifest=rotation.manifest, probe=report, engines=engines)


def _check_delta(root: Path, digest: str, manifest: Manifest, delta: Delta) -> None:
    """Check that a delta was made for this manifest, and changes only what a rotation may change."""
    if delta.base != digest:
        raise MismatchError(
            f"the delta was made for another artifact: expected a delta for the manifest {digest[:16]}... of {root}, "
            f"received one for {delta.base[:16]}...",
            hint="apply deltas in the order in which they were made, each to the server folder that it was made from",
        )
    binding = manifest.binding
    reverted = dataclasses.replace(
        delta.manifest,
        model=dataclasses.replace(
            delta.manifest.model,
            binding=dataclasses.replace(delta.manifest.binding, key_id=binding.key_id, salt=binding.salt),
        ),
        files={**delta.manifest.files, **{name: manifest.files[name] for name in _CHANGED if name in manifest.files}},
        made_by=manifest.made_by,
    )
    if reverted != manifest or KEYED not in manifest.files:
        raise ArtifactError(
            "the delta is not a key rotation of this artifact: its manifest changes more than the key",
            hint="ask the owner for a complete artifact",
        )


def _write_changed(root: Path, stage: Path, manifest: Manifest, delta: Delta) -> None:
    """Write keyed tensors, probe, manifest and signature. Their digests are checked when the session opens."""
    old, binding = read_keyed(root), manifest.binding
    check_keyed(old, binding.geometry, manifest.classes)
    probe = carry_probe(
        read_probe(root, manifest), match_rows(old, delta.tensors, cubes=binding.geometry.cubes), binding
    )
    write_parts(stage / KEYED, replace_tensors(root / KEYED, delta.tensors))
    write_parts(stage / PROBE, replace_tensors(root / PROBE, {"clip": probe.clip, "logits": probe.logits}))
    (stage / MANIFEST).write_bytes(delta.manifest_data)
    write_signature(stage, delta.signature)


def _run_probe(stage: Path) -> ProbeReport:
    manifest, session = open_server(stage)
    report = probe_session(session, read_probe(stage, manifest), manifest.parity)
    report.require()
    return report
