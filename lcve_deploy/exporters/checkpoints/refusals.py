"""Tables of models that are not exported, with reasons; docs/reference/checkpoints.md explains them.

Some of these models cannot be exported exactly. Most could be, but this version does not support them. The error says
which of the two applies.

Source: LCVE paper section 3.3 requires a cube-wise embedding, and attention that depends on the order of the tokens
only through positions that can be reordered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from lcve_deploy.errors import UnsupportedModelError

__all__ = ["DIVIDED_ATTENTION", "architecture_error", "detector_error", "model_type_error", "require_supported_weights"]

DIVIDED_ATTENTION: Final = (
    "divided attention mixes the tokens of each frame and of each spatial position separately, so shuffling all cubes "
    "of a clip changes its logits; only one spatial order for all frames combined with one temporal order could be "
    "exact, which this version does not support"
)
_ROTARY: Final = (
    "rotary positions are computed inside every attention layer from a token's index in the sequence; they could be "
    "exact with the rows of their tables in cube order, which this version does not support"
)
_WINDOWS: Final = (
    "attention in windows needs neighbouring cubes next to each other; it could be exact only with a step that "
    "restores this order, which would reveal the cube order"
)
_CONVOLUTIONS: Final = (
    "overlapping convolution or pooling mixes values of neighbouring cubes, so neither cubes nor their values can "
    "be shuffled"
)
_RELATIVE: Final = (
    "relative positions are a bias for each pair of tokens; they could be exact with the rows and columns of its index "
    "in cube order, which this version does not support"
)
_BLOCKS: Final = (
    "its tokens are merged in blocks of 2 x 2, so only an order that keeps these blocks could be exact, and its "
    "language model needs the plain order; this version does not support it"
)
_IMAGE: Final = (
    "it is an image model; it could be exact with the rows of its table in patch order, but this version only exports "
    "video classifiers"
)
_IMAGE_ROTARY: Final = f"it is an image model, and this version only exports video classifiers; {_ROTARY}"
_OWN_TABLE: Final = (
    "it is a video model that could be exact with its own positions in cube order, but this version does not read "
    "it from a folder"
)
_NO_CLASSIFIER: Final = "it does not classify clips, and this package only exports video classifiers"
_INTERNVIDEO2: Final = (
    "InternVideo2 has RMSNorm and attentive pooling; it could be exact with the rows of its table in cube order, but "
    "this version does not read it"
)
_LANGUAGE: Final = "it reads text, and this package only exports video classifiers"
_UNKNOWN: Final = (
    "this version does not know its layout or which of its tensors are positions, and a guess could give wrong results"
)
_REGIONS: Final = (
    "it classifies regions of a frame, which a person detector selects from the tokens, so tokens must keep their "
    "order, and a clip has no single answer"
)

_TYPES: Final = {
    DIVIDED_ATTENTION: ("xclip", "videoprism", "videoprism_vision_model"),
    _ROTARY: ("vjepa2_1",),
    _WINDOWS: ("swin", "swinv2", "swin2sr", "donut-swin", "maskformer-swin", "video_swin", "videoswin", "maxvit"),
    _CONVOLUTIONS: (
        *("mvit", "mvitv2", "hiera", "sam2", "sam2_hiera_det_model", "uniformer", "uniformerv2", "resnet", "resnet3d"),
        *("convnext", "convnextv2", "cvt", "levit", "pvt", "pvt_v2", "poolformer", "segformer", "mobilenet_v1"),
        *("mobilenet_v2", "mobilevit", "mobilevitv2", "efficientnet", "efficientformer", "swiftformer", "van", "bit"),
        *("x3d", "slowfast", "i3d", "c3d", "hgnet_v2", "dinat", "nat", "textnet", "fastvit", "regnet", "focalnet"),
    ),
    _BLOCKS: ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"),
    _IMAGE: ("vit_mae", "timm_wrapper"),
    _IMAGE_ROTARY: ("eva", "eva02", "pe_video", "perception_encoder"),
    _OWN_TABLE: ("umt", "mvd", "mae_st"),
    _INTERNVIDEO2: ("internvideo2",),
    _LANGUAGE: ("bert", "roberta", "gpt2", "llama", "mistral", "qwen2", "t5"),
    _NO_CLASSIFIER: ("detr", "yolos", "sam", "whisper", "wav2vec2"),
}
_BY_MODEL_TYPE: Final = {model_type: reason for reason, model_types in _TYPES.items() for model_type in model_types}

_BY_WEIGHT: Final = (
    (r"roi_heads?\.|\bcls_score\.|bbox_head\.|roi_action", _REGIONS),
    (r"temporal_attn|temporal_attention|time_embed|temporal_fc", DIVIDED_ATTENTION),
    (r"layers\.\d+\.(blocks\.\d+\.attn\.)?.*relative_position", _WINDOWS),
    (r"relative_position_bias|relative_position_index|rel_pos_bias", _RELATIVE),
    (r"pool_[qkv]\.|rel_pos_[hwt]|patch_embed_xp|attn\.pool", _CONVOLUTIONS),
    (r"^clip_projector\.|^clip_pos_embed|blocks\.\d+\.ls[12]\.", _INTERNVIDEO2),
    (r"rotary|\brope|freqs_c(os|is)|inv_freq", _ROTARY),
    (r"^(stem|s\d|layer\d|conv\d?|features)\.|\.conv\d?\.weight|\.dpe\.|pos_embed\.weight", _CONVOLUTIONS),
)


def detector_error(seen: str) -> UnsupportedModelError:
    """Create the error for a detector, parts of which look like a classifier.

    Args:
        seen: evidence that the checkpoint is a detector.
    """
    return UnsupportedModelError(
        f"the checkpoint is a detector for AVA ({seen}): {_REGIONS}",
        hint="export a classifier; see docs/reference/checkpoints.md",
    )


def model_type_error(model_type: str, supported: Iterable[str]) -> UnsupportedModelError:
    """Create the error for a Hugging Face model type that is not supported."""
    reason = _BY_MODEL_TYPE.get(model_type, _UNKNOWN)
    return UnsupportedModelError(
        f"a model of type {model_type!r} cannot be exported: {reason}",
        hint=f"supported model types: {', '.join(supported)}; see docs/reference/checkpoints.md",
    )


def architecture_error(stated: Sequence[str], supported: Iterable[str]) -> UnsupportedModelError:
    """Create the error for a class of a supported model type that is not supported itself."""
    return UnsupportedModelError(
        f"expected {' or '.join(supported)}, received {', '.join(stated)}",
        hint="export a fine-tuned classifier or an encoder; see docs/reference/checkpoints.md",
    )


def require_supported_weights(names: Iterable[str]) -> None:
    """Check that no weight name belongs to an architecture that is not supported.

    Raises:
        UnsupportedModelError: one does. The message has its name and the reason.
    """
    for name in names:
        for pattern, reason in _BY_WEIGHT:
            if re.search(pattern, name):
                raise UnsupportedModelError(
                    f"the checkpoint cannot be exported: {reason} (seen: {name})",
                    hint="see docs/reference/checkpoints.md for the supported models",
                )
