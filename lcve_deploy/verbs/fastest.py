"""Build what can be built here, measure, and keep the fastest engine that is within its budget."""

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
from lcve_deploy.verbs.build import BuildOptions, build

__all__ = ["Candidate", "EngineChoice", "Selection", "build_fastest"]

_LIBRARIES: Final = {
    EngineKind.ONNXRUNTIME: "onnxruntime",
    EngineKind.OPENVINO: "openvino",
    EngineKind.TENSORRT: "tensorrt",
    EngineKind.TENSORRT_RTX: "tensorrt_rtx",
}


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """Which engines to try; of several, the fastest within its budget is kept.

    Args:
        kinds: runtimes; of several, those that are installed.
        precisions: of the matrix products.
        options: all else; the budget holds for every candidate.
    """

    kinds: tuple[EngineKind, ...] = tuple(EngineKind)
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    options: BuildOptions = field(default_factory=BuildOptions)

    def __post_init__(self) -> None:
        if not self.is_single and self.options.name:
            raise ValueError("a name is for one engine; choose its kind and precision as well")

    @property
    def is_single(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.kinds) == len(self.precisions) == 1


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An engine that was tried.

    Args:
        name: of the engine.
        record: None where it could not be built or was over its budget.
        reason: why not; empty where it could.
    """

    name: str
    record: EngineRecord | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was tried, and which engine is kept."""

    fastest: EngineRecord
    candidates: tuple[Candidate, ...]

    @classmethod
    def of(cls, record: EngineRecord) -> Self:
        """An engine without a choice."""
        return cls(fastest=record, candidates=(Candidate(name=record.name, record=record),))

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
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
    """Build every engine of a choice that this machine's libraries can build, and keep the fastest.

    An engine of this machine that was there before takes part and stays, fastest or not.

    Args:
        server: the folder with ``manifest.json``.
        choice: what to try. With nothing to choose this is ``lcve_deploy.verbs.build.build``, and the
            engine may be one that this machine cannot run.
        clips: encrypted clips, for int8 and for the agreement.
        progress: told of every step.

    Raises:
        BuildError: no engine could be built and proven here.
        ArtifactError: files that are not the manifest's.
        SignatureError: a key is pinned, and has not signed the manifest.
    """
    folder = Path(server)
    manifest = checked_manifest(folder, choice.options.signed_by)
    if clips is not None:
        manifest.binding.require(clips.binding, here="artifact", there="encrypted clip")
    options = [
        dataclasses.replace(choice.options, kind=kind, precision=precision)
        for kind in choice.kinds
        for precision in choice.precisions
    ]
    if choice.is_single:
        return Selection.of(build(folder, options[0], clips=clips, progress=progress))
    before = list_engines(folder)
    tried: list[Candidate] = []
    kept = list(before)
    try:
        tried.extend(_try(folder, option, clips, progress) for option in options if _can_run(option.kind))
        fastest = _fastest(tried)
        kept.append(fastest.name)
    finally:  # what this run has made, and nothing that another has
        for candidate in tried:
            if candidate.record and candidate.name not in kept:
                remove_folder(engine_folder(folder, candidate.name))
    return Selection(fastest=fastest, candidates=tuple(tried))


def _can_run(kind: EngineKind) -> bool:
    """Whether the library is installed, and the device there that it needs."""
    needs_gpu = kind in (EngineKind.TENSORRT, EngineKind.TENSORRT_RTX)
    return importlib.util.find_spec(_LIBRARIES[kind]) is not None and (not needs_gpu or find_gpu() is not None)


def _fastest(tried: Sequence[Candidate]) -> EngineRecord:
    proven = [(c.record.proof.milliseconds, c.name, c.record) for c in tried if c.record and c.record.proof]
    if not proven:
        raise BuildError(
            f"no engine could be built and proven here: {'; '.join(f'{c.name}: {c.reason}' for c in tried)}",
            hint="install a runtime, such as lcve-deploy[cpu] or lcve-deploy[openvino], or name a larger --budget",
        )
    return min(proven)[2]


def _existing(server: Path, options: BuildOptions) -> Candidate:
    """An engine from before, which answers the probe again."""
    name = options.engine_name
    report, record = reprove(
        server, name, budget=options.budget, signed_by=options.signed_by, engine_secret=options.engine_secret
    )
    if not report.ok:
        _withdraw(server, options, report)
        reason = f"was there before, and is over the budget: max |Δlogit| {report.max_difference:.2e}"
        return Candidate(name=name, record=None, reason=reason)
    return Candidate(name=name, record=record)


def _withdraw(server: Path, options: BuildOptions, report: ProbeReport) -> None:
    """Take the proof from an engine that is over the budget of its own proof, and not of this choice alone."""
    known = read_own_engine(server, options.engine_name, options.engine_secret)
    if known.proof is not None and not report.max_difference <= known.proof.budget:
        unproven = authenticate(dataclasses.replace(known, proof=None), make_secret(server, options.engine_secret))
        write_engine(engine_folder(server, known.name), unproven)


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
