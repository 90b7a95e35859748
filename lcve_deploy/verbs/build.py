"""Build an engine from the graph of a server folder, on the operator's machine. Needs no key and no checkpoint.

An engine appears under its name only after it has passed the probe. An engine that this machine cannot run, because it
was built ahead of time or for another GPU, is kept as unproven; a machine opens it only after it has passed the probe
there.
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
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import (
    EngineKind,
    EngineRecord,
    Manifest,
    PublicKey,
    find_key,
    read_probe,
    record_files,
)
from lcve_deploy.artifact.digests import ENGINES
from lcve_deploy.artifact.engine_mac import authenticate
from lcve_deploy.artifact.engine_options import BUDGET, PROVIDER
from lcve_deploy.artifact.engine_secret import make_secret
from lcve_deploy.artifact.engines import Agreement, engine_folder, write_engine
from lcve_deploy.artifact.graph_files import GraphFiles, GraphSource, read_graph
from lcve_deploy.artifact.names import MODEL, PLAN, RUNTIME_CACHE
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import BuildError, DeviceError
from lcve_deploy.exporters.int8 import calibrate, write_quantised
from lcve_deploy.exporters.low_precision import write_low_precision
from lcve_deploy.exporters.tensorrt import PlanOptions, build_plan
from lcve_deploy.files.writing import new_folder, pinned_folder, require_absent
from lcve_deploy.libraries.tensorrt import find_tensorrt
from lcve_deploy.model.parity import compare
from lcve_deploy.model.precision import Precision
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
from lcve_deploy.runtime.backends.tensorrt import TensorRTSession
from lcve_deploy.runtime.opening import checked_manifest, open_engine
from lcve_deploy.runtime.probe import engine_budget, prove_engine
from lcve_deploy.runtime.session import Provider, Session, require_provider_options
from lcve_deploy.verbs._versions import installed_versions

__all__ = ["BuildOptions", "Sample", "build", "read_sample"]

_TENSORRT: Final = (EngineKind.TENSORRT, EngineKind.TENSORRT_RTX)
_GRAPH_FOLDER: Final = "typed"
_SOFTWARE: Final = ("lcve-deploy", "onnxruntime", "onnxruntime-gpu", "openvino", "onnx-ir")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to build.

    Args:
        kind: runtime of the engine.
        precision: precision of its matrix products.
        name: engine name; by default kind and precision.
        budget: largest ``|Δlogit|`` from the reference; by default that of the precision.
        provider: execution provider; ONNX Runtime only.
        provider_options: options of the execution provider, as ONNX Runtime documents them; only some are allowed.
        plan: how to build the plan; TensorRT only.
        signed_by: pinned public key of the artifact's owner; not recorded in the engine.
        engine_secret: file with the secret by which this machine knows its own engines; by default the file that
            ``LCVE_ENGINE_SECRET`` names, or one in the user's state folder. Created if it does not exist.

    Raises:
        ValueError: the budget is not finite and above zero.
        SessionError: a provider option is not allowed.
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
        """The name of the engine, given or by default."""
        provider = "" if self.provider is Provider.CPU else f"-{self.provider}"
        return self.name or f"{self.kind}{provider}-{self.precision}"


def build(
    server: str | os.PathLike[str],
    options: BuildOptions,
    *,
    clips: EncryptedClip | None = None,
    progress: Progress = silent,
) -> EngineRecord:
    """Build an engine of a server folder. It appears complete and within its budget, or not at all.

    It serves every key of the model.

    Args:
        server: the folder with ``manifest.json``.
        options: what to build.
        clips: encrypted clips of one key, which calibrate an int8 engine, and on which every engine is compared with
            the graph. The model folder must have the key folder.
        progress: receives every step.

    Returns:
        The record of the engine; without a proof if this machine cannot run it.

    Raises:
        ArtifactError: the manifest is invalid, or files do not match it.
        SignatureError: the pinned key has not signed the manifest.
        MismatchError: the clips do not belong to the artifact, or it has no key folder for them.
        ParityError: the engine's logits exceed its budget; nothing is kept.
        BuildError, SessionError, MissingDependencyError: the engine cannot be built or opened; nothing is kept.
        ExistsError: there is an engine of that name.
    """
    folder = Path(server)
    manifest = checked_manifest(folder, options.signed_by)
    graph = read_graph(folder / MODEL, manifest.files)
    secret = make_secret(folder, options.engine_secret)
    sample = read_sample(folder, manifest, clips, options.signed_by) if clips is not None else None
    _refuse_emulation(options)
    target = engine_folder(folder, options.engine_name)
    with _engines_folder(folder):
        require_absent(target)
        with new_folder(target) as stage, pinned_folder(stage) as pinned:
            job = _Build(
                server=folder,
                model_graph=graph,
                stage=pinned,
                manifest=manifest,
                options=options,
                sample=sample,
                progress=progress,
            )
            record = authenticate(_prove(job, _build_engine(job, _ranges(job))), secret)
            write_engine(stage, record)
    return record


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Encrypted clips to measure a model with.

    Args:
        clips: encrypted clips of one key.
        tensors: keyed tensors of the key, by name.
    """

    clips: EncryptedClip
    tensors: Mapping[str, npt.NDArray[Any]]


def read_sample(server: Path, manifest: Manifest, clips: EncryptedClip, signed_by: PublicKey | None) -> Sample:
    """Find the key folder of clips, and read its tensors.

    Raises:
        MismatchError: the clips do not belong to the model, or it has no key folder for them.
        ArtifactError, SignatureError: the key folder is refused.
    """
    manifest.model.require(clips.binding, here="model", there="encrypted clip")
    key = find_key(server, manifest, clips.binding.key, signed_by)
    return Sample(clips=clips, tensors=key.tensors())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Build:
    """One engine while it is being built: the arguments of ``build``, and what they resolve to.

    Args:
        server: server folder.
        model_graph: the artifact's graph and its files, as their digests were checked.
        stage: temporary folder for the engine's files.
        manifest: checked manifest of the server folder.
        options: what to build.
        sample: encrypted clips with the tensors of their key.
        progress: receives every step.
    """

    server: Path
    model_graph: GraphFiles
    stage: Path
    manifest: Manifest
    options: BuildOptions
    sample: Sample | None
    progress: Progress


def _refuse_emulation(options: BuildOptions) -> None:
    """Refuse fp16 and bf16 on x86 CPUs, where ONNX Runtime silently computes in float32, or fails."""
    low = options.precision in (Precision.FP16, Precision.BF16)
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if options.kind is EngineKind.ONNXRUNTIME and options.provider is Provider.CPU and low and x86:
        raise BuildError(
            f"ONNX Runtime's CPU provider does not compute {options.precision} products on x86",
            hint="choose int8, or another runtime",
        )


@contextlib.contextmanager
def _engines_folder(server: Path) -> Iterator[None]:
    """Create ``engines/``; remove it at the end if it is empty."""
    folder = server / ENGINES
    folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()


def _ranges(job: _Build) -> Mapping[str, float]:
    """Return the activation ranges of an int8 engine, by calibration; empty otherwise."""
    if job.options.precision is not Precision.INT8:
        return {}
    if job.sample is None:
        raise BuildError(
            "an int8 engine is calibrated on encrypted clips, received none",
            hint="pass some, such as those that clients send: --clip a.lcve --clip b.lcve",
        )
    stage, values = "calibrating on encrypted clips", job.sample.clips.values
    job.progress(stage, 0, len(values))
    return calibrate(
        job.model_graph, values, job.sample.tensors, steps=lambda done, total: job.progress(stage, done, total)
    )


def _build_engine(job: _Build, ranges: Mapping[str, float]) -> EngineRecord:
    """Write the engine's files into the stage, and return its record, still without a proof."""
    options = job.options
    record = EngineRecord(
        name=options.engine_name,
        kind=options.kind,
        precision=options.precision,
        builder=installed_versions(_SOFTWARE),
        target="this machine",
        manifest_sha256=job.manifest.digest,
        options=_options_to_text(options),
        ranges=ranges,
    )
    engine_budget(record, job.manifest.parity)  # one that accepts anything is refused before the work
    if options.kind in _TENSORRT:
        record = _build_plan(job, record)
    elif _needs_graph(options):
        _write_graph(job, job.stage / MODEL, ranges)
    return dataclasses.replace(record, files=record_files(job.stage))


def _options_to_text(options: BuildOptions) -> dict[str, str]:
    budget = {} if options.budget is None else {BUDGET: repr(options.budget)}
    if options.kind is not EngineKind.ONNXRUNTIME:
        return budget
    return {**options.provider_options, **budget, PROVIDER: str(options.provider)}


def _needs_graph(options: BuildOptions) -> bool:
    """Return whether an engine needs a graph other than the artifact's; OpenVINO converts that to bf16 or fp16."""
    converts = options.kind is EngineKind.OPENVINO and options.precision is not Precision.INT8
    return not converts and options.precision is not Precision.FP32


def _write_graph(job: _Build, target: Path, ranges: Mapping[str, float]) -> None:
    """Write the artifact's graph in the precision of the engine."""
    precision = job.options.precision
    with step(job.progress, f"writing the {precision} graph") as steps:
        if precision is Precision.INT8:
            write_quantised(job.model_graph, target, ranges, steps=steps)
        else:
            write_low_precision(job.model_graph, target, precision, steps=steps)


def _build_plan(job: _Build, record: EngineRecord) -> EngineRecord:
    """Build a TensorRT plan, and return its record.

    A reduced precision needs a graph of its own, which is kept only for a stripped plan: it contains the weights.
    """
    options, plan = job.options, job.stage / PLAN
    library = find_tensorrt(options.kind)
    graph: GraphSource = job.model_graph
    if _needs_graph(options):
        graph = job.stage / MODEL if options.plan.stripped else job.stage / _GRAPH_FOLDER / MODEL
        graph.parent.mkdir(exist_ok=True)
        _write_graph(job, graph, record.ranges)
    built = build_plan(
        graph,
        plan,
        spec=job.manifest.model,
        library=library,
        options=options.plan,
        progress=job.progress,
    )
    shutil.rmtree(job.stage / _GRAPH_FOLDER, ignore_errors=True)
    return dataclasses.replace(
        record,
        builder={**record.builder, **built.builder},
        target=built.target,
        profile=options.plan.profile,
        options={**record.options, **options.plan.to_text()},
    )


def _prove(job: _Build, record: EngineRecord) -> EngineRecord:
    """Run the probe, and return the record with a proof; without one if this machine cannot run the engine.

    Raises:
        ParityError: the engine fails the probe, or differs from the graph by more than its budget.
    """
    job.progress("running the probe", 0, 1)
    try:
        session = open_engine(job.stage, job.manifest, record, server=job.server)
    except DeviceError:
        if record.kind not in _TENSORRT:
            raise
        return record
    parity = job.manifest.parity
    report, proof = prove_engine(session, read_probe(job.server, job.manifest), parity, record)
    report.require()
    job.progress("running the probe", 1, 1)
    budget = engine_budget(record, parity)
    agreement = _agreement(job, session, job.sample, budget) if job.sample is not None else None
    record = dataclasses.replace(record, proof=proof, agreement=agreement)
    return _keep_kernels(job, session, record)


def _keep_kernels(job: _Build, session: Session, record: EngineRecord) -> EngineRecord:
    """Write the kernels that TensorRT-RTX compiled for the probe into the engine, and return its record with the file.

    Now, and never later: the record has the digest of every file, and a MAC.
    """
    kernels = session.runtime_cache() if isinstance(session, TensorRTSession) else b""
    if not kernels:
        return record
    (job.stage / RUNTIME_CACHE).write_bytes(kernels)
    return dataclasses.replace(record, files=record_files(job.stage))


def _agreement(job: _Build, session: Session, sample: Sample, budget: float) -> Agreement:
    """Compare the engine's logits on encrypted clips with those of the artifact's graph.

    Raises:
        ParityError: they differ by more than the budget.
    """
    graph = OnnxRuntimeSession(job.model_graph, session.model)  # its digests and signature have been checked
    clips, tensors = sample.clips.values, sample.tensors
    stage, total = "comparing with the artifact's graph", len(clips)
    expected, received = [], []
    for done in range(total):
        job.progress(stage, done, total)
        clip = clips[done : done + 1]
        expected.append(graph.run_with(clip, tensors)[0])
        received.append(session.run_with(clip, tensors)[0])
    job.progress(stage, total, total)
    report = compare(
        np.stack(expected),
        np.stack(received),
        reference="the artifact's graph",
        tolerance=budget,
        has_classes=session.model.result.kind.has_labels,
    )
    report.require_agreement()
    return Agreement(clips=total, max_difference=report.max_difference, top1=report.top1_agreement)
