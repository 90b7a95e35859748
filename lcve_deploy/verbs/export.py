"""Export a checkpoint with a key, and check that the artifact's logits equal the checkpoint's."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import (
    ClientSettings,
    KeyManifest,
    Manifest,
    ModelSpec,
    Probe,
    output_spec,
    record_files,
    write_probe,
)
from lcve_deploy.artifact.key_folder import require_key_name
from lcve_deploy.artifact.model_spec import clip_specs
from lcve_deploy.artifact.names import KEYS, MODEL
from lcve_deploy.cipher.clips import binding_of
from lcve_deploy.cipher.coefficients import require_supported
from lcve_deploy.cipher.outputs import to_key_order
from lcve_deploy.cipher.weights import scramble
from lcve_deploy.client import Client
from lcve_deploy.clips import Binding, EncryptedClip, Layout, PlainClip, Scheme
from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.bank import bank_specs, keyed_tensors
from lcve_deploy.exporters.checkpoints import Checkpoint, CheckpointOptions, load_checkpoint
from lcve_deploy.exporters.checkpoints.options import Framing
from lcve_deploy.exporters.checkpoints.recorded import record_of
from lcve_deploy.exporters.onnx import DEFAULT_OPSET, write_onnx
from lcve_deploy.exporters.reference.builtin import Reference, ReferencePrecision
from lcve_deploy.exporters.reference.cached import CachedReference
from lcve_deploy.exporters.reference.transformers import reference_for
from lcve_deploy.files.writing import new_folder, require_absent
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.keys.signing import SigningKey
from lcve_deploy.model.assumptions import Assumption, Fact
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.model.parity import BUDGET_MARGIN, ParityReport
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.packing import random_records
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.runtime import SessionOptions, open_session
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
from lcve_deploy.runtime.probing import check_answer
from lcve_deploy.verbs._cached_model import CachedModel
from lcve_deploy.verbs._comparing import Clips, comparison_clips, measure_parity
from lcve_deploy.verbs._keys import KeyContent, Tensors, new_salt, run_together, write_client_side, write_signed
from lcve_deploy.verbs._versions import installed_versions
from lcve_deploy.verbs.embed import embed
from lcve_deploy.verbs.fastest import EngineChoice, Selection, build_fastest

__all__ = ["ExportOptions", "ExportResult", "export"]

_PROBES: Final = 1
_THOROUGH_PROBES: Final = 2
_STRIDE: Final = 4
_PLACEHOLDER: Final = "LABEL_"
_SOFTWARE: Final = ("lcve-deploy", "numpy", "onnx-ir", "onnxruntime", "torch")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How to export; the defaults suit most checkpoints.

    Args:
        checkpoint: facts that the checkpoint does not contain.
        class_names: class names in the order of the logits; by default those of the checkpoint, or else numbers.
        problem_type: how the logits become predictions. The default is that of the checkpoint, or else a regression
            for a single output and one class per clip for several outputs.
        show_labels: do not shuffle the classes, so that the operator can read the predictions.
        layout: layout of encrypted clips.
        scheme: scheme of encrypted clips; ``lcve-dct-1`` has the layout ``cubes``.
        opset: opset of the ONNX graph.
        salt: 16 public bytes; random by default.
        sampling: how frames are chosen; by default as the checkpoint says, or else Kinetics sampling.
        stride: frames from one sampled frame to the next; by default as the checkpoint says, or else 4.
        verify_clips: videos to measure parity on; by default built-in real clips and noise.
        tolerance: largest ``|Δlogit|`` that counts as equal; by default 1e-4 · max(1, logit scale).
        thorough: compare with a float64 reference instead of a float32 one, on more built-in clips, and write a probe
            of two clips.
        engine: engine to build in the artifact; compared on the same clips as the graph, and calibrated on them or on
            all built-in ones.
        key_name: name of the folder of the first key in ``server/keys``.
        embed_key: file to write with a graph that has the tensors of the first key inside, and runs by itself; outside
            of the artifact, since it belongs to the key.
        signing_key: signs the manifest of the model and that of the key; by default they are not signed.
    """

    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    class_names: tuple[str, ...] | None = None
    problem_type: ProblemType | None = None
    show_labels: bool = False
    layout: Layout = Layout.CUBES
    scheme: Scheme = Scheme.LCVE
    opset: int = DEFAULT_OPSET
    salt: bytes | None = None
    sampling: Sampling | None = None
    stride: int | None = None
    verify_clips: tuple[Path, ...] = ()
    tolerance: float | None = None
    thorough: bool = False
    engine: EngineChoice | None = None
    key_name: str = "main"
    embed_key: Path | None = None
    signing_key: SigningKey | None = None

    def __post_init__(self) -> None:
        require_key_name(self.key_name)


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
        client = _client(loaded, key, options)
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


def _client(loaded: Checkpoint, key: SecurityKey, options: ExportOptions) -> Client:
    """Return the client of the artifact; the manifest does not exist yet."""
    config, output = loaded.model.config, ModelOutput.of(loaded.model.config)
    salt, is_hidden = options.salt or new_salt(), output.kind.has_labels and not options.show_labels
    classes = config.classes if is_hidden else None
    _require_geometry(config.geometry, options.scheme)
    orders = derive_orders(key, salt=salt, geometry=config.geometry, classes=classes, scheme=options.scheme)
    settings = ClientSettings(
        binding=binding_of(orders, options.layout),
        classes=_class_names(loaded, options),
        problem_type=_problem_type(loaded, options),
        labels="hidden" if is_hidden else "shown",
        preprocess=_preprocess(loaded, options),
        source=loaded.source,
        assumptions=(
            *loaded.assumptions,
            *_assumed_sampling(loaded, options),
            *_assumed_resizing(loaded, options),
            *(_assumed_classes(loaded, options) if output.kind.has_labels else ()),
        ),
        output=output,
        checkpoint=record_of(loaded, options.checkpoint),
    )
    return Client(settings=settings, orders=orders)


def _require_geometry(geometry: ClipGeometry, scheme: Scheme) -> None:
    if scheme is Scheme.DCT:
        try:
            require_supported(geometry)
        except ValueError as error:
            raise UnsupportedModelError(str(error), hint="export for the other wire: --wire raw") from None


def _class_names(loaded: Checkpoint, options: ExportOptions) -> tuple[str, ...]:
    classes, output = loaded.model.config.classes, ModelOutput.of(loaded.model.config)
    if not output.kind.has_labels:
        _refuse_class_options(options, output)
        return ()
    names = options.class_names or loaded.classes or tuple(f"class {i}" for i in range(classes))
    if len(names) != classes:
        raise CheckpointError(
            f"expected {classes} class names, one for each class of the checkpoint, received {len(names)}",
            hint="pass one name for each class, in the order of the logits",
        )
    return names


def _refuse_class_options(options: ExportOptions, output: ModelOutput) -> None:
    given = {"class names": options.class_names, "a problem type": options.problem_type}
    if names := [name for name, value in given.items() if value is not None]:
        raise CheckpointError(
            f"expected no {' and no '.join(names)} for a model that answers {output}, which have no classes",
            hint="omit --labels and --problem-type, or export logits",
        )


def _problem_type(loaded: Checkpoint, options: ExportOptions) -> ProblemType:
    """Return the problem type; a single output is never read as one class per clip, unless the options say so."""
    if not loaded.model.config.head:
        return ProblemType.REGRESSION
    outputs = loaded.model.config.classes
    if options.problem_type is None:
        stated = loaded.problem_type
        is_trivial = outputs == 1 and stated is ProblemType.SINGLE_LABEL
        return stated if stated and not is_trivial else ProblemType.default_for(outputs)
    try:
        options.problem_type.check_outputs(outputs)
    except ValueError as error:
        raise CheckpointError(str(error), hint="omit --problem-type, or pass another one") from None
    return options.problem_type


def _preprocess(loaded: Checkpoint, options: ExportOptions) -> Preprocess:
    geometry, stated = loaded.model.config.geometry, loaded.preprocessing
    framing = _framing(loaded, options)
    return Preprocess(
        frames=geometry.frames,
        stride=options.stride or stated.stride or (_STRIDE if geometry.frames > 1 else 1),
        sampling=options.sampling or stated.sampling or Sampling.KINETICS,
        short_side=framing.short_side,
        size=framing.size,
        resample=framing.resample,
        crop=(geometry.height, geometry.width),
        crop_rounding=stated.crop_rounding,
    )


def _framing(loaded: Checkpoint, options: ExportOptions) -> Framing:
    """Return how frames are resized: as the options or the checkpoint say, or to the smallest short side that fits."""
    geometry, stated, requested = loaded.model.config.geometry, loaded.preprocessing, options.checkpoint.short_side
    smallest = max(geometry.height, geometry.width)
    if requested is not None and requested < smallest:
        raise CheckpointError(
            f"expected a short side of at least {smallest}, as the model takes clips of {geometry.height} x "
            f"{geometry.width}, received {requested}",
            hint=f"pass at least {smallest}: --short-side {smallest}",
        )
    if requested is None and stated.framing is not None:
        return stated.framing
    return Framing(short_side=requested or max(stated.short_side or 0, smallest))


def _assumed_resizing(loaded: Checkpoint, options: ExportOptions) -> tuple[Assumption, ...]:
    """Return the assumed resizing, if neither options nor checkpoint state it, or if the clip does not fit theirs."""
    stated, short_side = loaded.preprocessing, _framing(loaded, options).short_side
    if options.checkpoint.short_side or stated.framing or stated.short_side == short_side:
        return ()
    value = f"short side {short_side} pixels, bilinear"
    if stated.short_side:
        value += f"; the arguments say {stated.short_side}, which is less than the clip has"
    return (Assumption(fact=Fact.RESIZING, value=value, option="--short-side"),)


def _assumed_sampling(loaded: Checkpoint, options: ExportOptions) -> tuple[Assumption, ...]:
    """Return the assumed sampling, if neither options nor checkpoint state it, and if a clip has several frames."""
    stated = loaded.preprocessing
    sampling, stride = options.sampling or stated.sampling, options.stride or stated.stride
    is_picture = loaded.model.config.geometry.frames == 1
    if is_picture or sampling is Sampling.UNIFORM or (sampling and stride):
        return ()
    doubt = f"; {stated.doubt}" if stated.doubt else ""
    value = f"{sampling or Sampling.KINETICS}, stride {stride or _STRIDE}{doubt}"
    return (Assumption(fact=Fact.SAMPLING, value=value, option="--sampling and --stride"),)


def _assumed_classes(loaded: Checkpoint, options: ExportOptions) -> tuple[Assumption, ...]:
    return *_assumed_problem_type(loaded, options), *_assumed_class_names(loaded, options)


def _assumed_class_names(loaded: Checkpoint, options: ExportOptions) -> tuple[Assumption, ...]:
    """Return the assumed class names, if neither options nor checkpoint state them."""
    last = loaded.model.config.classes - 1
    if options.class_names or (loaded.classes and not _are_placeholders(loaded.classes)):
        return ()
    prefix = _PLACEHOLDER if loaded.classes else "class "
    value = f"{prefix}0{f' to {prefix}{last}' * (last > 0)}"
    return (Assumption(fact=Fact.CLASS_NAMES, value=value, option="--labels"),)


def _are_placeholders(names: tuple[str, ...]) -> bool:
    """Return whether these are the placeholders that Transformers writes for classes without names."""
    return names == tuple(f"{_PLACEHOLDER}{i}" for i in range(len(names)))


def _assumed_problem_type(loaded: Checkpoint, options: ExportOptions) -> tuple[Assumption, ...]:
    """Return the assumed problem type, if neither options nor checkpoint state it."""
    assumed = _problem_type(loaded, options)
    if assumed in (options.problem_type, loaded.problem_type):
        return ()
    why = "one output, a value" if assumed is ProblemType.REGRESSION else "one class for each clip, softmax"
    return (Assumption(fact=Fact.PROBLEM_TYPE, value=f"{assumed}: {why}", option="--problem-type"),)


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
