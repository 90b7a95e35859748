"""Apply a key rotation to a server folder: the operator's verb. No key, no torch.

Nothing but the old and the new keyed tensors is needed to carry the probe over: equal rows show which
went where. So anyone who kept an old artifact can read what the new one reads: a rotation gives no
forward secrecy against them.
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
from lcve_deploy.artifact.tensorfile import rewritten, write_parts
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
    """What came out.

    Args:
        folder: the rotated server folder.
        manifest: of it.
        probe: how it answers the probe.
        engines: what became of each engine of the old folder.
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
    """Write a server folder again as a delta says; it appears once it has answered the probe.

    Engines are refitted or built again, and answer the probe too; one that cannot be is left out.

    Args:
        server: the operator's folder; stays as it is.
        delta: ``rotation.safetensors``, as the owner sent it.
        output: folder to make; must not exist.
        signed_by: the owner's public key, where it is pinned; it must have signed the old and the new manifest.
        progress: told of every step.

    Raises:
        ArtifactError: the server folder or the delta is invalid.
        SignatureError: a key is pinned, and has not signed one of the manifests; nothing is written.
        MismatchError: the delta was made for another artifact.
        ParityError: the rotated model fails the probe; nothing is written.
        SessionError, MissingDependencyError: the rotated model cannot be opened; nothing is written.
        ExistsError, WriteError: the output is there already, or cannot be written.
    """
    require_absent(output)
    root = Path(server)
    with step(progress, "reading the delta"):
        data = manifest_data(root, signed_by)
        manifest, change = parse_manifest(data, root / MANIFEST), read_delta(Path(delta), signed_by)
        _check_belongs(root, record_of([memoryview(data)]).sha256, manifest, change)
        verify_files(root, manifest.files, read=_CHANGED)
    with new_folder(output) as stage:
        with step(progress, "writing the server folder"):
            copy_files(root, stage, {n: record for n, record in manifest.files.items() if n not in _CHANGED})
            _write_changed(root, stage, manifest, change)
        with step(progress, "asking the probe"):
            report = _ask(stage)
        engines = carry_over_engines(root, stage, progress=progress)
    return ApplyResult(folder=Path(output), manifest=change.manifest, probe=report, engines=engines)


def _check_belongs(root: Path, digest: str, manifest: Manifest, delta: Delta) -> None:
    if delta.base != digest:
        raise MismatchError(
            f"the delta was made for another artifact: it goes with the manifest {delta.base[:16]}..., the one of "
            f"{root} is {digest[:16]}...",
            hint="apply deltas in the order in which they were made, each to the server folder that it was made from",
        )
    binding = manifest.binding
    unmoved = dataclasses.replace(
        delta.manifest,
        model=dataclasses.replace(
            delta.manifest.model,
            binding=dataclasses.replace(delta.manifest.binding, key_id=binding.key_id, salt=binding.salt),
        ),
        files={**delta.manifest.files, **{name: manifest.files[name] for name in _CHANGED if name in manifest.files}},
        made_by=manifest.made_by,
    )
    if unmoved != manifest or KEYED not in manifest.files:
        raise ArtifactError(
            "the delta is no key rotation of this artifact: its manifest changes more than the key",
            hint="ask the owner for a whole artifact",
        )


def _write_changed(root: Path, stage: Path, manifest: Manifest, delta: Delta) -> None:
    """Write keyed tensors, probe, manifest and its signature; the session checks their digests when it opens."""
    old, binding = read_keyed(root), manifest.binding
    check_keyed(old, binding.geometry, manifest.classes)
    probe = carry_probe(
        read_probe(root, manifest), match_rows(old, delta.tensors, cubes=binding.geometry.cubes), binding
    )
    write_parts(stage / KEYED, rewritten(root / KEYED, delta.tensors))
    write_parts(stage / PROBE, rewritten(root / PROBE, {"clip": probe.clip, "logits": probe.logits}))
    (stage / MANIFEST).write_bytes(delta.manifest_data)
    write_signature(stage, delta.signature)


def _ask(stage: Path) -> ProbeReport:
    manifest, session = open_server(stage)
    report = probe_session(session, read_probe(stage, manifest), manifest.parity)
    report.require()
    return report
