"""Read folders of timm: ``config.json`` with an ``architecture``, and the weights.

The weights show most of a model: sizes, tokens, norms and the kind of MLP. The row of the architecture states the rest.

Source: timm, ``models/eva.py``, ``models/vision_transformer.py``, ``models/_hub.py``, ``data/transforms_factory.py``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints.assemble import assemble, block_count, require_finite
from lcve_deploy.exporters.checkpoints.folders import Source, Weights
from lcve_deploy.exporters.checkpoints.layouts import without
from lcve_deploy.exporters.checkpoints.options import CheckpointOptions, Framing, StatedPreprocessing
from lcve_deploy.exporters.checkpoints.reading import read_folder_weights, read_json_file
from lcve_deploy.exporters.checkpoints.refusals import require_rgb
from lcve_deploy.exporters.checkpoints.rotary import with_rotary
from lcve_deploy.exporters.checkpoints.settings import Settings, pair, whole
from lcve_deploy.exporters.checkpoints.timm_families import (
    ARCHITECTURES,
    HEADS,
    TIMM,
    Architecture,
    find_architecture,
)
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.assumptions import Assumption
from lcve_deploy.model.config import Activation, FinalNorm, Pooler, Readout, TransformerConfig
from lcve_deploy.model.preprocess import Resample
from lcve_deploy.model.transformer import Normalisation, VideoTransformer

__all__ = ["is_timm", "load_timm"]

_WRAPPER: Final = "timm_wrapper"
_PREFIX: Final = "timm_model."
"""Model type of transformers for models of timm, and what their names begin with there."""
_KERNEL_AXES: Final = 4
_EMBEDDING: Final = "patch_embed.proj.weight"
_QUERY: Final = ("attn_pool.q.weight", "attn_pool.q.bias", "attn_pool.latent")
_FIRST: Final = "blocks.0."
_MLP: Final = {"blocks.0.mlp.fc2.weight"}
_BLOCK: Final = r"blocks\.(\d+)\."

_ARGUMENTS: Final = frozenset(
    {"img_size", "in_chans", "patch_size", "num_classes", "global_pool", "embed_dim", "depth", "num_heads", "mlp_ratio"}
    | {
        "class_token",
        "num_reg_tokens",
        "reg_tokens",
        "no_embed_class",
        "pre_norm",
        "init_values",
        "qkv_bias",
        "qkv_fused",
        "scale_mlp",
        "scale_attn_inner",
    }
    | {"drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"}
)
"""Arguments of a model that the weights show, that this module reads, or that only training uses."""

_HEAD_WIDTH: Final = 64

_READOUTS: Final = {"token": Readout.CLASS_TOKEN, "avg": Readout.CUBES_MEAN, "map": Readout.ATTENTION}
_RESAMPLES: Final = {"bilinear": Resample.BILINEAR, "bicubic": Resample.BICUBIC, "lanczos": Resample.LANCZOS}


def is_timm(folder: Path) -> bool:
    """Tell whether the ``config.json`` of a folder is timm's, as timm or as transformers writes it."""
    path = folder / "config.json"
    settings = read_json_file(path) if path.is_file() else {}
    return "architecture" in settings and settings.get("model_type", _WRAPPER) == _WRAPPER


def load_timm(
    folder: Path, options: CheckpointOptions
) -> tuple[VideoTransformer, StatedPreprocessing, tuple[Assumption, ...]]:
    """Read a folder of timm.

    Returns:
        The model, the settings for making clips, and no assumptions: ``config.json`` has everything.

    Raises:
        CheckpointError: a file is damaged, unsafe or incomplete, or a required fact is not stated.
        UnsupportedModelError: the architecture has no row, or an argument changes it.
    """
    settings = _settings(folder)
    row = _row(settings)
    named = read_folder_weights(folder, unused=lambda name: name.removeprefix(_PREFIX) == "mask_token")
    source = {name.removeprefix(_PREFIX): array for name, array in named.items()}
    require_finite(source)
    config = _config(source, settings, row, options)
    rules = TIMM if "patch_embed.proj.bias" in source else without(("patch_embed.proj.bias",), TIMM)
    weights: Weights = dict(assemble(_prepared(source, config), rules, config))
    if row.rotary:
        weights = dict(with_rotary(weights, config, row.rotary(config.geometry, config.head_width)))
    model = VideoTransformer(config=config, weights=weights, normalisation=_normalisation(settings, options))
    return model, StatedPreprocessing(framing=_framing(settings, config.geometry, options)), ()


def _settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a folder; those of the pretrained model come last, and arguments first."""
    outer = read_json_file(folder / "config.json")
    inner, arguments = outer.get("pretrained_cfg") or {}, outer.get("model_args") or {}
    if not isinstance(inner, dict) or not isinstance(arguments, dict):
        raise CheckpointError("config.json: expected objects for pretrained_cfg and model_args")
    unknown = sorted(set(arguments) - _ARGUMENTS)
    if unknown:
        raise UnsupportedModelError(
            f"config.json: the model_args {', '.join(unknown)} change the architecture, which this version does not "
            "support"
        )
    return {**inner, **outer, **arguments}


def _row(settings: Settings) -> Architecture:
    name = str(settings["architecture"])
    row = find_architecture(name)
    if row is None:
        raise UnsupportedModelError(
            f"timm's architecture {name[:80]!r} is not supported",
            hint=f"supported, as patterns: {', '.join(ARCHITECTURES)}; see docs/reference/checkpoints.md",
        )
    return row


def _config(source: Source, settings: Settings, row: Architecture, options: CheckpointOptions) -> TransformerConfig:
    geometry = _geometry(source, settings, options)
    width = len(source[_EMBEDDING])
    first = {
        name.removeprefix("blocks.0."): array.shape for name, array in source.items() if name.startswith("blocks.0.")
    }
    hidden = first["mlp.fc2.weight"][-1]
    gated = "mlp.fc1_g.weight" in first or first.get("mlp.fc1.weight", (0,))[0] == 2 * hidden
    heads = _heads(settings, row, width)
    if options.heads not in (None, heads):
        raise CheckpointError(
            f"--num-heads {options.heads} contradicts config.json, which says {heads}", hint="leave it out"
        )
    has_head = "head.weight" in source
    return TransformerConfig(
        geometry=geometry,
        width=width,
        depth=block_count(list(source), _BLOCK),
        heads=heads,
        hidden=hidden,
        classes=len(source["head.weight"]) if has_head else width,
        activation=Activation.SILU if gated else row.activation,
        block_eps=row.eps,
        final_eps=row.eps,
        qkv_bias=any(f"attn.{name}" in first for name in ("qkv.bias", "q_bias", "q_proj.bias")),
        layer_scale=bool({"gamma_1", "ls1.gamma"} & set(first)),
        prefix=sum(source[name].shape[1] for name in ("cls_token", "reg_token") if name in source),
        positions="pos_embed" in source,
        rotary=row.rotary is not None,
        attention_norm="attn.norm.weight" in first,
        embedding_norm="norm_pre.weight" in source,
        gated=gated,
        mlp_norm="mlp.norm.weight" in first,
        head=has_head,
        **_readout(source, settings, row, heads),
    )


def _heads(settings: Settings, row: Architecture, width: int) -> int:
    """Return the number of heads that the arguments state, or that of the architecture's width or size."""
    if row.heads is not None:
        return whole({"num_heads": row.heads.get(width, max(width // _HEAD_WIDTH, 1)), **settings}, "num_heads")
    sizes = [word for word in str(settings["architecture"]).split("_") if word in HEADS]
    return whole({"num_heads": HEADS[sizes[0]], **settings}, "num_heads")


def _readout(source: Source, settings: Settings, row: Architecture, heads: int) -> dict[str, Any]:
    """Return the fields that say what the classifier reads."""
    stated = settings.get("global_pool", row.pool)
    readout = _READOUTS.get(str(stated))
    if readout is None:
        raise UnsupportedModelError(
            f"config.json: the pooling {stated!r:.80} is not supported",
            hint=f"supported as global_pool: {', '.join(_READOUTS)}",
        )
    norms = {"norm.weight": FinalNorm.BEFORE, "fc_norm.weight": FinalNorm.AFTER}
    found = [place for name, place in norms.items() if name in source] or [FinalNorm.NONE]
    if len(found) > 1:
        raise UnsupportedModelError("a model with a norm before and after pooling is not supported")
    if readout is not Readout.ATTENTION:
        return {"readout": readout, "final_norm": found[0]}
    if not row.pools_prefix and ("cls_token" in source or "reg_token" in source):
        raise UnsupportedModelError("attentive pooling of a part of the tokens is not supported")
    hidden = source.get("attn_pool.mlp.fc1.weight")
    pooler = Pooler(heads=row.pooler_heads or heads, hidden=0 if hidden is None else len(hidden), eps=row.eps)
    return {"readout": readout, "final_norm": found[0], "pooler": pooler}


def _geometry(source: Source, settings: Settings, options: CheckpointOptions) -> ClipGeometry:
    kernel = source.get(_EMBEDDING)
    if kernel is None or kernel.ndim != _KERNEL_AXES or not set(source) >= _MLP:
        raise CheckpointError("the weights are not those of a vision transformer of timm")
    require_rgb(kernel.shape[1])
    sizes = {"img_size": settings.get("img_size", (settings.get("input_size") or [None])[1:])}
    height, width = pair(sizes, "img_size")
    if options.size is not None and "pos_embed" not in source:
        height = width = options.size
    if options.size not in (None, height) or options.frames not in (None, 1):
        raise CheckpointError(
            f"the options contradict config.json: the model takes pictures of {height} x {width}; positions are not "
            "interpolated",
            hint="leave --frames and --size out",
        )
    try:
        return ClipGeometry(
            frames=1, height=height, width=width, channels=kernel.shape[1], cube=(1, kernel.shape[2], kernel.shape[3])
        )
    except ValueError as error:
        raise CheckpointError(f"config.json: {error}") from None


def _prepared(source: Source, config: TransformerConfig) -> Source:
    """Give prefix tokens without positions zeros, and project the constant query of the attentive pooling."""
    table = source.get("pos_embed")
    if table is not None and table.shape[-2] == config.geometry.cubes and config.prefix:
        zeros = np.zeros((1, config.prefix, table.shape[-1]), table.dtype)
        source = {**source, "pos_embed": np.concatenate([zeros, table], axis=1)}
    weight, bias, query = (source.get(f"attn_pool.{name}") for name in ("q.weight", "q.bias", "latent"))
    if weight is None or bias is None or query is None or query.size != weight.shape[-1]:
        return source
    rest = {name: array for name, array in source.items() if name not in _QUERY}
    projected: npt.NDArray[np.float64] = weight.astype(np.float64) @ query.reshape(-1).astype(np.float64) + bias
    return {**rest, "attn_pool.query": projected}


def _normalisation(settings: Settings, options: CheckpointOptions) -> Normalisation:
    if options.normalisation:
        return options.normalisation
    mean, std = (_numbers(settings.get(name)) for name in ("mean", "std"))
    if not mean or not std:
        raise CheckpointError(
            "config.json: pretrained_cfg has no mean and std, so the input normalisation of the model is unknown",
            hint="pass --mean a,b,c --std a,b,c, for values from 0 to 1",
        )
    return Normalisation(mean=mean, std=std)


def _numbers(value: Any) -> tuple[float, ...]:
    """Return a list of numbers; an empty one if the value is not a list of numbers."""
    if not isinstance(value, list) or not all(type(number) in (int, float) for number in value):
        return ()
    return tuple(map(float, value))


def _framing(settings: Settings, geometry: ClipGeometry, options: CheckpointOptions) -> Framing | None:
    """Return how timm resizes pictures before it crops their centre."""
    if options.short_side or "crop_pct" not in settings:
        return None
    share, mode = settings["crop_pct"], settings.get("crop_mode", "center")
    resample = _RESAMPLES.get(str(settings.get("interpolation", "bicubic")))
    if type(share) not in (int, float) or not 0 < share <= 1:
        raise CheckpointError(f"config.json: expected a crop_pct from 0 to 1, received {share!r:.80}")
    height, width = (math.floor(side / share) for side in (geometry.height, geometry.width))
    if resample is None or mode not in ("center", "squash") or (mode == "center" and height != width):
        raise CheckpointError(
            f"config.json: pictures of {geometry.height} x {geometry.width} with the interpolation "
            f"{settings.get('interpolation')!r:.80} and the crop_mode {mode!r:.80} are not supported",
            hint="pass --short-side to crop from pictures with this short side",
        )
    if mode == "squash":
        return Framing(size=(height, width), resample=resample)
    return Framing(short_side=height, resample=resample)
