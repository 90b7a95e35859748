"""Hugging Face folders: ``config.json``, weights, and the processor's file if there is one.

Source: Hugging Face transformers, ``configuration_*.py``, ``modeling_*.py``, ``image_processing_*.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from lcve_deploy.assumptions import Assumption
from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints.assemble import Arrays, assemble, require_finite
from lcve_deploy.exporters.checkpoints.layouts import HF_VIDEOMAE, HF_VIVIT, Rule
from lcve_deploy.exporters.checkpoints.options import IMAGENET_ASSUMED, CheckpointOptions, SaidPreprocessing
from lcve_deploy.exporters.checkpoints.processors import Processor, read_processors
from lcve_deploy.exporters.checkpoints.reading import read_folder_weights, read_json_file
from lcve_deploy.exporters.checkpoints.refusals import refuse_model_type
from lcve_deploy.geometry import ClipGeometry
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

_Said = TypeVar("_Said")


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is particular to one model type.

    Args:
        architecture: the class that has the classifier.
        rules: where the weights are.
        processor: class of a processor whose file does not name one.
        defaults: of the configuration, for what ``config.json`` leaves out.
        normalisation: where no processor file says it; None where it must be said.
        class_token: whether the classifier reads one.
        final_eps: of the final LayerNorm; None where it is the blocks'.
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
"""Names of transformers 5; where a file has the old name too, transformers follows the old one."""

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
) -> tuple[VideoTransformer, SaidPreprocessing, tuple[Assumption, ...]]:
    """Read a Hugging Face folder.

    Returns:
        The model, what its processor says about making clips, and what was assumed.

    Raises:
        CheckpointError: damaged, unsafe, incomplete, or silent on what must be known.
        UnsupportedModelError: a model that cannot be exact, or that has no row in ``FAMILIES``.
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
    if "positional_encoding" not in weights and not config.prefix_tokens:
        weights["positional_encoding"] = sinusoid_table(config.geometry.cubes, config.width)
    unsaid = options.normalisation is None and not processors
    assumptions = (IMAGENET_ASSUMED,) if unsaid else ()
    said = SaidPreprocessing(framing=framing, crop_rounding=Rounding.DOWN)
    return VideoTransformer(config=config, weights=weights, normalisation=normalisation), said, assumptions


def _processors(folder: Path, family: Family, options: CheckpointOptions) -> tuple[Processor, ...]:
    """The folder's processors; not read if options give everything that they could say."""
    if options.normalisation and options.short_side:
        return ()
    return read_processors(folder, family.processor)


def _agreed(what: str, processors: Sequence[Processor], read: Callable[[Processor], _Said]) -> _Said | None:
    """What all processor files of a folder say; None if there is none.

    Raises:
        CheckpointError: two files say different things.
    """
    said = [(processor.path.name, read(processor)) for processor in processors]
    for name, value in said[1:]:
        if value != said[0][1]:
            raise CheckpointError(
                f"{said[0][0]} and {name} disagree about how to {what}: {said[0][1]} and {value}",
                hint="remove the file that the model was not trained with",
            )
    return said[0][1] if said else None


def _normalisation(folder: Path, processors: Sequence[Processor], family: Family) -> Normalisation:
    normalisation = _agreed("normalise", processors, Processor.normalisation) or family.normalisation
    if normalisation is None:
        raise CheckpointError(
            f"{folder} has no preprocessor_config.json, so the input normalisation of the model is not known",
            hint="pass --mean a,b,c --std a,b,c, for values 0..1",
        )
    return normalisation


def _require_configuration(folder: Path) -> None:
    """People pass the folder of a training run for the file in it, and models whose adapter changes the weights."""
    if (folder / _ADAPTER).is_file():
        raise CheckpointError(
            f"{folder} has an adapter ({_ADAPTER}), which changes the weights that the model has, and is not read",
            hint="merge it into the model with PEFT's merge_and_unload() and save that; or remove its files",
        )
    files = sorted(path.name for pattern in ("*.pt", "*.pth") for path in folder.glob(pattern))
    if not (folder / "config.json").is_file() and files:
        raise CheckpointError(
            f"{folder} is no Hugging Face folder: it has no config.json", hint=f"pass the file: {folder / files[0]}"
        )


def class_names(folder: Path, classes: int) -> tuple[str, ...] | None:
    """Class names of a folder's ``id2label``, in order.

    Args:
        folder: of the checkpoint.
        classes: of the model.

    Returns:
        None where it has none, or where they are not those of the classes 0, 1, ..., each named once.
    """
    labels = read_json_file(folder / "config.json").get("id2label")
    named = {str(number): name for number, name in labels.items()} if isinstance(labels, dict) else {}
    names = [named.get(str(i)) for i in range(classes)]
    if len(named) != classes or not all(type(name) in (str, int) for name in names):
        return None
    return tuple(map(str, names))


def problem_type(folder: Path) -> ProblemType | None:
    """The problem type of a folder; None if it has none.

    Raises:
        CheckpointError: a problem type that transformers does not have.
    """
    said = read_json_file(folder / "config.json").get("problem_type")
    try:
        return None if said is None else ProblemType(said)
    except ValueError:
        known = ", ".join(ProblemType)
        raise CheckpointError(
            f"config.json: expected a problem_type of {known}, received {said!r:.80}",
            hint="correct it, or remove it and say it with --problem-type",
        ) from None


def _family(settings: Mapping[str, Any]) -> Family:
    model_type = str(settings.get("model_type"))
    if model_type not in FAMILIES:
        raise refuse_model_type(model_type, FAMILIES)
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
            f"the activation {settings['hidden_act']!r} is not known", hint=f"known: {', '.join(_ACTIVATIONS)}"
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
        qkv_bias=_flag(settings, "qkv_bias"),
    )
    _require_agreement(config, options)
    return config


def _require_agreement(config: TransformerConfig, options: CheckpointOptions) -> None:
    """What the owner says must not contradict what the folder says."""
    geometry = config.geometry
    stated = {
        "--num-heads": (options.heads, config.heads),
        "--frames": (options.frames, geometry.frames),
        "--size": (options.size, geometry.height),
    }
    wrong = [f"{name} {said}, the folder says {is_}" for name, (said, is_) in stated.items() if said not in (None, is_)]
    if wrong:
        raise CheckpointError(
            f"the options contradict config.json: {'; '.join(wrong)}; interpolated positions are not made",
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
    try:
        return ClipGeometry(
            frames=_size(settings, "num_frames"),
            height=height,
            width=width,
            channels=_size(settings, "num_channels"),
            cube=cube,
        )
    except ValueError as error:
        raise CheckpointError(f"config.json: {error}") from None


def _classes(settings: Mapping[str, Any], source: Arrays) -> int:
    """As many as ``num_labels`` says, which overrules ``id2label`` as in transformers; else as the classifier has."""
    head = source.get(_HEAD)
    if settings.get("num_labels") is None and head is not None and head.ndim == 2:
        return len(head)
    return _size({"num_labels": 2, **settings}, "num_labels")


def _size(settings: Mapping[str, Any], name: str) -> int:
    value = settings[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"config.json: expected a whole number above zero for {name}, received {value!r}")
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
