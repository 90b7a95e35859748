"""Official VideoMAE and VideoMAEv2 fine-tuning checkpoints, ``.pth``.

What the file does not say: the number of heads, and the clip's frames and size. The sinusoid
position table is not in the file and is made here.

Source: MCG-NJU/VideoMAE and OpenGVLab/VideoMAEv2, ``modeling_finetune.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lcve_deploy.assumptions import Assumption, Fact
from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints.assemble import (
    Arrays,
    assemble,
    block_count,
    require_finite,
)
from lcve_deploy.exporters.checkpoints.layouts import OFFICIAL
from lcve_deploy.exporters.checkpoints.options import IMAGENET_ASSUMED, CheckpointOptions, SaidPreprocessing
from lcve_deploy.exporters.checkpoints.reading import read_pickled, to_arrays
from lcve_deploy.exporters.checkpoints.refusals import refuse_weights
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.inputs import LARGEST_WHOLE
from lcve_deploy.preprocess import Sampling
from lcve_deploy.transformer import (
    IMAGENET,
    Attention,
    Readout,
    TransformerConfig,
    VideoTransformer,
    sinusoid_table,
)

__all__ = ["load_official", "named_tensors"]

_WITHOUT_POSITIONS: Final = tuple(rule for rule in OFFICIAL if rule.target != "positional_encoding")
_WRAPPERS: Final = ("model", "module", "state_dict", "model_ema")
_PREFIXES: Final = ("module.", "model.", "_orig_mod.", "backbone.", "encoder.")
_HEADS_BY_WIDTH: Final = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
_UNIFORM_DATA_SET: Final = "SSV2"
_FRAMES: Final = 16
_SIZE: Final = 224


def load_official(
    path: Path, options: CheckpointOptions
) -> tuple[VideoTransformer, SaidPreprocessing, tuple[Assumption, ...]]:
    """Read an official checkpoint.

    Returns:
        The model, what its training arguments say about making clips, and what was assumed because
        neither the file nor the options say it.

    Raises:
        CheckpointError: damaged, unsafe, incomplete, or silent on what must be known.
        UnsupportedModelError: not a VideoMAE classifier.
    """
    content = read_pickled(path)
    tensors = named_tensors(content, path)
    refuse_weights(tensors)
    source = to_arrays(tensors, stored=path.stat().st_size)
    require_finite(source)
    arguments = _training_arguments(content)
    config = _config(source, arguments, options)
    weights = assemble(source, OFFICIAL if "pos_embed" in source else _WITHOUT_POSITIONS, config)
    if "pos_embed" not in source:
        weights["positional_encoding"] = sinusoid_table(config.geometry.cubes, config.width)
    model = VideoTransformer(config=config, weights=weights, normalisation=options.normalisation or IMAGENET)
    return model, _said_preprocessing(arguments), _assumed(source, arguments, options, config)


def named_tensors(content: Any, path: Path) -> dict[str, Any]:
    """The weights within their wrapper, without the prefixes that training code adds."""
    if not isinstance(content, dict):
        raise CheckpointError(f"expected named weights in {path}, received {type(content).__name__}")
    inner = next((content[name] for name in _WRAPPERS if isinstance(dict.get(content, name), dict)), content)
    tensors: dict[str, Any] = {}
    for name, tensor in dict.items(inner):  # a pickled dict can have another "items" of its own
        bare = str(name)
        while prefix := next((p for p in _PREFIXES if bare.startswith(p)), ""):
            bare = bare.removeprefix(prefix)
        if bare in tensors:
            raise CheckpointError(f"the checkpoint has two weights named {bare} once prefixes are taken off")
        tensors[bare] = tensor
    return tensors


def _training_arguments(content: Any) -> Mapping[str, Any]:
    arguments = dict.get(content, "args")
    return vars(arguments) if isinstance(arguments, argparse.Namespace) else {}


def _config(source: Arrays, arguments: Mapping[str, Any], options: CheckpointOptions) -> TransformerConfig:
    kernel, depth = _kernel(source), block_count(list(source), r"blocks\.(\d{1,9})\.")
    width, channels, *cube = kernel
    fc1, head = source.get("blocks.0.mlp.fc1.weight"), source.get("head.weight")
    if fc1 is None or head is None:
        absent = "blocks.0.mlp.fc1.weight" if fc1 is None else "head.weight"
        raise CheckpointError(
            f"the checkpoint's weights do not make the model: missing {absent}",
            hint="a fine-tuned classifier is expected, not a pre-trained encoder alone",
        )
    if fc1.ndim != 2 or head.ndim != 2:
        raise CheckpointError(
            f"expected matrices, received blocks.0.mlp.fc1.weight {list(fc1.shape)} and head.weight {list(head.shape)}"
        )
    cosine = any(name.endswith(".attn.scale") for name in source)
    return TransformerConfig(
        geometry=_geometry(source, arguments, options, channels, (cube[0], cube[1], cube[2])),
        width=width,
        depth=depth,
        heads=_heads(source, width, options),
        hidden=len(fc1),
        classes=len(head),
        attention=Attention.COSINE if cosine else Attention.DOT,
        readout=Readout.MEAN if "fc_norm.weight" in source else Readout.FIRST_CUBE,
        layer_scale=any(".gamma_" in name for name in source),
    )


def _kernel(source: Arrays) -> tuple[int, ...]:
    if "patch_embed.proj.weight" not in source:
        raise UnsupportedModelError(
            "the checkpoint's layout is not known: an official VideoMAE file has patch_embed.proj.weight, received "
            f"{len(source)} weights such as {', '.join(list(source)[:3]) or 'none'}",
            hint="see docs/checkpoints.md for the formats that are read",
        )
    shape = source["patch_embed.proj.weight"].shape
    if len(shape) != 5:
        raise UnsupportedModelError(
            f"expected a cube embedding [width, channels, t, h, w], received patch_embed.proj.weight {list(shape)}: "
            "not a video transformer with cubes"
        )
    return shape


def _heads(source: Arrays, width: int, options: CheckpointOptions) -> int:
    scale = source.get("blocks.0.attn.scale")
    known = scale.size if scale is not None else None
    if known and options.heads not in (None, known):
        raise CheckpointError(f"the checkpoint's cosine attention has {known} heads, received {options.heads}")
    heads = options.heads or known or _HEADS_BY_WIDTH.get(width)
    if heads is None:
        raise CheckpointError(
            f"the number of attention heads is not in an official checkpoint, and width {width} is none of the "
            f"official ones ({', '.join(map(str, _HEADS_BY_WIDTH))})",
            hint="pass the head count that the model was trained with: --num-heads N",
        )
    return heads


def _geometry(
    source: Arrays,
    arguments: Mapping[str, Any],
    options: CheckpointOptions,
    channels: int,
    cube: tuple[int, int, int],
) -> ClipGeometry:
    frames = options.frames or _said_frames(arguments) or _FRAMES
    size = options.size or _whole(arguments.get("input_size")) or _SIZE
    try:
        geometry = ClipGeometry(frames=frames, height=size, width=size, channels=channels, cube=cube)
    except ValueError as error:
        raise CheckpointError(
            str(error), hint="pass the clip that the model was trained on: --frames, --size"
        ) from None
    table = source.get("pos_embed")
    if table is not None and table.ndim < 2:
        raise CheckpointError(f"expected learned positions [1, N, D], received pos_embed {list(table.shape)}")
    if table is not None and table.shape[-2] != geometry.cubes:
        raise CheckpointError(
            f"the checkpoint has {table.shape[-2]} learned positions, a clip of {geometry} has {geometry.cubes} cubes; "
            "interpolated positions would change the model and are not made",
            hint="pass the clip that the model was trained on: --frames N --size N",
        )
    return geometry


def _said_frames(arguments: Mapping[str, Any]) -> int | None:
    """Frames of the model: those of a segment, times the segments."""
    frames = _whole(arguments.get("num_frames"))
    return frames * (_whole(arguments.get("num_segments")) or 1) if frames else None


def _said_preprocessing(arguments: Mapping[str, Any]) -> SaidPreprocessing:
    data_set = arguments.get("data_set")
    kinetics = Sampling.KINETICS if isinstance(data_set, str) else None
    return SaidPreprocessing(
        sampling=Sampling.UNIFORM if data_set == _UNIFORM_DATA_SET else kinetics,
        stride=_whole(arguments.get("sampling_rate")),
        short_side=_whole(arguments.get("short_side_size")),
    )


def _assumed(
    source: Arrays, arguments: Mapping[str, Any], options: CheckpointOptions, config: TransformerConfig
) -> tuple[Assumption, ...]:
    """What neither the file nor the owner said."""
    heads = Assumption(fact=Fact.HEADS, value=str(config.heads), option="--num-heads")
    frames = Assumption(fact=Fact.FRAMES, value=str(config.geometry.frames), option="--frames")
    size = Assumption(fact=Fact.SIZE, value=f"{config.geometry.height} pixels", option="--size")
    said = {
        heads: options.heads or "blocks.0.attn.scale" in source,
        frames: options.frames or _said_frames(arguments),
        size: options.size or _whole(arguments.get("input_size")),
        IMAGENET_ASSUMED: options.normalisation,
    }
    return tuple(assumption for assumption, value in said.items() if not value)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_WHOLE else None
