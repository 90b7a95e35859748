"""The client of an export: orders, names and preprocessing, as checkpoint and options state them or are assumed."""

from __future__ import annotations

from typing import Final

from lcve_deploy.artifact import ClientSettings
from lcve_deploy.cipher.clips import binding_of
from lcve_deploy.cipher.coefficients import require_supported
from lcve_deploy.client import Client
from lcve_deploy.clips import Scheme
from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints import Checkpoint
from lcve_deploy.exporters.checkpoints.options import Framing
from lcve_deploy.exporters.checkpoints.recorded import record_of
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.assumptions import Assumption, Fact
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.verbs._export_options import ExportOptions
from lcve_deploy.verbs._keys import new_salt

__all__ = ["client_of"]

_STRIDE: Final = 4
_PLACEHOLDER: Final = "LABEL_"


def client_of(loaded: Checkpoint, key: SecurityKey, options: ExportOptions) -> Client:
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
