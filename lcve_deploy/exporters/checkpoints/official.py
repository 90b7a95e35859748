"""Official fine-tuning checkpoints, ``.pth``: VideoMAE and the codebases that share its weight names.

Such a file does not say which codebase it is from, the number of heads, the clip's frames and size,
and positions that are computed. The owner says it, or its pickled arguments do, or it is assumed.

Source: ``modeling_finetune.py`` of the codebases in ``families``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.assumptions import Assumption, Fact
from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints.arguments import (
    Arguments,
    NamedModel,
    is_detector,
    named_model,
    said_families,
    said_frames,
    said_preprocessing,
    said_size,
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
    SaidPreprocessing,
)
from lcve_deploy.exporters.checkpoints.reading import read_pickled, to_arrays
from lcve_deploy.exporters.checkpoints.refusals import refuse_detector, refuse_weights
from lcve_deploy.exporters.checkpoints.wrappers import find_weights
from lcve_deploy.geometry import ClipGeometry
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
    """What is known before a configuration is made of it.

    Args:
        source: the weights by their names in the model.
        arguments: of the training script.
        options: what the owner says.
        family: codebase, as it is known or assumed.
        family_assumed: None where it is known.
    """

    source: Arrays
    arguments: Arguments
    options: CheckpointOptions
    family: Family
    family_assumed: Assumption | None

    @property
    def known(self) -> OfficialFamily:
        """The codebase's row of the table."""
        return FAMILIES[self.family]


def load_official(
    path: Path, options: CheckpointOptions
) -> tuple[VideoTransformer, SaidPreprocessing, tuple[Assumption, ...]]:
    """Read an official checkpoint.

    Returns:
        The model, what its training arguments say about making clips, and what was assumed because
        neither the file nor the options say it.

    Raises:
        CheckpointError: damaged, unsafe, incomplete, or silent on what must be known.
        UnsupportedModelError: not a classifier that can be exact.
    """
    content = read_pickled(path)
    saved = find_weights(content, path, options.weights)
    refuse_weights(saved.tensors)
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
    unsaid = () if options.normalisation else (IMAGENET_ASSUMED,)
    return model, said_preprocessing(arguments), (*saved.assumptions, *facts, *unsaid)


def family_of(arguments: Arguments, source: Arrays, options: CheckpointOptions) -> tuple[Family, Assumption | None]:
    """The codebase that a file is from, and the assumption if it is one."""
    said = said_families(arguments)
    if options.family is not None:
        return options.family, _overruled(options.family, said)
    if len(said) == 1:
        return said[0], None
    likely, why = _likely(source)
    if said:
        why = f"by its weights, because the training arguments fit {' and '.join(FAMILIES[f].title for f in said)}"
    return likely, Assumption(fact=Fact.FAMILY, value=f"{FAMILIES[likely].title}, {why}", option="--family")


def _overruled(family: Family, said: list[Family]) -> Assumption | None:
    if not said or family in said:
        return None
    titles = " and ".join(FAMILIES[other].title for other in said)
    value = f"{FAMILIES[family].title}, although the training arguments are those of {titles}"
    return Assumption(fact=Fact.FAMILY, value=value, option="--family")


def _likely(source: Arrays) -> tuple[Family, str]:
    """The family to assume from the weights; all families use the same names."""
    if _CLASS_TOKEN in source and _POSITIONS not in source:
        return Family.MVD, "because of its class token without a position"
    if any(name.endswith(".attn.scale") for name in source):
        return Family.VIDEOMAE_V2, "because of its cosine attention"
    kernel = source.get("patch_embed.proj.weight")
    if kernel is not None and kernel.ndim == 5 and kernel.shape[2] == 1:
        return Family.UMT, "because its cubes are one frame long"
    return Family.VIDEOMAE, "but other codebases use the same weight names"


def _require_agreement(file: _File) -> None:
    """Refuse weights that the codebase cannot have written."""
    known, source = file.known, file.source
    strange = {
        f"learned positions ({_POSITIONS})": _POSITIONS in source and not known.learned,
        "cosine attention (attn.scale)": any(n.endswith(".attn.scale") for n in source) and not known.cosine,
        f"a class token ({_CLASS_TOKEN})": _CLASS_TOKEN in source and not known.class_token,
    }
    found = [text for text, there in strange.items() if there]
    if found:
        raise CheckpointError(
            f"the checkpoint has {' and '.join(found)}, which {known.title} does not have",
            hint=f"say which codebase it is from: --family {'|'.join(Family)}",
        )


def _weights(file: _File, config: TransformerConfig) -> dict[str, npt.NDArray[np.floating]]:
    if _POSITIONS in file.source:
        return assemble(file.source, OFFICIAL, config)
    weights = assemble(file.source, _WITHOUT_POSITIONS, config)
    table = file.known.table(config.geometry, config.width)
    prefix = np.zeros((config.prefix_tokens, config.width), table.dtype)  # MVD's class token has no position
    return {**weights, "positional_encoding": np.concatenate([prefix, table])}


def _config(file: _File) -> tuple[TransformerConfig, tuple[Assumption, ...]]:
    source = file.source
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
        qkv_bias=any(name.endswith(("attn.q_bias", "attn.v_bias")) for name in source),
        layer_scale=any(".gamma_" in name for name in source),
    )
    family = (file.family_assumed, *_positions_assumed(file)) if file.family_assumed else ()
    return config, (*filter(None, family), *readout_assumed, *heads_assumed, *geometry_assumed)


def _positions_assumed(file: _File) -> tuple[Assumption, ...]:
    if _POSITIONS in file.source:
        return ()
    value = f"{file.known.positions}, because the file has none"
    return (Assumption(fact=Fact.POSITIONS, value=value, option="--family"),)


def _readout(file: _File) -> tuple[Readout, *tuple[Assumption, ...]]:
    """What the classifier reads, and where that is assumed, the assumption."""
    told, pooled = file.options.readout, "fc_norm.weight" in file.source
    if not pooled and is_detector(file.arguments):
        raise refuse_detector("its training arguments are those of a detector")
    if told is not None and (told is ReadoutChoice.MEAN) != pooled:
        there = "fc_norm, so it reads the mean" if pooled else "no fc_norm, so it does not read the mean"
        raise CheckpointError(f"--readout {told}: the checkpoint has {there}", hint="leave --readout out")
    if not pooled and told is None and file.arguments.get("use_mean_pooling") is not False:
        raise CheckpointError(
            "the checkpoint has norm and no fc_norm, so it is not known what its classifier reads. It can be token 0 "
            "(a model trained with --use_cls), or regions (a detector for AVA, which cannot be exported)",
            hint="if it was trained with --use_cls, pass --readout first-token",
        )
    token = _CLASS_TOKEN in file.source
    if pooled:
        readout, text = (Readout.CUBES_MEAN if token else Readout.MEAN), "the mean of the cubes, by fc_norm"
    else:
        readout, text = (Readout.CLASS_TOKEN if token else Readout.FIRST_CUBE), "token 0, as the arguments say"
    if told is not None or file.family_assumed is None:
        return (readout,)
    return readout, Assumption(fact=Fact.READOUT, value=text, option="--readout")


def _kernel(source: Arrays) -> tuple[int, ...]:
    if "patch_embed.proj.weight" not in source:
        raise UnsupportedModelError(
            "the checkpoint's layout is not known: an official VideoMAE file has patch_embed.proj.weight, received "
            f"{len(source)} weights such as {', '.join(list(source)[:3]) or 'none'}",
            hint="see docs/reference/checkpoints.md for the formats that are read",
        )
    shape = source["patch_embed.proj.weight"].shape
    if len(shape) != 5:
        raise UnsupportedModelError(
            f"expected a cube embedding [width, channels, t, h, w], received patch_embed.proj.weight {list(shape)}: "
            "not a video transformer with cubes"
        )
    return shape


def _heads(file: _File, named: NamedModel | None, width: int) -> tuple[int, *tuple[Assumption, ...]]:
    """Attention heads, and where they are assumed, the assumption."""
    scale, told = file.source.get("blocks.0.attn.scale"), file.options.heads
    known = scale.size if scale is not None else None
    if known and told not in (None, known):
        raise CheckpointError(f"the checkpoint's cosine attention has {known} heads, received {told}")
    if said := told or known or (named.heads if named else None):
        return (said,)
    heads = _HEADS_BY_WIDTH.get(width)
    if heads is None:
        raise CheckpointError(
            f"the number of attention heads is not in an official checkpoint, and width {width} is none of the "
            f"official ones ({', '.join(map(str, _HEADS_BY_WIDTH))})",
            hint="pass the head count that the model was trained with: --num-heads N",
        )
    return heads, Assumption(fact=Fact.HEADS, value=f"{heads}, by the width {width}", option="--num-heads")


def _geometry(
    file: _File, named: NamedModel | None, channels: int, cube: tuple[int, int, int]
) -> tuple[ClipGeometry, tuple[Assumption, ...]]:
    """The clip, and what of it is assumed."""
    table = file.source.get(_POSITIONS)
    if table is not None and table.ndim < 2:
        raise CheckpointError(f"expected learned positions [1, N, D], received pos_embed {list(table.shape)}")
    said_side = file.options.size or said_size(file.arguments) or (named.size if named else None)
    size = said_side or _SIZE
    told = file.options.frames or said_frames(file.arguments)
    frames = told or _frames_of(table, size, cube) or file.known.frames
    try:
        geometry = ClipGeometry(frames=frames, height=size, width=size, channels=channels, cube=cube)
    except ValueError as error:
        raise CheckpointError(
            str(error), hint="pass the clip that the model was trained on: --frames, --size"
        ) from None
    if table is not None and table.shape[-2] != geometry.cubes:
        raise CheckpointError(
            f"the checkpoint has {table.shape[-2]} learned positions, a clip of {geometry} has {geometry.cubes} cubes; "
            "interpolated positions would change the model and are not made",
            hint="pass the clip that the model was trained on: --frames N --size N",
        )
    assumed = {
        Assumption(fact=Fact.FRAMES, value=str(frames), option="--frames"): told,
        Assumption(fact=Fact.SIZE, value=f"{size} pixels", option="--size"): said_side,
    }
    return geometry, tuple(assumption for assumption, said in assumed.items() if not said)


def _frames_of(table: npt.NDArray[np.floating] | None, size: int, cube: tuple[int, int, int]) -> int | None:
    """Frames that learned positions are for, given the size; None where they fit none."""
    places = (size // cube[1]) * (size // cube[2]) if min(cube) else 0
    if table is None or not places or table.shape[-2] % places:
        return None
    return int(table.shape[-2]) // places * cube[0]
