"""What the pickled arguments of a training script say. Arguments that are not known are ignored."""

from __future__ import annotations

import argparse
import numbers
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lcve_deploy.exporters.checkpoints.families import DETECTOR_ARGUMENTS, FAMILIES, Family
from lcve_deploy.exporters.checkpoints.options import SaidPreprocessing
from lcve_deploy.files.reading import MAX_INT
from lcve_deploy.model.preprocess import MAX_SHORT_SIDE, Sampling

__all__ = [
    "Arguments",
    "NamedModel",
    "is_detector",
    "named_model",
    "said_families",
    "said_frames",
    "said_preprocessing",
    "said_size",
    "training_arguments",
]

Arguments = Mapping[str, Any]

_AVA: Final = re.compile(r"(?:^|[^a-z])ava(?:[^a-z]|$)")
_NAME: Final = re.compile(r"vit_(small|base|large|huge|giant)_patch(\d{1,3})_(\d{1,4})")


class NamedModel(NamedTuple):
    """A model that the codebases register by name.

    Args:
        width: D.
        depth: blocks.
        heads: attention heads.
        patch: of a cube, pixels.
        size: of a clip, pixels.
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
    """The arguments next to the weights, or next to the nearest wrapper around them; empty if there are none.

    Args:
        content: of the file, a dictionary.
        place: names of the wrappers that the weights are in, with dots between them.
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


def said_families(arguments: Arguments) -> list[Family]:
    """Codebases that these arguments can be from, by arguments that only one codebase has."""
    return [family for family, known in FAMILIES.items() if known.marks & set(arguments)]


def is_detector(arguments: Arguments) -> bool:
    """Whether these are the arguments of a script that trains detectors for AVA."""
    return bool(DETECTOR_ARGUMENTS & set(arguments) or _AVA.search(str(arguments.get("data_set")).lower()))


def named_model(arguments: Arguments) -> NamedModel | None:
    """The model of the argument ``model``; None if it is not one that the codebases register."""
    match = _NAME.fullmatch(str(arguments.get("model")))
    return NamedModel(*_MODELS[match[1]], int(match[2]), int(match[3])) if match else None


def said_frames(arguments: Arguments) -> int | None:
    """Frames of the model: those of a segment, times the segments."""
    frames = _whole(arguments, "num_frames")
    return frames * (_whole(arguments, "num_segments") or 1) if frames else None


def said_size(arguments: Arguments) -> int | None:
    """Height and width of the clips."""
    return _whole(arguments, "input_size")


def said_preprocessing(arguments: Arguments) -> SaidPreprocessing:
    """How the codebase makes clips when it validates a model of these arguments."""
    sampling, doubt = _said_sampling(arguments)
    side = _whole(arguments, "short_side_size")
    return SaidPreprocessing(
        sampling=sampling,
        stride=_whole(arguments, "sampling_rate"),
        short_side=side if side and side <= MAX_SHORT_SIDE else None,
        doubt=doubt,
    )


def _said_sampling(arguments: Arguments) -> tuple[Sampling | None, str]:
    """How frames are chosen, or why the arguments do not say it."""
    families = said_families(arguments)
    known = [FAMILIES[family] for family in (families if len(families) == 1 else Family)]
    sparse = arguments.get("sparse_sample", False)
    data_set = arguments.get("data_set", _SPARSE_BY_DEFAULT if sparse is True else None)
    if data_set is None:
        return None, ""
    whose = f"of {known[0].title}" if len(known) == 1 else "of a known codebase"
    sampling = next((f.sampling[data_set] for f in known if isinstance(data_set, str) and data_set in f.sampling), None)
    if sampling is None:
        return None, f"{data_set!r:.80} is not a data set {whose}"
    if (segments := arguments.get("num_segments")) is not None and _whole(arguments, "num_segments") != 1:
        return None, f"num_segments={segments!r:.80} is not 1"
    if sampling is Sampling.UNIFORM or sparse is False:
        return sampling, ""
    if sparse is True and any(data_set in family.sparse for family in known):
        return Sampling.UNIFORM, ""
    return None, f"sparse_sample={sparse!r:.80} is not for the data set {data_set} {whose}"


def _whole(arguments: Arguments, name: str) -> int | None:
    """A whole number above zero, NumPy's as well; None where it is none."""
    value = arguments.get(name)
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        return None
    whole = int(value)
    return whole if 0 < whole <= MAX_INT else None
