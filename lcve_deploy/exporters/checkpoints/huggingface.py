"""Read Hugging Face folders: ``config.json``, weights, and the processor's file if there is one.

The rows of ``FAMILIES`` state what a family has of its own; this module is what all of them share.

Source: Hugging Face transformers, ``configuration_*.py``, ``modeling_*.py``, ``image_processing_*.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.assemble import Arrays, assemble, require_finite
from lcve_deploy.exporters.checkpoints.folders import Architecture, Family, Output, Source, Weights
from lcve_deploy.exporters.checkpoints.image_families import IMAGE_FAMILIES
from lcve_deploy.exporters.checkpoints.layouts import without
from lcve_deploy.exporters.checkpoints.options import (
    IMAGENET_ASSUMED,
    CheckpointOptions,
    StatedPreprocessing,
    assumed_normalisation,
)
from lcve_deploy.exporters.checkpoints.outputs import OutputChoice
from lcve_deploy.exporters.checkpoints.processors import Processor, read_processors
from lcve_deploy.exporters.checkpoints.reading import read_folder_weights, read_json_file
from lcve_deploy.exporters.checkpoints.refusals import architecture_error, model_type_error, require_rgb
from lcve_deploy.exporters.checkpoints.settings import Settings, activation, flag, number, pair, tubelet, whole
from lcve_deploy.exporters.checkpoints.video_families import VIDEO_FAMILIES
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.assumptions import Assumption, Fact
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.preprocess import Rounding
from lcve_deploy.model.transformer import IMAGENET, Normalisation, TransformerConfig, VideoTransformer

__all__ = [
    "FAMILIES",
    "FolderModel",
    "assumed_quantisation",
    "class_names",
    "is_unused",
    "load_folder",
    "model_of",
    "problem_type",
]

FAMILIES: Final[Mapping[str, Family]] = {**VIDEO_FAMILIES, **IMAGE_FAMILIES}

_Value = TypeVar("_Value")

_RENAMED: Final = {"qv_bias": "qkv_bias"}
"""Old and new names of settings. If a file has both, transformers 5 reads the old one."""

_VECTORS: Final = {
    Output.FIRST_TOKEN: "the first token",
    Output.MEAN: "the mean of the tokens",
    Output.ENCODER_MEAN: "the mean of the tokens",
}
_ADAPTER: Final = "adapter_config.json"
_HEAD: Final = "classifier.weight"
_CLASSES: Final = "num_labels"
_QUANTISATION: Final = "quantization_config"


class FolderModel(NamedTuple):
    """Which model a folder has.

    Args:
        family: row of its model type.
        name: class of transformers.
        architecture: facts about this class.
        settings: settings of its encoder, with defaults.
    """

    family: Family
    name: str
    architecture: Architecture
    settings: Settings


def load_folder(
    folder: Path, options: CheckpointOptions
) -> tuple[VideoTransformer, StatedPreprocessing, tuple[Assumption, ...]]:
    """Read a Hugging Face folder.

    Returns:
        The model, the settings that its processor states for making clips, and the facts that were assumed.

    Raises:
        CheckpointError: a file is damaged, unsafe or incomplete, or a required fact is not stated.
        UnsupportedModelError: the model has no row in ``FAMILIES``, or has an unknown activation.
    """
    _require_configuration(folder)
    model = model_of(folder)
    processors = _processors(folder, model.family, options)
    model, assumptions = _sized(model, processors, options)
    config = _config(model, options)
    normalisation = options.normalisation or _normalisation(folder, processors, model.family)
    crop = (config.geometry.height, config.geometry.width)
    framing = None if options.short_side else _agreed("resize", processors, lambda each: each.framing(crop))
    config, weights = _read_weights(folder, model, config)
    if options.normalisation is None and not processors:
        assumptions += (IMAGENET_ASSUMED,) if model.family.normalisation == IMAGENET else _assumed(normalisation)
    if framing and any(processor.keeps_aspect for processor in processors):
        assumptions += (_squashed(crop),)
    assumptions += _vector_assumed(model.architecture.output, options)
    stated = StatedPreprocessing(framing=framing, crop_rounding=Rounding.DOWN)
    return VideoTransformer(config=config, weights=weights, normalisation=normalisation), stated, assumptions


def model_of(folder: Path) -> FolderModel:
    """Return which model the ``config.json`` of a folder describes.

    Raises:
        CheckpointError: the file is missing, or is invalid.
        UnsupportedModelError: the model is not supported; the message has the reason.
    """
    outer = read_json_file(folder / "config.json")
    family = _family(outer)
    name = _architecture(outer, family)
    return FolderModel(family, name, family.architectures[name], _settings(outer, family))


def _settings(outer: Settings, family: Family) -> Settings:
    """Return the settings of the encoder, with defaults."""
    given = _encoder(outer, family)
    settings = {**family.defaults, **{new: given[old] for old, new in _RENAMED.items() if old in given}, **given}
    settings |= {name: implied(settings) for name, implied in family.implied.items()}
    return {**settings, **family.fixed, "outer": outer}


def _encoder(outer: Settings, family: Family) -> Settings:
    """Return what a file states about the encoder: in its section, or in the whole file.

    Nothing outside a section configures the encoder, except for the number of classes, which only counts there.
    """
    if not family.section or (family.sectionless and family.section not in outer):
        return outer
    section = _object(outer, family.section)
    if family.override and outer.get(family.override) is not None:
        section = {**section, **family.defaults, **_object(outer, family.override)}
    inner = {name: value for name, value in section.items() if name != _CLASSES}
    return {**inner, **({_CLASSES: outer[_CLASSES]} if _CLASSES in outer else {})}


def _object(settings: Settings, name: str) -> Settings:
    value = settings.get(name)
    if not isinstance(value, dict):
        raise CheckpointError(f"config.json: expected an object for {name}, received {value!r:.80}")
    return value


def is_unused(model: FolderModel) -> Callable[[str], bool]:
    """Return a function that tells whether a model does not use a weight, by its name."""
    patterns = [re.compile(pattern) for pattern in (*model.family.unused, *model.architecture.unused)]
    return lambda name: any(pattern.fullmatch(name) for pattern in patterns)


def _read_weights(folder: Path, model: FolderModel, config: TransformerConfig) -> tuple[TransformerConfig, Weights]:
    """Read and convert the weights; also return the configuration with the classes that they have."""
    family, architecture = model.family, model.architecture
    source: Source = read_folder_weights(folder, unused=is_unused(model))
    require_finite(source)
    for prepare in (*family.prepare, *architecture.prepare):
        source = prepare(source, config)
    if config.head:
        config = replace(config, classes=_classes(model.settings, source))
    absent = [name for name, names in family.switches.items() if not flag(model.settings, name) for name in names]
    weights: Weights = dict(assemble(source, without(absent, (*architecture.rules, *family.rules)), config))
    for finish in family.finish:
        weights = finish(weights, config, model.settings)
    return config, weights


def _sized(
    model: FolderModel, processors: Sequence[Processor], options: CheckpointOptions
) -> tuple[FolderModel, tuple[Assumption, ...]]:
    """Return a model of any size with the size that options or processors state; otherwise, it is assumed."""
    if model.family.any_length and options.frames:
        model = model._replace(settings={**model.settings, "num_frames": options.frames})
    if not model.family.resizable:
        return model, ()
    stated = (options.size,) * 2 if options.size else _agreed("make clips", processors, Processor.output_size)
    if stated:
        return model._replace(settings={**model.settings, "image_size": list(stated)}), ()
    height, width = pair(model.settings, "image_size")
    value = f"{height} x {width} pixels, as in config.json; the model takes other sizes too"
    arguments = {"--size": str(height)} if height == width else {}
    return model, (Assumption(fact=Fact.SIZE, value=value, option="--size", arguments=arguments),)


def _assumed(normalisation: Normalisation) -> tuple[Assumption, ...]:
    value = f"mean {normalisation.mean}, std {normalisation.std}, as of the model type"
    return (assumed_normalisation(normalisation, value),)


def _vector_assumed(output: Output, options: CheckpointOptions) -> tuple[Assumption, ...]:
    """Return what is assumed of the vector of a class that only gives tokens."""
    read = _VECTORS.get(output)
    if read is None or options.output is OutputChoice.TOKENS:
        return ()
    value = f"the vector is {read} of the last block, normalised; a pooling layer of the class is not read"
    return (Assumption(fact=Fact.READOUT, value=value, option="--output-kind tokens"),)


def _squashed(crop: tuple[int, int]) -> Assumption:
    value = f"pictures are resized to {crop[0]} x {crop[1]} pixels, but the processor keeps their aspect ratio"
    return Assumption(fact=Fact.RESIZING, value=value, option="--size")


def _processors(folder: Path, family: Family, options: CheckpointOptions) -> tuple[Processor, ...]:
    """Read the folder's processors, unless the options already state everything that they could."""
    if options.normalisation and options.short_side:
        return ()
    return read_processors(folder, family.processor)


def _agreed(what: str, processors: Sequence[Processor], read: Callable[[Processor], _Value]) -> _Value | None:
    """Return the value on which all processor files of a folder agree; None if there are none.

    Raises:
        CheckpointError: two files have different values.
    """
    stated = [(processor.path.name, read(processor)) for processor in processors]
    for name, value in stated[1:]:
        if value != stated[0][1]:
            raise CheckpointError(
                f"{stated[0][0]} and {name} disagree about how to {what}: {stated[0][1]} and {value}",
                hint="remove the file that the model was not trained with",
            )
    return stated[0][1] if stated else None


def _normalisation(folder: Path, processors: Sequence[Processor], family: Family) -> Normalisation:
    normalisation = _agreed("normalise", processors, Processor.normalisation) or family.normalisation
    if normalisation is None:
        raise CheckpointError(
            f"{folder} has no preprocessor_config.json, so the input normalisation of the model is unknown",
            hint="pass --mean a,b,c --std a,b,c, for values from 0 to 1",
        )
    return normalisation


def _require_configuration(folder: Path) -> None:
    """Reject folders that are often passed by mistake: those of a training run, and those with an adapter."""
    if (folder / _ADAPTER).is_file():
        raise CheckpointError(
            f"{folder} has an adapter ({_ADAPTER}), which changes the weights of the model and is not supported",
            hint="merge it with PEFT's merge_and_unload() and save the model, or remove the adapter's files",
        )
    files = sorted(path.name for pattern in ("*.pt", "*.pth") for path in folder.glob(pattern))
    if not (folder / "config.json").is_file() and files:
        raise CheckpointError(
            f"{folder} is not a Hugging Face folder: it has no config.json", hint=f"pass the file: {folder / files[0]}"
        )


def class_names(folder: Path, classes: int) -> tuple[str, ...] | None:
    """Read the class names of a folder's ``id2label`` or ``label_names``, in the order of the logits.

    Args:
        folder: folder of the checkpoint.
        classes: number of classes of the model.

    Returns:
        Class names; None if there are none, or if ``id2label`` does not have exactly the classes 0, 1, ...
    """
    settings = read_json_file(folder / "config.json")
    labels, listed = settings.get("id2label"), settings.get("label_names")
    if labels is None and isinstance(listed, list):  # as timm writes them
        labels = dict(enumerate(listed))
    named = {str(number): name for number, name in labels.items()} if isinstance(labels, dict) else {}
    names = [named.get(str(i)) for i in range(classes)]
    if len(named) != classes or not all(type(name) in (str, int) for name in names):
        return None
    return tuple(map(str, names))


def problem_type(folder: Path) -> ProblemType | None:
    """Read the problem type of a folder; return None if it does not state one.

    Raises:
        CheckpointError: the problem type is unknown.
    """
    stated = read_json_file(folder / "config.json").get("problem_type")
    try:
        return None if stated is None else ProblemType(stated)
    except ValueError:
        known = ", ".join(ProblemType)
        raise CheckpointError(
            f"config.json: expected one of {known} for problem_type, received {stated!r:.80}",
            hint="correct it, or remove it and pass --problem-type",
        ) from None


def assumed_quantisation(folder: Path) -> tuple[Assumption, ...]:
    """Return what is assumed of a folder whose weights are floating-point, although it states a quantisation."""
    settings = read_json_file(folder / "config.json")
    parts = [settings, *(part for part in settings.values() if isinstance(part, dict))]
    stated = [part[_QUANTISATION] for part in parts if part.get(_QUANTISATION) is not None]
    if not stated:
        return ()
    method = stated[0].get("quant_method") if isinstance(stated[0], dict) else None
    value = f"none: the floating-point weights are used as they are, without the {_QUANTISATION} ({method!r:.40})"
    return (Assumption(fact=Fact.QUANTISATION, value=value, option="no option sets it"),)


def _family(settings: Settings) -> Family:
    model_type = str(settings.get("model_type"))
    if model_type not in FAMILIES:
        raise model_type_error(model_type, FAMILIES)
    return FAMILIES[model_type]


def _architecture(settings: Settings, family: Family) -> str:
    """Return the class of the model."""
    stated = settings.get("architectures") or list(family.architectures)[:1]
    if not isinstance(stated, list):
        raise CheckpointError(f"config.json: expected a list of architectures, received {stated!r}")
    known = [name for name in stated if name in family.architectures]
    if not known:
        raise architecture_error(str(settings.get("model_type")), tuple(map(str, stated)), family.architectures)
    return str(known[0])


def _config(model: FolderModel, options: CheckpointOptions) -> TransformerConfig:
    settings = model.settings
    eps = number(settings, "layer_norm_eps")
    fields = {
        "geometry": _geometry(settings),
        "width": whole(settings, "hidden_size"),
        "depth": whole(settings, "num_hidden_layers"),
        "heads": whole(settings, "num_attention_heads"),
        "hidden": whole(settings, "intermediate_size"),
        "classes": whole({"num_labels": 2, **settings}, "num_labels"),
        "activation": activation(settings),
        "block_eps": eps,
        "final_eps": eps,
        "qkv_bias": flag(settings, "qkv_bias"),
        **model.family.fields(settings),
        **model.architecture.fields(settings),
    }
    if not fields.get("head", True):
        fields["classes"] = fields.get("projection") or fields["width"]
    config = TransformerConfig(**fields)
    _require_agreement(config, options)
    return config


def _require_agreement(config: TransformerConfig, options: CheckpointOptions) -> None:
    """Check that the owner's options do not contradict the folder."""
    geometry = config.geometry
    stated = {
        "--num-heads": (options.heads, config.heads),
        "--frames": (options.frames, geometry.frames),
        "--size": (options.size, geometry.height),
    }
    wrong = [
        f"{name} {option}, the folder says {own}" for name, (option, own) in stated.items() if option not in (None, own)
    ]
    if wrong:
        raise CheckpointError(
            f"the options contradict config.json: {'; '.join(wrong)}; positions are not interpolated",
            hint="leave these options out for a Hugging Face folder",
        )


def _geometry(settings: Settings) -> ClipGeometry:
    height, width = pair(settings, "image_size")
    cube = tubelet(settings)
    frames, channels = whole(settings, "num_frames"), whole(settings, "num_channels")
    require_rgb(channels)
    try:
        return ClipGeometry(frames=frames, height=height, width=width, channels=channels, cube=cube)
    except ValueError as error:
        raise CheckpointError(f"config.json: {error}") from None


def _classes(settings: Settings, source: Arrays) -> int:
    """Return ``num_labels``, which overrides ``id2label`` as in transformers, or else the number of the head's rows."""
    head = source.get(_HEAD)
    if settings.get("num_labels") is None and head is not None and head.ndim == 2:
        return len(head)
    return whole({"num_labels": 2, **settings}, "num_labels")
