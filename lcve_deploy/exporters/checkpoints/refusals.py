"""What cannot be exported exactly, and why: two tables.

Source: the LCVE paper's section 3.3 needs cube-wise embedding, absolute positions and attention that
does not care about the order of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lcve_deploy.errors import UnsupportedModelError

__all__ = ["refuse_detector", "refuse_model_type", "refuse_weights"]

_DIVIDED: Final = (
    "TimeSformer's divided attention mixes tokens of one frame and of one place apart, so shuffling all cubes of a "
    "clip changes its logits; only one spatial order for all frames times one temporal order could be exact"
)
_ROTARY: Final = (
    "rotary positions are computed inside every attention layer from a token's place in the sequence; exporting "
    "them needs the place ids permuted in every layer, which this version does not do"
)
_WINDOWS: Final = (
    "attention in windows, with relative positions, needs neighbouring cubes side by side, so cubes cannot be shuffled"
)
_CONVOLUTIONS: Final = (
    "overlapping convolution or pooling mixes values of neighbouring cubes, so neither cubes nor their values can "
    "be shuffled"
)
_RELATIVE: Final = (
    "relative position biases or convolutional positions depend on which cubes are neighbours, so cubes cannot be "
    "shuffled"
)
_REGIONS: Final = (
    "it classifies regions of a frame, cut out of the tokens by boxes of a person detector, so tokens must stay where "
    "they are, and there is no one answer for a clip"
)
_IMAGE: Final = "this is an image model; only video classifiers are exported"

_BY_MODEL_TYPE: Final = {
    "timesformer": _DIVIDED,
    "vjepa2": _ROTARY,
    "swin": _WINDOWS,
    "swinv2": _WINDOWS,
    "video_swin": _WINDOWS,
    "videoswin": _WINDOWS,
    "mvit": _CONVOLUTIONS,
    "mvitv2": _CONVOLUTIONS,
    "hiera": _CONVOLUTIONS,
    "uniformer": _CONVOLUTIONS,
    "resnet": _CONVOLUTIONS,
    "convnext": _CONVOLUTIONS,
    "vit": _IMAGE,
    "deit": _IMAGE,
    "dinov2": _IMAGE,
    "beit": _RELATIVE,
}

_BY_WEIGHT: Final = (
    (r"roi_heads?\.|\bcls_score\.|bbox_head\.|roi_action", _REGIONS),
    (r"temporal_attn|temporal_attention|time_embed|temporal_fc", _DIVIDED),
    (r"relative_position_bias|relative_position_index|rel_pos_bias", _WINDOWS),
    (r"pool_[qkv]\.|rel_pos_[hwt]|patch_embed_xp|attn\.pool", _CONVOLUTIONS),
    (r"rotary|\brope|freqs_c(os|is)|inv_freq", _ROTARY),
    (r"^(stem|s\d|layer\d|conv\d?|features)\.|\.conv\d?\.weight|\.dpe\.|pos_embed\.weight", _CONVOLUTIONS),
)


def refuse_detector(seen: str) -> UnsupportedModelError:
    """The error for a detector, of which a part looks like a classifier."""
    return UnsupportedModelError(
        f"the checkpoint is a detector for AVA ({seen}): {_REGIONS}",
        hint="export a classifier; see docs/checkpoints.md",
    )


def refuse_model_type(model_type: str, supported: Iterable[str]) -> UnsupportedModelError:
    """The error for a Hugging Face model type that no row of the table reads."""
    reason = _BY_MODEL_TYPE.get(model_type, "its layout is not known")
    return UnsupportedModelError(
        f"a model of type {model_type!r} cannot be exported: {reason}",
        hint=f"supported model types: {', '.join(supported)}; see docs/checkpoints.md",
    )


def refuse_weights(names: Iterable[str]) -> None:
    """Refuse weights whose names give away an architecture that cannot be exact.

    Raises:
        UnsupportedModelError: says which weight, and why.
    """
    for name in names:
        for pattern, reason in _BY_WEIGHT:
            if re.search(pattern, name):
                raise UnsupportedModelError(
                    f"the checkpoint cannot be exported exactly: {reason} (seen: {name})",
                    hint="see docs/checkpoints.md for the models that can",
                )
