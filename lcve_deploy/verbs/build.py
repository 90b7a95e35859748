"""Build: an engine from the graph of a server folder, on the operator's machine. No key, no checkpoint.

An engine appears under its name once it has answered the probe. One that this machine cannot run (built
ahead of time, or for another GPU) is kept as unproven, and opens nowhere until it has answered there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from lcve_deploy.artifact import (
    EngineKind,
    EngineRecord,
    Manifest,
    PublicKey,
    read_probe,
    record_files,
)
from lcve_deploy.artifact.digests import ENGINES
from lcve_deploy.artifact.engine_mac import authenticate
from lcve_deploy.artifact.engine_options import BUDGET, PROVIDER
from lcve_deploy.artifact.engine_secret import make_secret
from lcve_deploy.artifact.engines import Agreement, engine_folder, write_engine
from lcve_deploy.artifact.graph_files import GraphFiles, GraphSource, read_graph
from lcve_deploy.artifact.names import MODEL, PLAN
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import BuildError, DeviceError
from lcve_deploy.exporters.int8 import calibrate, write_quantised
from lcve_deploy.exporters.low_precision import write_low_precision
from lcve_deploy.exporters.tensorrt import PlanOptions, build_plan, refit_plan
from lcve_deploy.files.writing import new_folder, require_absent
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.libraries.tensorrt import find_tensorrt
from lcve_deploy.model.parity import compare
from lcve_deploy.model.precision import Precision
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
from lcve_deploy.runtime.opening import checked_manifest, open_engine
from lcve_deploy.runtime.probe import engine_budget, prove_engine
from lcve_deploy.runtime.session import Provider, Session, require_provider_options
from lcve_deploy.verbs._versions import installed_versions

__all__ = ["BuildOptions", "build"]

_TENSORRT: Final = (EngineKind.TENSORRT, EngineKind.TENSORRT_RTX)
_TYPED: Final = "typed"
_PACKAGES: Final = ("lcve-deploy", "onnxruntime", "onnxruntime-gpu", "openvino", "onnx-ir")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to build.

    Args:
        kind: runtime that is to run the engine.
        precision: of its matrix products.
        name: of the engine; by default kind and precision.
        budget: largest ``|Δlogit|`` from the float64 reference; by default the precision's.
        provider: execution provider, for ONNX Runtime.
        provider_options: as ONNX Runtime documents them, of those that are allowed.
        plan: how a TensorRT engine is built.
        signed_by: the public key of the artifact's owner, where it is pinned; it is no part of the engine.
        engine_secret: file with the secret by which this machine knows its own engines; by default the file that
            ``LCVE_ENGINE_SECRET`` names, or one in the user's state folder. Made if there is none.

    Raises:
        ValueError: a budget that is not finite and above zero.
        SessionError: provider options that are not allowed.
    """

    kind: EngineKind = EngineKind.ONNXRUNTIME
    precision: Precision = Precision.FP32
    name: str | None = None
    budget: float | None = None
    provider: Provider = Provider.CPU
    provider_options: Mapping[str, str] = field(default_factory=dict)
    plan: PlanOptions = field(default_factory=PlanOptions)
    signed_by: PublicKey | None = None
    engine_secret: Path | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and not (math.isfinite(self.budget) and self.budget > 0):
            raise ValueError(f"expected a finite budget above zero, received {self.budget}")
        require_provider_options(self.provider, self.provider_options)

    @property
    def engine_name(self) -> str:
        """The name, given or made."""
        provider = "" if self.provider is Provider.CPU else f"-{self.provider}"
        return self.name or f"{self.kind}{provider}-{self.precision}"


def build(
    server: str | os.PathLike[str],
    options: BuildOptions,
    *,
    clips: EncryptedClip | None = None,
    ranges: Mapping[str, float] | None = None,
    refit: Path | None = None,
    progress: Progress = silent,
) -> EngineRecord:
    """Build an engine of a server folder; it appears whole and right, or not at all.

    Args:
        server: the folder with ``manifest.json``.
        options: what to build.
        clips: encrypted clips: int8 is calibrated on them, and the answers of every engine to them are
            compared with the graph's own.
        ranges: of an earlier int8 engine, in place of a calibration.
        refit: a TensorRT plan to put this model's weights into, in place of a build.
        progress: told of every step.

    Returns:
        The record of the engine; without a proof where this machine cannot run it.

    Raises:
        ArtifactError: files that are not the manifest's.
        SignatureError: a key is pinned, and has not signed the manifest.
        ParityError: the engine's logits are over its budget; nothing is kept.
        BuildError, SessionError, MissingDependencyError: it cannot be built or opened.
        ExistsError: there is an engine of that name.
    """
    folder = Path(server)
    manifest = checked_manifest(folder, options.signed_by)
    graph = read_graph(folder / MODEL, manifest.files)
    secret = make_secret(folder, options.engine_secret)
    if clips is not None:
        manifest.binding.require(clips.binding, here="artifact", there="encrypted clip")
    _refuse_emulation(options)
    target = engine_folder(folder, options.engine_name)
    with _engines_folder(folder):
        require_absent(target)
        with new_folder(target) as stage:
            ranges = _ranges(graph, options, clips, ranges, progress)
            record = _make(graph, stage, manifest, options, ranges, refit, progress)
            record = _prove(folder, stage, manifest, record, clips, progress)
            record = authenticate(record, secret)
            write_engine(stage, record)
    return record


def _refuse_emulation(options: BuildOptions) -> None:
    """ONNX Runtime computes such graphs in float32 on x86 CPUs, silently, or not at all."""
    low = options.precision in (Precision.FP16, Precision.BF16)
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if options.kind is EngineKind.ONNXRUNTIME and options.provider is Provider.CPU and low and x86:
        raise BuildError(
            f"ONNX Runtime's CPU provider has no {options.precision} products on x86, and would not be faster",
            hint="choose int8, or another runtime",
        )


@contextlib.contextmanager
def _engines_folder(server: Path) -> Iterator[None]:
    """``engines/``, which goes again if nothing came of it."""
    folder = server / ENGINES
    folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # there are engines in it
            folder.rmdir()


def _ranges(
    graph: GraphFiles,
    options: BuildOptions,
    clips: EncryptedClip | None,
    ranges: Mapping[str, float] | None,
    progress: Progress,
) -> Mapping[str, float]:
    """Largest activations, for int8."""
    if options.precision is not Precision.INT8 or ranges:
        return ranges or {}
    if clips is None:
        raise BuildError(
            "an int8 engine is calibrated on encrypted clips, received none",
            hint="pass some, such as those that clients send: --clip a.lcve --clip b.lcve",
        )
    stage = "calibrating on encrypted clips"
    progress(stage, 0, len(clips.values))
    return calibrate(graph, clips.values, steps=lambda done, total: progress(stage, done, total))


def _make(
    graph: GraphFiles,
    stage: Path,
    manifest: Manifest,
    options: BuildOptions,
    ranges: Mapping[str, float],
    refit: Path | None,
    progress: Progress,
) -> EngineRecord:
    """Make the engine's files in the stage; the record that comes back has no proof yet."""
    record = EngineRecord(
        name=options.engine_name,
        kind=options.kind,
        precision=options.precision,
        builder=installed_versions(_PACKAGES),
        target="this machine",
        manifest_sha256=manifest.digest,
        options=_options_to_text(options),
        ranges=ranges,
    )
    engine_budget(record, manifest.parity)  # one that accepts anything is refused before the work
    if options.kind in _TENSORRT:
        record = _make_plan(graph, stage, manifest, options, record, refit, progress)
    elif _needs_graph(options):
        _write_graph(graph, stage / MODEL, options.precision, ranges, progress)
    return dataclasses.replace(record, files=record_files(stage))


def _options_to_text(options: BuildOptions) -> dict[str, str]:
    budget = {} if options.budget is None else {BUDGET: repr(options.budget)}
    if options.kind is not EngineKind.ONNXRUNTIME:
        return budget
    return {**options.provider_options, **budget, PROVIDER: str(options.provider)}


def _needs_graph(options: BuildOptions) -> bool:
    """OpenVINO computes the artifact's own graph in fp32, bf16 or fp16, as it is told."""
    own = options.kind is EngineKind.OPENVINO and options.precision is not Precision.INT8
    return not own and options.precision is not Precision.FP32


def _write_graph(
    source: GraphFiles, target: Path, precision: Precision, ranges: Mapping[str, float], progress: Progress
) -> None:
    with step(progress, f"writing the {precision} graph") as steps:
        if precision is Precision.INT8:
            write_quantised(source, target, ranges, steps=steps)
        else:
            write_low_precision(source, target, precision, steps=steps)


def _make_plan(
    source: GraphFiles,
    stage: Path,
    manifest: Manifest,
    options: BuildOptions,
    record: EngineRecord,
    refit: Path | None,
    progress: Progress,
) -> EngineRecord:
    """A TensorRT engine, from the artifact's graph or a typed one, which only a stripped plan keeps with it."""
    library = find_tensorrt(options.kind)
    graph: GraphSource = source
    if _needs_graph(options):
        graph = stage / _TYPED / MODEL if not options.plan.stripped else stage / MODEL
        graph.parent.mkdir(exist_ok=True)
        _write_graph(source, graph, options.precision, record.ranges, progress)
    if refit:
        with step(progress, "refitting the engine"):
            refit_plan(refit, graph, stage / PLAN, library=library)
        builder, target = {library.kind: library.version}, str(find_gpu())
    else:
        built = build_plan(
            graph,
            stage / PLAN,
            clips=manifest.input,
            logits=manifest.output,
            library=library,
            options=options.plan,
            progress=progress,
        )
        builder, target = dict(built.builder), built.target
    shutil.rmtree(stage / _TYPED, ignore_errors=True)
    return dataclasses.replace(
        record,
        builder={**record.builder, **builder},
        target=target,
        profile=options.plan.profile,
        options={**record.options, **options.plan.to_text()},
    )


def _prove(
    server: Path,
    stage: Path,
    manifest: Manifest,
    record: EngineRecord,
    clips: EncryptedClip | None,
    progress: Progress,
) -> EngineRecord:
    """The record with a proof, where this machine can run the engine and its answers are right."""
    progress("asking the probe", 0, 1)
    try:
        session = open_engine(stage, manifest, record, server=server)
    except DeviceError:
        if record.kind not in _TENSORRT:
            raise
        return record
    report, proof = prove_engine(session, read_probe(server, manifest), manifest.parity, record)
    report.require()
    progress("asking the probe", 1, 1)
    budget = engine_budget(record, manifest.parity)
    graph = read_graph(server / MODEL, manifest.files) if clips is not None else None
    agreement = _agreement(graph, session, clips, budget, progress) if graph and clips is not None else None
    return dataclasses.replace(record, proof=proof, agreement=agreement)


def _agreement(
    source: GraphFiles, session: Session, clips: EncryptedClip, budget: float, progress: Progress
) -> Agreement:
    """The engine's answers to encrypted clips, compared with those of the artifact's own graph.

    Raises:
        ParityError: they are further apart than the budget.
    """
    graph = OnnxRuntimeSession(source, session.model)  # whose digests, and signature, have been checked
    stage, total = "comparing with the artifact's graph", len(clips.values)
    expected, received = [], []
    for done in range(total):
        progress(stage, done, total)
        clip = EncryptedClip(values=clips.values[done : done + 1], binding=clips.binding)
        expected.append(graph.run(clip)[0])
        received.append(session.run(clip)[0])
    progress(stage, total, total)
    report = compare(np.stack(expected), np.stack(received), reference="the artifact's graph", tolerance=budget)
    report.require_agreement()
    return Agreement(clips=total, max_difference=report.max_difference, top1=report.top1_agreement)
