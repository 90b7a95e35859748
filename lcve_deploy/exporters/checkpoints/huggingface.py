"""Read Hugging Face folders: ``config.json``, weights, and the processor's file if there is one.

Source: Hugging Face transformers, ``configuration_*.py``, ``modeling_*.py``, ``image_processing_*.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints.assemble import Arrays, assemble, require_finite
from lcve_deploy.exporters.checkpoints.layouts import HF_VIDEOMAE, HF_VIVIT, Rule
from lcve_deploy.exporters.checkpoints.options import IMAGENET_ASSUMED, CheckpointOptions, StatedPreprocessing
from lcve_deploy.exporters.checkpoints.processors import Processor, read_processors
from lcve_deploy.exporters.checkpoints.reading import read_folder_weights, read_json_file
from lcve_deploy.exporters.checkpoints.refusals import model_type_error
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.assumptions import Assumption
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.preprocess import Rounding
from lcve_deploy.model.transformer import (
    IMAGENET,
    Activation,
    Normalisation,
    Readout,
    TransformerConfig,
    VideoTransformer,
    sinusoid_table,
)

__all__ = ["FAMILIES", "class_names", "load_folder", "problem_type"]

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class Family:
    """Facts about one model type.

    Args:
        architecture: class of the model with its classifier.
        rules: names of the weights.
        processor: default class of the processor.
        defaults: default configuration, for settings that ``config.json`` omits.
        normalisation: default input normalisation; None if it must be stated.
        class_token: whether the classifier reads a class token.
        final_eps: epsilon of the final LayerNorm; None if it is that of the blocks.
    """

    architecture: str
    rules: tuple[Rule, ...]
    processor: str
    defaults: Mapping[str, Any]
    normalisation: Normalisation | None
    class_token: bool = False
    final_eps: float | None = None


_COMMON: Final = {
    "image_size": 224,
    "num_channels": 3,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "qkv_bias": True,
}

FAMILIES: Final = {
    "videomae": Family(
        architecture="VideoMAEForVideoClassification",
        rules=HF_VIDEOMAE,
        processor="VideoMAEImageProcessor",
        defaults={
            **_COMMON,
            "num_frames": 16,
            "tubelet_size": 2,
            "patch_size": 16,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "use_mean_pooling": True,
        },
        normalisation=IMAGENET,
        final_eps=1e-5,
    ),
    "vivit": Family(
        architecture="VivitForVideoClassification",
        rules=HF_VIVIT,
        processor="VivitImageProcessor",
        defaults={
            **_COMMON,
            "num_frames": 32,
            "tubelet_size": [2, 16, 16],
            "hidden_act": "gelu_fast",
            "layer_norm_eps": 1e-6,
        },
        normalisation=None,
        class_token=True,
    ),
}

_RENAMED: Final = {"qv_bias": "qkv_bias"}
"""Old and new names of settings. If a file has both, transformers 5 reads the old one."""

_ADAPTER: Final = "adapter_config.json"
_HEAD: Final = "classifier.weight"

_ACTIVATIONS: Final = {
    "gelu": Activation.GELU,
    "gelu_python": Activation.GELU,
    "gelu_fast": Activation.GELU_TANH,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_python_tanh": Activation.GELU_TANH,
    "gelu_accurate": Activation.GELU_TANH,
    "quick_gelu": Activation.QUICK_GELU,
    "relu": Activation.RELU,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
}


def load_folder(
    folder: Path, options: CheckpointOptions
) -> tuple[VideoTransformer, StatedPreprocessing, tuple[Assumption, ...]]:
    """Read a Hugging Face folder.

    Returns:
        The model, the settings that its processor states for making clips, and the facts that were assumed.

    Raises:
        CheckpointError: a file is damaged, unsafe or incomplete, or a required fact is not stated.
        UnsupportedModelError: the model has no row in ``FAMILIES``, is not a classifier, or has an unknown activation.
    """
    _require_configuration(folder)
    settings = read_json_file(folder / "config.json")
    family = _family(settings)
    settings = {
        **family.defaults,
        **{new: settings[old] for old, new in _RENAMED.items() if old in settings},
        **settings,
    }
    config = _config(settings, family, options)
    processors = _processors(folder, family, options)
    normalisation = options.normalisation or _normalisation(folder, processors, family)
    crop = (config.geometry.height, config.geometry.width)
    framing = None if options.short_side else _agreed("resize", processors, lambda each: each.framing(crop))
    source = read_folder_weights(folder)
    require_finite(source)
    config = replace(config, classes=_classes(settings, source))
    weights = assemble(source, family.rules, config)
    if "positional_encoding" not in weights and not config.prefix:
        weights["positional_encoding"] = sinusoid_table(config.geometry.cubes, config.width)
    assumptions = (IMAGENET_ASSUMED,) if options.normalisation is None and not processors else ()
    stated = StatedPreprocessing(framing=framing, crop_rounding=Rounding.DOWN)
    return VideoTransformer(config=config, weights=weights, normalisation=normalisation), stated, assumptions


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
    """Read the class names of a folder's ``id2label``, in the order of the logits.

    Args:
        folder: folder of the checkpoint.
        classes: number of classes of the model.

    Returns:
        Class names; None if there are none, or if ``id2label`` does not have exactly the classes 0, 1, ...
    """
    labels = read_json_file(folder / "config.json").get("id2label")
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


def _family(settings: Mapping[str, Any]) -> Family:
    model_type = str(settings.get("model_type"))
    if model_type not in FAMILIES:
        raise model_type_error(model_type, FAMILIES)
    family = FAMILIES[model_type]
    architectures = settings.get("architectures") or [family.architecture]
    if not isinstance(architectures, list):
        raise CheckpointError(f"config.json: expected a list of architectures, received {architectures!r}")
    if family.architecture not in architectures:
        raise UnsupportedModelError(
            f"expected {family.architecture}, received {', '.join(map(str, architectures))}",
            hint="export a fine-tuned classifier, not a pre-trained encoder alone",
        )
    return family


def _config(settings: Mapping[str, Any], family: Family, options: CheckpointOptions) -> TransformerConfig:
    activation = _ACTIVATIONS.get(str(settings["hidden_act"]))
    if activation is None:
        raise UnsupportedModelError(
            f"the activation {settings['hidden_act']!r} is unknown", hint=f"known: {', '.join(_ACTIVATIONS)}"
        )
    mean_pooling = not family.class_token and _flag(settings, "use_mean_pooling")
    eps = _number(settings, "layer_norm_eps")
    unpooled = Readout.CLASS_TOKEN if family.class_token else Readout.FIRST_CUBE
    config = TransformerConfig(
        geometry=_geometry(settings),
        width=_size(settings, "hidden_size"),
        depth=_size(settings, "num_hidden_layers"),
        heads=_size(settings, "num_attention_heads"),
        hidden=_size(settings, "intermediate_size"),
        classes=_size({"num_labels": 2, **settings}, "num_labels"),
        activation=activation,
        block_eps=eps,
        final_eps=family.final_eps if family.final_eps and mean_pooling else eps,
        readout=Readout.MEAN if mean_pooling else unpooled,
        prefix=int(family.class_token),
        qkv_bias=_flag(settings, "qkv_bias"),
    )
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


def _geometry(settings: Mapping[str, Any]) -> ClipGeometry:
    height, width = _pair(settings, "image_size")
    tubelet = settings["tubelet_size"]
    if isinstance(tubelet, int) and "patch_size" in settings:
        rows, columns = _pair(settings, "patch_size")
        cube = (tubelet, rows, columns)
    elif isinstance(tubelet, Sequence) and len(tubelet) == 3 and all(isinstance(n, int) for n in tubelet):
        cube = (tubelet[0], tubelet[1], tubelet[2])
    else:
        known = "2 or [2, 16, 16]" if "patch_size" in settings else "[2, 16, 16]"
        raise CheckpointError(f"config.json: expected a tubelet_size like {known}, received {tubelet!r}")
    frames, channels = _size(settings, "num_frames"), _size(settings, "num_channels")
    try:
        return ClipGeometry(frames=frames, height=height, width=width, channels=channels, cube=cube)
    except ValueError as error:
        raise CheckpointError(f"config.json: {error}") from None


def _classes(settings: Mapping[str, Any], source: Arrays) -> int:
    """Return ``num_labels``, which overrides ``id2label`` as in transformers, or else the number of the head's rows."""
    head = source.get(_HEAD)
    if settings.get("num_labels") is None and head is not None and head.ndim == 2:
        return len(head)
    return _size({"num_labels": 2, **settings}, "num_labels")


def _size(settings: Mapping[str, Any], name: str) -> int:
    value = settings[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"config.json: expected a positive integer for {name}, received {value!r}")
    return value


def _pair(settings: Mapping[str, Any], name: str) -> tuple[int, int]:
    value = settings[name]
    pair = list(value) if isinstance(value, list) else [value, value]
    if len(pair) != 2 or not all(isinstance(size, int) and size > 0 for size in pair):
        raise CheckpointError(f"config.json: expected one or two sizes for {name}, received {value!r}")
    return pair[0], pair[1]


def _flag(settings: Mapping[str, Any], name: str) -> bool:
    value = settings[name]
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json: expected true or false for {name}, received {value!r}")
    return value


def _number(settings: Mapping[str, Any], name: str) -> float:
    value = settings[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise CheckpointError(f"config.json: expected a number from 0 to 1 for {name}, received {value!r}")
    return float(value)
