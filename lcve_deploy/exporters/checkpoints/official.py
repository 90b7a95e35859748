"""Read official fine-tuning checkpoints (``.pth``) of VideoMAE and the codebases that share its weight names.

The weights do not state the codebase, the number of heads, the frames and size of a clip, or computed positions.
These facts are taken from the owner's options or from the pickled training arguments, or else assumed.

Source: ``modeling_finetune.py`` of the codebases in ``families``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints.arguments import (
    Arguments,
    NamedModel,
    is_detector,
    named_model,
    stated_families,
    stated_frames,
    stated_preprocessing,
    stated_size,
    training_arguments,
)
from lcve_deploy.exporters.checkpoints.assemble import (
    Arrays,
    assemble,
    block_count,
    require_finite,
)
from lcve_deploy.exporters.checkpoints.families import FAMILIES, Family, OfficialFamily
from lcve_deploy.exporters.checkpoints.layouts import OFFICIAL
from lcve_deploy.exporters.checkpoints.options import (
    IMAGENET_ASSUMED,
    CheckpointOptions,
    ReadoutChoice,
    StatedPreprocessing,
)
from lcve_deploy.exporters.checkpoints.reading import read_pickled, to_arrays
from lcve_deploy.exporters.checkpoints.refusals import (
    detector_error,
    require_supported_content,
    require_supported_weights,
)
from lcve_deploy.exporters.checkpoints.wrappers import find_weights
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.assumptions import Assumption, Fact
from lcve_deploy.model.transformer import (
    IMAGENET,
    Attention,
    Readout,
    TransformerConfig,
    VideoTransformer,
)

__all__ = ["family_of", "load_official"]

_WITHOUT_POSITIONS: Final = tuple(rule for rule in OFFICIAL if rule.target != "positional_encoding")
_HEADS_BY_WIDTH: Final = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
_SIZE: Final = 224
_POSITIONS: Final = "pos_embed"
_CLASS_TOKEN: Final = "cls_token"


@dataclass(frozen=True, kw_only=True)
class _File:
    """Facts from which the configuration is derived.

    Args:
        source: weights by their names in the model.
        arguments: arguments of the training script.
        options: facts stated by the owner.
        family: codebase, stated or assumed.
        family_assumed: the assumption; None if the codebase is stated.
    """

    source: Arrays
    arguments: Arguments
    options: CheckpointOptions
    family: Family
    family_assumed: Assumption | None

    @property
    def codebase(self) -> OfficialFamily:
        """Row of the codebase in the table."""
        return FAMILIES[self.family]


def load_official(
    path: Path, options: CheckpointOptions
) -> tuple[VideoTransformer, StatedPreprocessing, tuple[Assumption, ...]]:
    """Read an official checkpoint.

    Returns:
        The model, the settings that its training arguments state for making clips, and the facts that were assumed
        because neither the file nor the options state them.

    Raises:
        CheckpointError: the file is damaged, unsafe or incomplete, or a required fact is not stated.
        UnsupportedModelError: the model is not a classifier, or cannot be exported exactly.
    """
    content = read_pickled(path)
    require_supported_content(content)
    saved = find_weights(content, path, options.weights)
    require_supported_weights(saved.tensors)
    source = to_arrays(saved.tensors, stored=path.stat().st_size)
    require_finite(source)
    arguments = training_arguments(content, saved.place)
    family, assumed = family_of(arguments, source, options)
    file = _File(source=source, arguments=arguments, options=options, family=family, family_assumed=assumed)
    _require_agreement(file)
    config, facts = _config(file)
    model = VideoTransformer(
        config=config, weights=_weights(file, config), normalisation=options.normalisation or IMAGENET
    )
    normalisation = () if options.normalisation else (IMAGENET_ASSUMED,)
    return model, stated_preprocessing(arguments), (*saved.assumptions, *facts, *normalisation)


def family_of(arguments: Arguments, source: Arrays, options: CheckpointOptions) -> tuple[Family, Assumption | None]:
    """Return the codebase of a file, and the assumption if it is not stated or if the options contradict the file."""
    stated = stated_families(arguments)
    if options.family is not None:
        return options.family, _override(options.family, stated)
    if len(stated) == 1:
        return stated[0], None
    likely, why = _likely_family(source)
    if stated:
        titles = " and ".join(FAMILIES[family].title for family in stated)
        why = f"by its weights, because the training arguments match {titles}"
    return likely, _family_assumed(likely, f"{FAMILIES[likely].title}, {why}")


def _override(family: Family, stated: list[Family]) -> Assumption | None:
    """Return an assumption if the owner's family contradicts the training arguments."""
    if not stated or family in stated:
        return None
    titles = " and ".join(FAMILIES[other].title for other in stated)
    value = f"{FAMILIES[family].title}, although the training arguments are those of {titles}"
    return _family_assumed(family, value)


def _family_assumed(family: Family, value: str) -> Assumption:
    return Assumption(fact=Fact.FAMILY, value=value, option="--family", arguments={"--family": family.value})


def _likely_family(source: Arrays) -> tuple[Family, str]:
    """Return the family to assume from the weights, and the reason; all families use the same names."""
    if _CLASS_TOKEN in source and _POSITIONS not in source:
        return Family.MVD, "because of its class token without a position"
    if any(name.endswith(".attn.scale") for name in source):
        return Family.VIDEOMAE_V2, "because of its cosine attention"
    kernel = source.get("patch_embed.proj.weight")
    if kernel is not None and kernel.ndim == 5 and kernel.shape[2] == 1:
        return Family.UMT, "because its cubes are one frame long"
    return Family.VIDEOMAE, "but other codebases use the same weight names"


def _require_agreement(file: _File) -> None:
    """Reject weights that the codebase cannot have written."""
    codebase, source = file.codebase, file.source
    unsupported = {
        f"learned positions ({_POSITIONS})": _POSITIONS in source and not codebase.learned,
        "cosine attention (attn.scale)": any(n.endswith(".attn.scale") for n in source) and not codebase.cosine,
        f"a class token ({_CLASS_TOKEN})": _CLASS_TOKEN in source and not codebase.class_token,
    }
    found = [text for text, present in unsupported.items() if present]
    if found:
        raise CheckpointError(
            f"the checkpoint has {' and '.join(found)}, which {codebase.title} does not have",
            hint=f"pass the codebase that wrote it: --family {'|'.join(Family)}",
        )


def _weights(file: _File, config: TransformerConfig) -> dict[str, npt.NDArray[np.floating]]:
    if _POSITIONS in file.source:
        return assemble(file.source, OFFICIAL, config)
    weights = assemble(file.source, _WITHOUT_POSITIONS, config)
    table = file.codebase.table(config.geometry, config.width)
    prefix = np.zeros((config.prefix, config.width), table.dtype)  # MVD's class token has no position
    return {**weights, "positional_encoding": np.concatenate([prefix, table])}


def _config(file: _File) -> tuple[TransformerConfig, tuple[Assumption, ...]]:
    source = file.source
    kernel, depth = _kernel(source), block_count(list(source), r"blocks\.(\d{1,9})\.")
    width, channels, *cube = kernel
    fc1, head = source.get("blocks.0.mlp.fc1.weight"), source.get("head.weight")
    if fc1 is None or head is None:
        absent = "blocks.0.mlp.fc1.weight" if fc1 is None else "head.weight"
        raise CheckpointError(
            f"the checkpoint's weights do not match the model: missing {absent}",
            hint="pass a fine-tuned classifier, not a pre-trained encoder alone",
        )
    if fc1.ndim != 2 or head.ndim != 2:
        raise CheckpointError(
            f"expected matrices, received blocks.0.mlp.fc1.weight {list(fc1.shape)} and head.weight {list(head.shape)}"
        )
    readout, *readout_assumed = _readout(file)
    named = named_model(file.arguments)
    named = named if named and named[:2] == (width, depth) and named.patch == cube[1] == cube[2] else None
    geometry, geometry_assumed = _geometry(file, named, channels, (cube[0], cube[1], cube[2]))
    heads, *heads_assumed = _heads(file, named, width)
    config = TransformerConfig(
        geometry=geometry,
        width=width,
        depth=depth,
        heads=heads,
        hidden=len(fc1),
        classes=len(head),
        attention=Attention.COSINE if any(name.endswith(".attn.scale") for name in source) else Attention.DOT,
        readout=readout,
        prefix=int(_CLASS_TOKEN in source),
        qkv_bias=any(name.endswith(("attn.q_bias", "attn.v_bias")) for name in source),
        layer_scale=any(".gamma_" in name for name in source),
    )
    family = (file.family_assumed, *_positions_assumed(file)) if file.family_assumed else ()
    return config, (*filter(None, family), *readout_assumed, *heads_assumed, *geometry_assumed)


def _positions_assumed(file: _File) -> tuple[Assumption, ...]:
    if _POSITIONS in file.source:
        return ()
    value = f"{file.codebase.positions}, because the file has none"
    return (Assumption(fact=Fact.POSITIONS, value=value, option="--family"),)


def _readout(file: _File) -> tuple[Readout, *tuple[Assumption, ...]]:
    """Return what the classifier reads, and the assumption if it is not stated."""
    stated, pooled = file.options.readout, "fc_norm.weight" in file.source
    if not pooled and is_detector(file.arguments):
        raise detector_error("its training arguments are those of a detector")
    if stated is not None and (stated is ReadoutChoice.MEAN) != pooled:
        reason = "fc_norm, so it reads the mean" if pooled else "no fc_norm, so it does not read the mean"
        raise CheckpointError(f"--readout {stated}: the checkpoint has {reason}", hint="leave --readout out")
    if not pooled and stated is None and file.arguments.get("use_mean_pooling") is not False:
        raise CheckpointError(
            "the checkpoint has norm but no fc_norm, so it is unknown what its classifier reads: token 0 (a model "
            "trained with --use_cls), or regions (a detector for AVA, which cannot be exported)",
            hint="if it was trained with --use_cls, pass --readout first-token",
        )
    token = _CLASS_TOKEN in file.source
    if pooled:
        readout, text = (Readout.CUBES_MEAN if token else Readout.MEAN), "the mean of the cubes, by fc_norm"
    else:
        readout, text = (Readout.CLASS_TOKEN if token else Readout.FIRST_CUBE), "token 0, as the arguments say"
    if stated is not None or file.family_assumed is None:
        return (readout,)
    choice = ReadoutChoice.MEAN if pooled else ReadoutChoice.FIRST_TOKEN
    return readout, Assumption(fact=Fact.READOUT, value=text, option="--readout", arguments={"--readout": choice.value})


def _kernel(source: Arrays) -> tuple[int, ...]:
    if "patch_embed.proj.weight" not in source:
        raise UnsupportedModelError(
            "the checkpoint's layout is unknown: an official VideoMAE file has patch_embed.proj.weight, received "
            f"{len(source)} weights such as {', '.join(list(source)[:3]) or 'none'}",
            hint="see docs/reference/checkpoints.md for the supported formats",
        )
    shape = source["patch_embed.proj.weight"].shape
    if len(shape) != 5:
        raise UnsupportedModelError(
            "expected a video transformer with a cube embedding [width, channels, t, h, w], received "
            f"patch_embed.proj.weight {list(shape)}"
        )
    return shape


def _heads(file: _File, named: NamedModel | None, width: int) -> tuple[int, *tuple[Assumption, ...]]:
    """Return the number of attention heads, and the assumption if it is not stated."""
    scale, given = file.source.get("blocks.0.attn.scale"), file.options.heads
    in_weights = scale.size if scale is not None else None
    if in_weights and given not in (None, in_weights):
        raise CheckpointError(f"the checkpoint's cosine attention has {in_weights} heads, received {given}")
    if stated := given or in_weights or (named.heads if named else None):
        return (stated,)
    heads = _HEADS_BY_WIDTH.get(width)
    if heads is None:
        raise CheckpointError(
            "an official checkpoint does not state its number of attention heads, and the width "
            f"{width} is not that of an official model ({', '.join(map(str, _HEADS_BY_WIDTH))})",
            hint="pass the number of heads that the model was trained with: --num-heads N",
        )
    value, option = f"{heads}, by the width {width}", "--num-heads"
    return heads, Assumption(fact=Fact.HEADS, value=value, option=option, arguments={option: str(heads)})


def _geometry(
    file: _File, named: NamedModel | None, channels: int, cube: tuple[int, int, int]
) -> tuple[ClipGeometry, tuple[Assumption, ...]]:
    """Return the clip geometry, and assumptions for the sizes that are not stated."""
    table = file.source.get(_POSITIONS)
    if table is not None and table.ndim < 2:
        raise CheckpointError(f"expected learned positions [1, N, D], received pos_embed {list(table.shape)}")
    side = file.options.size or stated_size(file.arguments) or (named.size if named else None)
    size = side or _SIZE
    frames_stated = file.options.frames or stated_frames(file.arguments)
    frames = frames_stated or _frames_of(table, size, cube) or file.codebase.frames
    try:
        geometry = ClipGeometry(frames=frames, height=size, width=size, channels=channels, cube=cube)
    except ValueError as error:
        raise CheckpointError(
            str(error), hint="pass the clip that the model was trained on: --frames, --size"
        ) from None
    if table is not None and table.shape[-2] != geometry.cubes:
        raise CheckpointError(
            f"the checkpoint has {table.shape[-2]} learned positions, but a clip of {geometry} has {geometry.cubes} "
            "cubes; positions are not interpolated, because that would change the model",
            hint="pass the clip that the model was trained on: --frames N --size N",
        )
    assumed = {
        _whole_assumed(Fact.FRAMES, frames, "--frames"): frames_stated,
        _whole_assumed(Fact.SIZE, size, "--size", unit=" pixels"): side,
    }
    return geometry, tuple(assumption for assumption, stated in assumed.items() if not stated)


def _whole_assumed(fact: Fact, number: int, option: str, *, unit: str = "") -> Assumption:
    return Assumption(fact=fact, value=f"{number}{unit}", option=option, arguments={option: str(number)})


def _frames_of(table: npt.NDArray[np.floating] | None, size: int, cube: tuple[int, int, int]) -> int | None:
    """Return the number of frames that learned positions are for, given the size; None if they fit no number."""
    per_frame = (size // cube[1]) * (size // cube[2]) if min(cube) else 0
    if table is None or not per_frame or table.shape[-2] % per_frame:
        return None
    return int(table.shape[-2]) // per_frame * cube[0]
