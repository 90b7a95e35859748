"""Read the pickled arguments of a training script. Unknown arguments are ignored."""

from __future__ import annotations

import argparse
import numbers
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lcve_deploy.exporters.checkpoints.families import DETECTOR_ARGUMENTS, FAMILIES, Family
from lcve_deploy.exporters.checkpoints.options import StatedPreprocessing
from lcve_deploy.files.reading import MAX_INT
from lcve_deploy.model.preprocess import MAX_SHORT_SIDE, Sampling

__all__ = [
    "Arguments",
    "NamedModel",
    "is_detector",
    "named_model",
    "stated_families",
    "stated_frames",
    "stated_preprocessing",
    "stated_size",
    "training_arguments",
]

Arguments = Mapping[str, Any]

_AVA: Final = re.compile(r"(?:^|[^a-z])ava(?:[^a-z]|$)")
_NAME: Final = re.compile(r"vit_(small|base|large|huge|giant)_patch(\d{1,3})_(\d{1,4})")


class NamedModel(NamedTuple):
    """A model that the codebases register by name.

    Args:
        width: embedding width D.
        depth: number of blocks.
        heads: number of attention heads.
        patch: height and width of a cube, pixels.
        size: height and width of a clip, pixels.
    """

    width: int
    depth: int
    heads: int
    patch: int
    size: int


_SPARSE_BY_DEFAULT: Final = "Kinetics-400"
_MODELS: Final = {
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
    "giant": (1408, 40, 16),
}


def training_arguments(content: Any, place: str = "") -> Arguments:
    """Return the arguments next to the weights, or next to the nearest wrapper around them; empty if there are none.

    Args:
        content: content of the file, a dictionary.
        place: names of the wrappers around the weights, from the outermost, joined by dots.
    """
    holders = [content]
    for name in place.split("."):
        inner = dict.get(holders[-1], name)
        if not isinstance(inner, dict):
            break
        holders.append(inner)
    return next(filter(None, (_arguments(dict.get(holder, "args")) for holder in reversed(holders))), {})


def _arguments(value: Any) -> Arguments:
    if isinstance(value, argparse.Namespace):
        return vars(value)
    return dict(dict.items(value)) if isinstance(value, dict) else {}


def stated_families(arguments: Arguments) -> list[Family]:
    """Return the codebases of which these arguments include a unique one."""
    return [family for family, facts in FAMILIES.items() if facts.unique_arguments & set(arguments)]


def is_detector(arguments: Arguments) -> bool:
    """Tell whether these are arguments of a script that trains detectors for AVA."""
    return bool(DETECTOR_ARGUMENTS & set(arguments) or _AVA.search(str(arguments.get("data_set")).lower()))


def named_model(arguments: Arguments) -> NamedModel | None:
    """Return the model that the argument ``model`` names; None if the codebases do not register it."""
    match = _NAME.fullmatch(str(arguments.get("model")))
    return NamedModel(*_MODELS[match[1]], int(match[2]), int(match[3])) if match else None


def stated_frames(arguments: Arguments) -> int | None:
    """Return the number of frames of a clip: frames of a segment times the number of segments."""
    frames = _positive(arguments, "num_frames")
    return frames * (_positive(arguments, "num_segments") or 1) if frames else None


def stated_size(arguments: Arguments) -> int | None:
    """Return height and width of a clip, pixels."""
    return _positive(arguments, "input_size")


def stated_preprocessing(arguments: Arguments) -> StatedPreprocessing:
    """Return how the codebase makes clips when it validates a model that was trained with these arguments."""
    sampling, doubt = _stated_sampling(arguments)
    side = _positive(arguments, "short_side_size")
    return StatedPreprocessing(
        sampling=sampling,
        stride=_positive(arguments, "sampling_rate"),
        short_side=side if side and side <= MAX_SHORT_SIDE else None,
        doubt=doubt,
    )


def _stated_sampling(arguments: Arguments) -> tuple[Sampling | None, str]:
    """Return the sampling, or None and the reason why it is unknown; the reason is empty if nothing is stated."""
    families = stated_families(arguments)
    known = [FAMILIES[family] for family in (families if len(families) == 1 else Family)]
    sparse = arguments.get("sparse_sample", False)
    data_set = arguments.get("data_set", _SPARSE_BY_DEFAULT if sparse is True else None)
    if data_set is None:
        return None, ""
    whose = f"of {known[0].title}" if len(known) == 1 else "of a known codebase"
    sampling = next((f.sampling[data_set] for f in known if isinstance(data_set, str) and data_set in f.sampling), None)
    if sampling is None:
        return None, f"{data_set!r:.80} is not a data set {whose}"
    if (segments := arguments.get("num_segments")) is not None and _positive(arguments, "num_segments") != 1:
        return None, f"num_segments={segments!r:.80} is not 1"
    if sampling is Sampling.UNIFORM or sparse is False:
        return sampling, ""
    if sparse is True and any(data_set in family.sparse for family in known):
        return Sampling.UNIFORM, ""
    return None, f"sparse_sample={sparse!r:.80} does not apply to the data set {data_set} {whose}"


def _positive(arguments: Arguments, name: str) -> int | None:
    """Return a positive integer, of Python or NumPy; None if the argument is missing or is anything else."""
    value = arguments.get(name)
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        return None
    whole = int(value)
    return whole if 0 < whole <= MAX_INT else None
