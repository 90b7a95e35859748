"""The image or video processor of a Hugging Face folder: what it does to frames before the model sees them.

Everything that a processor of a supported family can do is either done here as well, or refused by the name of its
setting. Nothing that it says is passed over.

Source: Hugging Face transformers, ``image_processing_*.py`` and ``video_processing_*.py`` of VideoMAE, ViViT and
TimeSformer, ``image_processing_backends.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.options import Framing
from lcve_deploy.exporters.checkpoints.reading import read_json_file
from lcve_deploy.model.preprocess import MAX_SHORT_SIDE, Resample
from lcve_deploy.model.transformer import Normalisation

__all__ = ["PROCESSORS", "Processor", "read_processors"]

_FILES: Final = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")
_NESTED: Final = ("video_processor", "image_processor")
_TYPES: Final = ("video_processor_type", "image_processor_type", "feature_extractor_type")
_UNDERSTOOD: Final = frozenset({"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"})
_SAYING: Final = (
    _UNDERSTOOD | set(_TYPES) | {"size", "crop_size", "resample", "rescale_factor", "offset", "image_mean", "image_std"}
)

_RESAMPLES: Final = {
    0: Resample.NEAREST,
    1: Resample.LANCZOS,
    2: Resample.BILINEAR,
    3: Resample.BICUBIC,
}
_NO_SUCH_FILTER: Final = {4: "box", 5: "Hamming"}

_MAX_NUMBER: Final = 1e6
"""Of a mean, a std, and a rescale factor or what it divides by; far beyond any that is meant."""

_DEFAULT_CROP: Final = (224, 224)
_INSTEAD: Final = "to do without the processor, pass --mean, --std and --short-side"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Defaults of one processor class.

    Args:
        short_side: to which it resizes.
        rescale_factor: by which it multiplies.
        offset: whether it subtracts 1 after that, where its file does not say.
        has_offset: whether its file can say.
    """

    short_side: int
    rescale_factor: float = 1 / 255
    offset: bool = False
    has_offset: bool = False


_VIDEOMAE: Final = Kind(short_side=224)
_VIVIT: Final = Kind(short_side=256, rescale_factor=1 / 127.5, offset=True, has_offset=True)
_VIVIT_VIDEO: Final = Kind(short_side=256, rescale_factor=1 / 127.5, offset=True)

PROCESSORS: Final = {
    "VideoMAEFeatureExtractor": _VIDEOMAE,
    "VideoMAEImageProcessor": _VIDEOMAE,
    "VideoMAEImageProcessorFast": _VIDEOMAE,
    "VideoMAEImageProcessorPil": _VIDEOMAE,
    "VideoMAEVideoProcessor": _VIDEOMAE,
    "TimesformerVideoProcessor": _VIDEOMAE,
    "VivitFeatureExtractor": _VIVIT,
    "VivitImageProcessor": _VIVIT,
    "VivitVideoProcessor": _VIVIT_VIDEO,
}


class Processor:
    """One processor file of a folder.

    Args:
        path: for errors.
        settings: its content.
        default: the class that it is where it does not name one.

    Raises:
        CheckpointError: a class that is not known, or a setting that is on and not understood.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], default: str) -> None:
        self.path, self._settings = path, settings
        names = [settings[name] for name in _TYPES if settings.get(name) is not None] or [default]
        kind = PROCESSORS.get(str(names[0]))
        if kind is None:
            raise self._wrong(f"the processor {str(names[0])[:80]!r} is not known", f"known: {', '.join(PROCESSORS)}")
        self._kind = kind
        for name in settings:
            if name.startswith("do_") and name not in _UNDERSTOOD and self._switch(name, default=False):
                raise self._wrong(f"{name} is on, which this version does not support")

    def normalisation(self) -> Normalisation:
        """What it does to a value x, written as (x/255 - m)/s.

        It computes ((x·r - o) - mean)/std, with rescale factor r, and o = 1 where it has an offset (ViViT); so
        m = (o + mean)/(255 r) and s = std/(255 r).

        Raises:
            CheckpointError: a setting is missing, invalid or not supported.
        """
        rescales = self._switch("do_rescale", default=True)
        offset = self._offset(rescales)
        normalises = self._switch("do_normalize", default=True)
        mean = self._channels("image_mean") if normalises else [0.0] * 3
        std = self._channels("image_std") if normalises else [1.0] * 3
        span = 255.0 * (self._factor() if rescales else 1.0)
        return Normalisation(mean=tuple((offset + m) / span for m in mean), std=tuple(s / span for s in std))

    def framing(self, crop: tuple[int, int]) -> Framing | None:
        """How it resizes; None where it says nothing of sizes, and its default is for a model of another size.

        Args:
            crop: (height, width) that the model takes.

        Raises:
            CheckpointError: its clips do not fit the model, or cannot be made by this version.
        """
        resizes, crops = self._switch("do_resize", default=True), self._switch("do_center_crop", default=True)
        unsaid = all(self._settings.get(name) is None for name in ("size", "crop_size"))
        if resizes and crops and unsaid and crop != _DEFAULT_CROP:
            return None
        framing = self._resizing() if resizes else Framing()
        if crops:
            self._check_crop(framing, crop)
        elif framing.size != crop:
            raise self._wrong(
                "do_center_crop is off, so clips have the aspect ratio of the video, but the model takes "
                f"{crop[0]} x {crop[1]} (height x width)",
                'expected do_center_crop, or a size like {"height": H, "width": W} of the model',
            )
        return framing

    def _resizing(self) -> Framing:
        said = self._settings.get("size")
        said = self._kind.short_side if said is None else said
        square = self._switch("default_to_square", default=False)
        short_side, size = self._sides("size", said, square=square)
        return Framing(short_side=short_side, size=size, resample=self._resample())

    def _check_crop(self, framing: Framing, crop: tuple[int, int]) -> None:
        said = self._settings.get("crop_size")
        if said is not None:
            _, made = self._sides("crop_size", said, square=True)
            if made != crop:
                shown = f"{made[0]} x {made[1]}" if made else repr(said)
                raise self._wrong(
                    f"crop_size makes clips of {shown}, but the model takes {crop[0]} x {crop[1]} (height x width)",
                    "expected the crop_size of the model",
                )
        smallest = (framing.short_side,) * 2 if framing.short_side is not None else framing.size
        if smallest and (smallest[0] < crop[0] or smallest[1] < crop[1]):
            raise self._wrong(
                f"size makes frames smaller than the crop of {crop[0]} x {crop[1]} (height x width), which would be "
                "padded with black; this version does not pad",
                "expected a size of at least the crop_size",
            )

    def _sides(self, name: str, value: Any, *, square: bool) -> tuple[int | None, tuple[int, int] | None]:
        """A short side, or (height, width)."""
        if _is_side(value):
            return (None, (value, value)) if square else (value, None)
        if isinstance(value, list) and len(value) == 2 and all(map(_is_side, value)):
            return None, (value[0], value[1])
        said = {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else {}
        if all(map(_is_side, said.values())):
            if set(said) == {"height", "width"}:
                return None, (said["height"], said["width"])
            if set(said) == {"shortest_edge"} and name == "size":
                return said["shortest_edge"], None
        raise self._wrong(
            f"{name} {str(value)[:120]} is invalid",
            'expected a number, {"height": H, "width": W}'
            + (' or {"shortest_edge": N} alone' if name == "size" else "")
            + f", each from 1 to {MAX_SHORT_SIDE}",
        )

    def _resample(self) -> Resample:
        said = self._settings.get("resample")
        said = 2 if said is None else said
        if type(said) is int and said in _NO_SUCH_FILTER:
            raise self._wrong(
                f"resample {said} is the {_NO_SUCH_FILTER[said]} filter, which FFmpeg's scaler does not have",
                f"expected one of {', '.join(f'{number} ({kind})' for number, kind in _RESAMPLES.items())}",
            )
        if type(said) is not int or said not in _RESAMPLES:
            raise self._wrong(f"resample {str(said)[:80]!r} is not known", f"expected one of {list(_RESAMPLES)}")
        return _RESAMPLES[said]

    def _offset(self, rescales: bool) -> float:
        offset = self._switch("offset", default=self._kind.offset)
        if offset is not self._kind.offset and not self._kind.has_offset:
            raise self._wrong(f"offset is {str(offset).lower()}, and the processor that the file names would ignore it")
        if offset and not rescales and self._kind.has_offset:
            raise self._wrong("offset is on and do_rescale is off, which is invalid in transformers too")
        return 1.0 if offset and rescales else 0.0

    def _factor(self) -> float:
        factor = self._settings.get("rescale_factor")
        factor = self._kind.rescale_factor if factor is None else factor
        if (
            isinstance(factor, bool)
            or not isinstance(factor, (int, float))
            or not 1 / _MAX_NUMBER <= factor <= _MAX_NUMBER
        ):
            raise self._wrong(f"expected a rescale_factor above zero, received {str(factor)[:80]}")
        return float(factor)

    def _switch(self, name: str, *, default: bool) -> bool:
        """A switch; if it is missing or null, it has its default."""
        value = self._settings.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(f"expected true or false for {name}, received {str(value)[:80]!r}")
        return default if value is None else value

    def _channels(self, name: str) -> list[float]:
        value = self._settings.get(name)
        if value is None:
            raise self._wrong(f"do_normalize is on, but there is no {name}", "pass --mean a,b,c and --std a,b,c")
        values = value if isinstance(value, list) else [value] * 3
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= _MAX_NUMBER for v in values)
        if len(values) != 3 or not numbers or (name == "image_std" and min(values) <= 0):
            above = " above zero" if name == "image_std" else ""
            raise self._wrong(f"expected one number or three{above} for {name}, received {str(value)[:80]}")
        return [float(v) for v in values]

    def _wrong(self, problem: str, hint: str = "") -> CheckpointError:
        return CheckpointError(f"{self.path}: {problem}", hint=hint or _INSTEAD)


def read_processors(folder: Path, default: str) -> tuple[Processor, ...]:
    """The processors of a folder; none where it has none, and more than one where several files say something.

    Args:
        folder: of the checkpoint.
        default: class of a processor that does not name one.

    Raises:
        CheckpointError: a file that is not JSON, or a processor that is not understood.
    """
    found = []
    for name in _FILES:
        if (folder / name).is_file():
            settings = read_json_file(folder / name)
            parts = [settings[inner] for inner in _NESTED if isinstance(settings.get(inner), dict)] or [settings]
            found += [Processor(folder / name, part, default) for part in parts if _SAYING & set(part)]
    return tuple(found)


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_SHORT_SIDE
