"""Read the image or video processor of a Hugging Face folder, which prepares frames for the model.

Every setting of a processor of a supported family is either reproduced or rejected by name. No setting is silently
ignored.

Source: Hugging Face transformers, ``image_processing_*.py`` and ``video_processing_*.py`` of the classes in
``PROCESSORS``, ``image_processing_backends.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.options import Framing
from lcve_deploy.exporters.checkpoints.reading import read_json_file
from lcve_deploy.model.preprocess import MAX_SHORT_SIDE, Resample
from lcve_deploy.model.transformer import IMAGENET, Normalisation

__all__ = ["PROCESSORS", "Processor", "read_processors"]

_FILES: Final = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")
_NESTED: Final = ("video_processor", "image_processor")
_TYPES: Final = ("video_processor_type", "image_processor_type", "feature_extractor_type")
_SWITCHES: Final = frozenset({"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"})
_OTHER_SWITCHES: Final = frozenset({"use_square_size"})
"""Switches that this version does not support, apart from those whose name begins with ``do_``."""
_SETTINGS: Final = (
    _SWITCHES | set(_TYPES) | {"size", "crop_size", "resample", "rescale_factor", "offset", "image_mean", "image_std"}
)

_RESAMPLES: Final = {
    0: Resample.NEAREST,
    1: Resample.LANCZOS,
    2: Resample.BILINEAR,
    3: Resample.BICUBIC,
}
_UNSUPPORTED_RESAMPLES: Final = {4: "box", 5: "Hamming"}

_MAX_NUMBER: Final = 1e6
"""Maximum of a mean, a std, a rescale factor, and the reciprocal of a rescale factor; well above any real value."""

_HINT: Final = "to ignore the processor, pass --mean, --std and --short-side"

_Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Defaults of one processor class.

    Args:
        size: a short side, or (height, width), of a resized frame, pixels.
        square: whether a number as ``size`` is both height and width, and not the short side.
        crop: (height, width) of a clip, pixels, unless the file states it; None if it must.
        crops: whether the class crops, unless the file states it.
        resample: number of the resampling filter.
        margin: the short side is that of the crop times the first number, divided by the second, whatever size the
            file states; None if the size counts.
        normalisation: mean and std; None if a file must state them.
        rescale_factor: factor by which values are multiplied.
        offset: whether 1 is subtracted after rescaling, unless the file states it.
        has_offset: whether the class reads the setting ``offset`` from its file.
        patches: whether the class resizes a frame to a number of patches that depends on its aspect ratio.
    """

    size: int | _Size
    square: bool = False
    crop: _Size | None = (224, 224)
    crops: bool = True
    resample: int = 2
    margin: tuple[int, int] | None = None
    normalisation: Normalisation | None = None
    rescale_factor: float = 1 / 255
    offset: bool = False
    has_offset: bool = False
    patches: bool = False


def _names(stem: str, defaults: Defaults) -> dict[str, Defaults]:
    """Return the rows of a class under all names that versions of transformers have written."""
    endings = ("FeatureExtractor", "ImageProcessor", "ImageProcessorFast", "ImageProcessorPil")
    return {f"{stem}{ending}": defaults for ending in endings}


_HALVES: Final = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
_OPENAI: Final = Normalisation(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))
_SQUARE: Final = (224, 224)
_BICUBIC: Final = 3

_VIDEOMAE: Final = Defaults(size=224)
_VIVIT: Final = Defaults(size=256, rescale_factor=1 / 127.5, offset=True, has_offset=True)
_VIVIT_VIDEO: Final = Defaults(size=256, rescale_factor=1 / 127.5, offset=True)
_CLIP: Final = Defaults(size=224, resample=_BICUBIC, normalisation=_OPENAI)
_VIT: Final = Defaults(size=_SQUARE, square=True, crop=None, crops=False, normalisation=_HALVES)

PROCESSORS: Final = {
    **_names("VideoMAE", _VIDEOMAE),
    "VideoMAEVideoProcessor": _VIDEOMAE,
    "TimesformerVideoProcessor": _VIDEOMAE,
    "VivitFeatureExtractor": _VIVIT,
    "VivitImageProcessor": _VIVIT,
    "VivitVideoProcessor": _VIVIT_VIDEO,
    "VJEPA2VideoProcessor": Defaults(size=292, crop=(256, 256), normalisation=IMAGENET, margin=(256, 224)),
    **_names("ViT", _VIT),
    **_names("CLIP", _CLIP),
    **_names("Bit", _CLIP),
    **_names("Siglip", replace(_VIT, square=False, resample=_BICUBIC)),
    **_names("Siglip2", replace(_VIT, patches=True)),
    **_names("Beit", replace(_VIT, crop=_SQUARE, resample=_BICUBIC)),
    **_names("DeiT", replace(_VIT, size=(256, 256), crop=_SQUARE, crops=True, resample=_BICUBIC)),
    **_names("DINOv3ViT", replace(_VIT, normalisation=IMAGENET)),
}


class Processor:
    """A processor that a folder configures.

    Args:
        path: file of the settings, for errors.
        settings: settings of the processor.
        default: name of its class if the settings do not have one.

    Raises:
        CheckpointError: the class is unknown, or a setting is on that is not supported.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], default: str) -> None:
        self.path, self._settings = path, settings
        names = [settings[name] for name in _TYPES if settings.get(name) is not None] or [default]
        self._name = str(names[0])
        defaults = PROCESSORS.get(self._name)
        if defaults is None:
            raise self._error(f"the processor {self._name[:80]!r} is unknown", f"known: {', '.join(PROCESSORS)}")
        self._defaults = defaults
        for name in settings:
            is_other = name in _OTHER_SWITCHES or (name.startswith("do_") and name not in _SWITCHES)
            if is_other and self._switch(name, default=False):
                raise self._error(f"{name} is on, which this version does not support")

    def normalisation(self) -> Normalisation:
        """Return the normalisation as mean m and std s of (x/255 - m)/s, for a value x from 0 to 255.

        The processor computes ((x·r - o) - mean)/std, with rescale factor r, and o = 1 with an offset (ViViT), 0
        otherwise. Therefore m = (o + mean)/(255 r) and s = std/(255 r).

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

    @property
    def keeps_aspect(self) -> bool:
        """Whether the number of patches depends on the aspect ratio of a frame, which a model of fixed size cannot."""
        return self._defaults.patches

    def output_size(self) -> _Size | None:
        """Return (height, width) of a processed frame, pixels; None if it depends on the frame.

        Raises:
            CheckpointError: a size is invalid.
        """
        if self._defaults.patches:
            return None
        if self._crops:
            return self._crop_size()
        return self._resizing().size if self._switch("do_resize", default=True) else None

    @property
    def _crops(self) -> bool:
        return self._switch("do_center_crop", default=self._defaults.crops)

    def _crop_size(self) -> _Size:
        """Return (height, width) of the crop.

        Raises:
            CheckpointError: it is invalid, or neither the file nor the class states it.
        """
        stated = self._settings.get("crop_size")
        size = self._defaults.crop if stated is None else self._sides("crop_size", stated, square=True)[1]
        if size is None:
            raise self._error(
                f"do_center_crop is on without a crop_size, and {self._name} has none, so transformers refuses it",
                "write the crop_size that the model was trained with, or turn do_center_crop off",
            )
        return size

    def framing(self, crop: _Size) -> Framing | None:
        """Return how frames are resized; None if the settings have no sizes and the model is not of the default size.

        Args:
            crop: (height, width) of the model's clips, pixels.

        Raises:
            CheckpointError: the processor's clips do not fit the model, or this version cannot reproduce them.
        """
        resizes, crops = self._switch("do_resize", default=True), self._crops
        if self._defaults.patches:
            return self._squashing(crop)
        no_sizes = all(self._settings.get(name) is None for name in ("size", "crop_size"))
        as_class = resizes and no_sizes and crops == self._defaults.crops
        if as_class and crop != (self._defaults.crop if crops else self._defaults.size):
            return None
        framing = self._resizing() if resizes else Framing()
        if crops:
            self._check_crop(framing, crop)
        elif framing.size != crop:
            raise self._error(
                "do_center_crop is off, so clips have the aspect ratio of the video, but the model takes "
                f"{crop[0]} x {crop[1]} (height x width)",
                'expected do_center_crop, or the model\'s size as {"height": H, "width": W}',
            )
        return framing

    def _squashing(self, crop: _Size) -> Framing:
        if not self._switch("do_resize", default=True):
            raise self._error("do_resize is off, so clips have the size of the picture, but the model has a fixed one")
        return Framing(size=crop, resample=self._resample())

    def _resizing(self) -> Framing:
        stated = self._settings.get("size")
        if stated is None:
            stated = self._defaults.size if isinstance(self._defaults.size, int) else list(self._defaults.size)
        if self._defaults.margin and self._defaults.crop:
            crop = self._settings.get("crop_size") or list(self._defaults.crop)
            _, sides = self._sides("crop_size", crop, square=True)
            times, per = self._defaults.margin
            stated = {"shortest_edge": int(sides[0] * times / per)} if sides else stated
        square = self._switch("default_to_square", default=self._defaults.square)
        short_side, size = self._sides("size", stated, square=square)
        return Framing(short_side=short_side, size=size, resample=self._resample())

    def _check_crop(self, framing: Framing, crop: _Size) -> None:
        size, stated = self._crop_size(), self._settings.get("crop_size") is not None
        if size != crop:
            what = "crop_size" if stated else f"without crop_size, {self._name}"
            raise self._error(
                f"{what} makes clips of {size[0]} x {size[1]}, but the model takes {crop[0]} x {crop[1]} "
                "(height x width)",
                f"expected the crop_size of the model; {_HINT}",
            )
        smallest = (framing.short_side,) * 2 if framing.short_side is not None else framing.size
        if smallest and (smallest[0] < crop[0] or smallest[1] < crop[1]):
            raise self._error(
                f"size makes frames smaller than the crop of {crop[0]} x {crop[1]} (height x width); transformers "
                "would pad them with black, which this version does not support",
                "expected a size of at least the crop_size",
            )

    def _sides(self, name: str, value: Any, *, square: bool) -> tuple[int | None, tuple[int, int] | None]:
        """Parse a size; return a short side, or (height, width), with None for the other."""
        if _is_side(value):
            return (None, (value, value)) if square else (value, None)
        if isinstance(value, list) and len(value) == 2 and all(map(_is_side, value)):
            return None, (value[0], value[1])
        sides = {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else {}
        if all(map(_is_side, sides.values())):
            if set(sides) == {"height", "width"}:
                return None, (sides["height"], sides["width"])
            if set(sides) == {"shortest_edge"} and name == "size":
                return sides["shortest_edge"], None
        raise self._error(
            f"{name} {str(value)[:120]} is invalid",
            'expected a number, {"height": H, "width": W}'
            + (' or {"shortest_edge": N} alone' if name == "size" else "")
            + f", each from 1 to {MAX_SHORT_SIDE}",
        )

    def _resample(self) -> Resample:
        stated = self._settings.get("resample")
        stated = self._defaults.resample if stated is None else stated
        if type(stated) is int and stated in _UNSUPPORTED_RESAMPLES:
            raise self._error(
                f"resample {stated} is the {_UNSUPPORTED_RESAMPLES[stated]} filter, which FFmpeg's scaler does not "
                "have",
                f"expected one of {', '.join(f'{number} ({name})' for number, name in _RESAMPLES.items())}",
            )
        if type(stated) is not int or stated not in _RESAMPLES:
            raise self._error(f"resample {str(stated)[:80]!r} is unknown", f"expected one of {list(_RESAMPLES)}")
        return _RESAMPLES[stated]

    def _offset(self, rescales: bool) -> float:
        offset = self._switch("offset", default=self._defaults.offset)
        if offset is not self._defaults.offset and not self._defaults.has_offset:
            raise self._error(f"offset is {str(offset).lower()}, but the processor that the file names ignores it")
        if offset and not rescales and self._defaults.has_offset:
            raise self._error("offset is on and do_rescale is off, which is invalid in transformers too")
        return 1.0 if offset and rescales else 0.0

    def _factor(self) -> float:
        factor = self._settings.get("rescale_factor")
        factor = self._defaults.rescale_factor if factor is None else factor
        if (
            isinstance(factor, bool)
            or not isinstance(factor, (int, float))
            or not 1 / _MAX_NUMBER <= factor <= _MAX_NUMBER
        ):
            raise self._error(f"expected a rescale_factor above zero, received {str(factor)[:80]}")
        return float(factor)

    def _switch(self, name: str, *, default: bool) -> bool:
        """Read a boolean setting; return its default if it is missing, or off and null."""
        value = self._settings.get(name, default)
        if value is None and default:
            raise self._error(
                f"{name} is null, which is not its default: transformers reads it as false",
                "write true or false, as the model was trained",
            )
        if value is not None and not isinstance(value, bool):
            raise self._error(f"expected true or false for {name}, received {str(value)[:80]!r}")
        return bool(value)

    def _channels(self, name: str) -> list[float]:
        value = self._settings.get(name)
        default = self._defaults.normalisation
        if value is None and default is not None:
            return list(getattr(default, name.removeprefix("image_")))
        if value is None:
            raise self._error(f"do_normalize is on, but there is no {name}", "pass --mean a,b,c and --std a,b,c")
        values = value if isinstance(value, list) else [value] * 3
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= _MAX_NUMBER for v in values)
        if len(values) != 3 or not numbers or (name == "image_std" and min(values) <= 0):
            above = " above zero" if name == "image_std" else ""
            raise self._error(f"expected one number or three{above} for {name}, received {str(value)[:80]}")
        return [float(v) for v in values]

    def _error(self, problem: str, hint: str = "") -> CheckpointError:
        return CheckpointError(f"{self.path}: {problem}", hint=hint or _HINT)


def read_processors(folder: Path, default: str) -> tuple[Processor, ...]:
    """Read the processors of a folder: none, one, or several if several files configure one.

    Args:
        folder: folder of the checkpoint.
        default: name of the class of a processor whose settings do not have one.

    Raises:
        CheckpointError: a file is not JSON, a class is unknown, or a setting is not supported.
    """
    found = []
    for name in _FILES:
        if (folder / name).is_file():
            settings = read_json_file(folder / name)
            parts = [settings[inner] for inner in _NESTED if isinstance(settings.get(inner), dict)] or [settings]
            found += [Processor(folder / name, part, default) for part in parts if _SETTINGS & set(part)]
    return tuple(found)


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_SHORT_SIDE
