"""Build every engine that this machine can build, measure them, and keep the fastest within its budget."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from lcve_deploy.artifact import EngineKind, EngineRecord
from lcve_deploy.artifact.engine_mac import authenticate
from lcve_deploy.artifact.engine_secret import make_secret
from lcve_deploy.artifact.engines import engine_folder, list_engines, write_engine
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import BuildError, LcveError
from lcve_deploy.files.writing import remove_folder
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.model.precision import Precision
from lcve_deploy.progress import Progress, silent
from lcve_deploy.runtime.opening import checked_manifest, read_own_engine
from lcve_deploy.runtime.probe import ProbeReport, reprove
from lcve_deploy.verbs.build import BuildOptions, build, read_sample

__all__ = ["Candidate", "EngineChoice", "Selection", "build_fastest"]

_LIBRARIES: Final = {
    EngineKind.ONNXRUNTIME: "onnxruntime",
    EngineKind.OPENVINO: "openvino",
    EngineKind.TENSORRT: "tensorrt",
    EngineKind.TENSORRT_RTX: "tensorrt_rtx",
}


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """Which engines to try. If there are several, the fastest within its budget is kept.

    Args:
        kinds: runtimes to try; if there are several, those that are not installed are skipped.
        precisions: precisions of the matrix products to try.
        options: all other options; the budget applies to every candidate.

    Raises:
        ValueError: the options have an engine name, but there are several candidates.
    """

    kinds: tuple[EngineKind, ...] = tuple(EngineKind)
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    options: BuildOptions = field(default_factory=BuildOptions)

    def __post_init__(self) -> None:
        if not self.is_single and self.options.name:
            raise ValueError("a name is for a single engine; expected one kind and one precision with it")

    @property
    def is_single(self) -> bool:
        """Whether there is only one candidate."""
        return len(self.kinds) == len(self.precisions) == 1


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An engine that was tried.

    Args:
        name: engine name.
        record: record of the engine; None if it could not be built or exceeded its budget.
        reason: why it is not eligible; empty if it is.
    """

    name: str
    record: EngineRecord | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Result of ``build_fastest``.

    Args:
        fastest: record of the engine that is kept.
        candidates: all engines that were tried, in order.
    """

    fastest: EngineRecord
    candidates: tuple[Candidate, ...]

    @classmethod
    def of(cls, record: EngineRecord) -> Self:
        """Return the selection of a single engine."""
        return cls(fastest=record, candidates=(Candidate(name=record.name, record=record),))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            "engine": self.fastest.to_json(),
            "candidates": [
                {"name": c.name, "reason": c.reason, "engine": c.record.to_json() if c.record else None}
                for c in self.candidates
            ],
        }


def build_fastest(
    server: str | os.PathLike[str],
    choice: EngineChoice,
    *,
    clips: EncryptedClip | None = None,
    progress: Progress = silent,
) -> Selection:
    """Build every engine of a choice that this machine can run, and keep the fastest.

    Engines of this machine that already exist take part, and are never removed.

    Args:
        server: the folder with ``manifest.json``.
        choice: what to try. A single candidate is built as by ``build``, even if this machine cannot run it.
        clips: encrypted clips that calibrate int8 engines, and on which every engine is compared with the graph.
        progress: receives every step.

    Raises:
        BuildError: no engine could be built and proven on this machine.
        ArtifactError: the manifest is invalid, or files do not match it.
        MismatchError: the clips do not belong to the artifact, or it has no key folder for them.
        SignatureError: the pinned key has not signed the manifest.
    """
    folder = Path(server)
    manifest = checked_manifest(folder, choice.options.signed_by)
    if clips is not None:
        read_sample(folder, manifest, clips, choice.options.signed_by)
    options = [
        dataclasses.replace(choice.options, kind=kind, precision=precision)
        for kind in choice.kinds
        for precision in choice.precisions
    ]
    if choice.is_single:
        return Selection.of(build(folder, options[0], clips=clips, progress=progress))
    tried: list[Candidate] = []
    kept = list(list_engines(folder))
    try:
        tried.extend(_try(folder, option, clips, progress) for option in options if _can_run(option.kind))
        fastest = _fastest(tried)
        kept.append(fastest.name)
    finally:  # remove only engines that this call has built
        for candidate in tried:
            if candidate.record and candidate.name not in kept:
                remove_folder(engine_folder(folder, candidate.name))
    return Selection(fastest=fastest, candidates=tuple(tried))


def _can_run(kind: EngineKind) -> bool:
    """Return whether the library is installed and this machine has the device that it needs."""
    needs_gpu = kind in (EngineKind.TENSORRT, EngineKind.TENSORRT_RTX)
    return importlib.util.find_spec(_LIBRARIES[kind]) is not None and (not needs_gpu or find_gpu() is not None)


def _fastest(tried: Sequence[Candidate]) -> EngineRecord:
    proven = [(c.record.proof.milliseconds, c.name, c.record) for c in tried if c.record and c.record.proof]
    if not proven:
        raise BuildError(
            f"no engine could be built and proven here: {'; '.join(f'{c.name}: {c.reason}' for c in tried)}",
            hint="install a runtime, such as lcve-deploy[cpu] or lcve-deploy[openvino], or pass a larger --budget",
        )
    return min(proven)[2]


def _existing(server: Path, options: BuildOptions) -> Candidate:
    """Run the probe again on an engine that already exists."""
    name = options.engine_name
    report, record = reprove(
        server, name, budget=options.budget, signed_by=options.signed_by, engine_secret=options.engine_secret
    )
    if not report.ok:
        _withdraw_proof(server, options, report)
        reason = f"already exists, and exceeds the budget: max |Δlogit| {report.max_difference:.2e}"
        return Candidate(name=name, record=None, reason=reason)
    return Candidate(name=name, record=record)


def _withdraw_proof(server: Path, options: BuildOptions, report: ProbeReport) -> None:
    """Remove the proof of an engine that exceeds the budget in its own proof, not only the budget of this choice."""
    record = read_own_engine(server, options.engine_name, options.engine_secret)
    if record.proof is not None and not report.max_difference <= record.proof.budget:
        unproven = authenticate(dataclasses.replace(record, proof=None), make_secret(server, options.engine_secret))
        write_engine(engine_folder(server, record.name), unproven)


def _try(server: Path, options: BuildOptions, clips: EncryptedClip | None, progress: Progress) -> Candidate:
    name = options.engine_name
    try:
        if name in list_engines(server):
            return _existing(server, options)
        record = build(
            server, options, clips=clips, progress=lambda stage, *steps: progress(f"{name}: {stage}", *steps)
        )
    except LcveError as error:
        return Candidate(name=name, record=None, reason=str(error))
    return Candidate(name=name, record=record, reason="" if record.proof else "cannot run here")
