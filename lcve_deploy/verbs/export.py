"""Export a checkpoint with a key, and check that the artifact's logits equal the checkpoint's."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import (
    KeyManifest,
    Manifest,
    ModelSpec,
    Probe,
    output_spec,
    record_files,
    write_probe,
)
from lcve_deploy.artifact.model_spec import clip_specs
from lcve_deploy.artifact.names import KEYS, MODEL
from lcve_deploy.cipher.outputs import to_key_order
from lcve_deploy.cipher.weights import scramble
from lcve_deploy.client import Client
from lcve_deploy.clips import Binding, EncryptedClip, PlainClip, Scheme
from lcve_deploy.exporters.bank import bank_specs, keyed_tensors
from lcve_deploy.exporters.checkpoints import Checkpoint, load_checkpoint
from lcve_deploy.exporters.onnx import write_onnx
from lcve_deploy.exporters.reference.builtin import Reference, ReferencePrecision
from lcve_deploy.exporters.reference.cached import CachedReference
from lcve_deploy.exporters.reference.transformers import reference_for
from lcve_deploy.files.writing import new_folder, require_absent
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.assumptions import Assumption
from lcve_deploy.model.parity import BUDGET_MARGIN, ParityReport
from lcve_deploy.packing import random_records
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.runtime import SessionOptions, open_session
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
from lcve_deploy.runtime.probing import check_answer
from lcve_deploy.verbs._cached_model import CachedModel
from lcve_deploy.verbs._client_settings import client_of
from lcve_deploy.verbs._comparing import Clips, comparison_clips, measure_parity
from lcve_deploy.verbs._export_options import ExportOptions
from lcve_deploy.verbs._keys import KeyContent, Tensors, run_together, write_client_side, write_signed
from lcve_deploy.verbs._versions import installed_versions
from lcve_deploy.verbs.embed import embed
from lcve_deploy.verbs.fastest import Selection, build_fastest

__all__ = ["ExportOptions", "ExportResult", "export"]

_PROBES: Final = 1
_THOROUGH_PROBES: Final = 2
_SOFTWARE: Final = ("lcve-deploy", "numpy", "onnx-ir", "onnxruntime", "torch")


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """Result of ``export``.

    Args:
        folder: the artifact.
        manifest: manifest of the model.
        key: manifest of its first key.
        assumptions: facts that the export assumed; the owner should check them.
        selection: engines that were tried; None if no engine was requested.
        engine_parity: figures of the engine that is kept; None if there is none, or if it cannot run on this machine.
    """

    folder: Path
    manifest: Manifest
    key: KeyManifest
    assumptions: tuple[Assumption, ...]
    selection: Selection | None = None
    engine_parity: ParityReport | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The assumptions as text."""
        return tuple(map(str, self.assumptions))

    @property
    def parity(self) -> ParityReport:
        """Figures of the comparison with the plain model."""
        return self.manifest.parity


def export(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    key: SecurityKey,
    options: ExportOptions | None = None,
    progress: Progress = silent,
) -> ExportResult:
    """Export a checkpoint as an artifact folder. The folder appears complete or not at all.

    Args:
        checkpoint: official ``.pth`` file, Hugging Face folder, or ``org/name[@revision]`` on a hub.
        output: folder to create; must not exist.
        key: key of the artifact.
        options: how to export.
        progress: receives every step.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        UnsupportedModelError: the model is not known, or cannot be exported exactly.
        VideoError: a video to measure parity on cannot be read.
        ParityError: encrypted and plain logits differ, or a control agrees; nothing is written.
        BuildError, SessionError, MissingDependencyError: the engine cannot be built or opened; nothing is written.
        ExistsError, WriteError: the output already exists, or cannot be written.
    """
    options = options or ExportOptions()
    require_absent(output)
    if options.embed_key is not None:
        require_absent(options.embed_key)
    with step(progress, "reading the checkpoint"):
        loaded = load_checkpoint(Path(checkpoint), options.checkpoint)
        client = client_of(loaded, key, options)
        plain = _plain_model(loaded, client, options)
    with new_folder(output) as stage:
        server = stage / "server"
        server.mkdir()
        model, tensors = _write_model(server, loaded, client, options, progress)
        report, content = _check(server, model, client, tensors, plain, options, progress)
        with step(progress, "writing the manifest"):
            manifest = _write_manifest(server, model, options, report)
            key_manifest = _write_key(stage, manifest, client, content, options)
        selection, engine_parity = _build_engine(server, options, client, plain, progress)
        if options.embed_key is not None:
            embed(server, server / KEYS / options.key_name, options.embed_key, progress=progress)
    return ExportResult(
        folder=Path(output),
        manifest=manifest,
        key=key_manifest,
        assumptions=client.settings.assumptions,
        selection=selection,
        engine_parity=engine_parity,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _PlainModel:
    """The plain model, and the clips on which the artifact must have its logits.

    Args:
        reference: computes each clip once.
        clips: plain clips to compare on; by default, that of the probe is one of them.
        probe_clip: clips of the probe.
    """

    reference: Reference
    clips: Clips
    probe_clip: EncryptedClip


def _plain_model(loaded: Checkpoint, client: Client, options: ExportOptions) -> _PlainModel:
    probe_clip = _random_ciphertext(client, options)
    lossy = options.scheme is Scheme.DCT  # the probe is no encryption of a uint8 clip
    noise = None if options.thorough or lossy else client.decrypt(probe_clip).values
    return _PlainModel(
        reference=CachedReference(reference_for(loaded, ReferencePrecision.of(thorough=options.thorough))),
        clips=comparison_clips(client, options.verify_clips, thorough=options.thorough, noise=noise),
        probe_clip=probe_clip,
    )


def _check(
    server: Path,
    model: ModelSpec,
    client: Client,
    tensors: Tensors,
    plain: _PlainModel,
    options: ExportOptions,
    progress: Progress,
) -> tuple[ParityReport, KeyContent]:
    """Require that the written graph has the plain model's logits, and write the probe of the model.

    Returns:
        The figures, and what the folder of the first key contains.
    """
    with step(progress, "opening the graph"):
        session = OnnxRuntimeSession(server / MODEL, model)
    with step(progress, "running the probe"):
        content = _content(client, tensors, plain)
        no_key = content.under_no_key()
        answers = run_together(session, content, no_key)
    cached = CachedModel(session)
    cached.remember(plain.probe_clip, answers[0])
    report = measure_parity(
        cached,
        plain.reference,
        client,
        plain.clips,
        tolerance=options.tolerance,
        thorough=options.thorough,
        progress=progress,
    )
    report.require()
    for part, logits in zip((content, no_key), answers, strict=True):
        check_answer(part.probe, logits, report).require()
    write_probe(server, no_key.as_model_probe())
    return report, content


def _content(client: Client, tensors: Tensors, plain: _PlainModel) -> KeyContent:
    probe = _probe(client, plain.reference, plain.probe_clip)
    return KeyContent(orders=client.orders, layout=client.settings.binding.layout, tensors=tensors, probe=probe)


def _write_manifest(server: Path, model: ModelSpec, options: ExportOptions, report: ParityReport) -> Manifest:
    """Write the manifest of the files in the staged model folder, and its signature if there is a signing key."""
    manifest = Manifest(
        model=model,
        precision="fp32",
        opset=options.opset,
        files=record_files(server),
        parity=report,
        made_by=installed_versions(_SOFTWARE),
    )
    return write_signed(server, manifest, options.signing_key)


def _write_key(
    stage: Path, manifest: Manifest, client: Client, content: KeyContent, options: ExportOptions
) -> KeyManifest:
    """Write the folder of the first key, and ``client/``."""
    folder, client_folder = stage / "server" / KEYS / options.key_name, stage / "client"
    folder.mkdir(parents=True)
    key = content.write(folder, model_sha256=manifest.digest, signing_key=options.signing_key)
    client_folder.mkdir()
    write_client_side(client_folder, client.settings, content.binding, manifest.digest)
    return key


def _build_engine(
    server: Path,
    options: ExportOptions,
    client: Client,
    plain: _PlainModel,
    progress: Progress,
) -> tuple[Selection | None, ParityReport | None]:
    """Build the requested engine; if this machine can run it, compare its logits with the plain model's."""
    if options.engine is None:
        return None, None
    calibration = comparison_clips(client, options.verify_clips, thorough=True)
    encrypted = client.encrypt(PlainClip(values=calibration))
    selection = build_fastest(server, options.engine, clips=encrypted, progress=progress)
    proof = selection.fastest.proof
    if proof is None:
        return selection, None
    session = open_session(server, SessionOptions(engine=selection.fastest.name))
    report = measure_parity(
        session,
        plain.reference,
        client,
        plain.clips,
        tolerance=proof.budget,
        margin=BUDGET_MARGIN,
        thorough=options.thorough,
        progress=progress,
    )
    report.require()
    return selection, report


def _write_model(
    server: Path, loaded: Checkpoint, client: Client, options: ExportOptions, progress: Progress
) -> tuple[ModelSpec, Tensors]:
    """Scramble the weights and write the graph. Return its specification, and the keyed tensors of the first key."""
    binding, config = client.settings.binding, loaded.model.config
    with step(progress, "scrambling the weights"):
        scrambled = scramble(loaded.model, client.orders)
    with step(progress, "writing the graph") as steps:
        write_onnx(
            scrambled,
            server / MODEL,
            layout=binding.layout,
            scheme=binding.scheme,
            opset=options.opset,
            steps=steps,
        )
    model = ModelSpec(
        scheme=binding.scheme,
        geometry=binding.geometry,
        layout=binding.layout,
        input=clip_specs(binding.scheme, binding.geometry, binding.layout)[0],
        bank=bank_specs(config),
        output=output_spec(client.settings.answer),
    )
    return model, keyed_tensors(scrambled)


def _random_ciphertext(client: Client, options: ExportOptions) -> EncryptedClip:
    """Return the clips of the probe: random bytes, drawn directly as ciphertext."""
    binding = client.settings.binding
    probes = _THOROUGH_PROBES if options.thorough else _PROBES
    values = random_records(binding.geometry, probes) if options.scheme is Scheme.DCT else _random(binding, probes)
    return EncryptedClip(values=values, binding=binding)


def _random(binding: Binding, clips: int) -> npt.NDArray[np.uint8]:
    shape = (clips, *binding.layout.shape(binding.geometry))
    return np.frombuffer(secrets.token_bytes(int(np.prod(shape))), dtype=np.uint8).reshape(shape)


def _probe(client: Client, reference: Reference, clip: EncryptedClip) -> Probe:
    """Return random encrypted clips, and the plain model's output for their decryption, in the order of the key."""
    logits = reference.logits(client.decrypt(clip).values)
    ordered = to_key_order(logits, client.orders, per_token=client.settings.answer.kind.has_tokens)
    return Probe(clip=clip.values, logits=np.ascontiguousarray(ordered))
