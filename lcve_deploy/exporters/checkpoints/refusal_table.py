"""Table of models that are not exported, with reasons: the source of errors and of ``docs/reference/models.md``.

A model is known by its ``model_type`` and its class. ``REFUSED`` has a row for each reason; ``TASKS`` has reasons for
classes of model types that are read.

Source: LCVE paper section 3.3 requires a cube-wise embedding, and attention that depends on the order of the tokens
only through positions that can be reordered; Hugging Face transformers, ``modeling_*.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["REFUSED", "TASKS", "UNKNOWN", "Reason", "Status", "reason_for"]


class Status(StrEnum):
    """What is known about a model that is not read."""

    POSSIBLE = "could be exact"
    RESTRICTED = "only a restricted key could be exact"
    IMPOSSIBLE = "cannot be exact"
    OTHER_TASK = "another task"
    BY_ARCHITECTURE = "depends on its architecture"
    NOT_EXAMINED = "not examined"


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a model is not exported.

    Args:
        status: what is known about it.
        text: the reason, as the end of a sentence.
    """

    status: Status
    text: str


DIVIDED: Final = Reason(
    status=Status.RESTRICTED,
    text="divided attention mixes the tokens of each frame and of each spatial position separately, so shuffling all "
    "cubes of a clip changes its logits; only one spatial order for all frames combined with one temporal order could "
    "be exact, which this version does not support",
)
ROTARY: Final = Reason(
    status=Status.POSSIBLE,
    text="rotary positions are computed inside every attention layer from a token's index in the sequence; they could "
    "be exact with the rows of their tables in cube order, which this version does not support",
)
VJEPA_FILE: Final = Reason(
    status=Status.POSSIBLE,
    text="it is an official file of V-JEPA: the encoder and the attentive probe, which classifies, are in files of "
    "their own, and the sizes that its positions are made of are in neither",
)
_TIMM: Final = Reason(
    status=Status.BY_ARCHITECTURE,
    text="it wraps a model of timm, which is read if its architecture has a row in timm_families.py",
)
WINDOWS: Final = Reason(
    status=Status.IMPOSSIBLE,
    text="attention in windows needs neighbouring cubes next to each other; it could be exact only with a step that "
    "restores this order, which would reveal the cube order",
)
CONVOLUTIONS: Final = Reason(
    status=Status.IMPOSSIBLE,
    text="overlapping convolution or pooling mixes values of neighbouring cubes, so neither cubes nor their values can "
    "be shuffled",
)
_MERGES: Final = Reason(
    status=Status.IMPOSSIBLE,
    text="its stages merge tokens of neighbouring patches, so patches must keep their neighbours",
)
RELATIVE: Final = Reason(
    status=Status.POSSIBLE,
    text="relative positions are a bias for each pair of tokens; they could be exact with the rows and columns of its "
    "index in cube order, which this version does not support",
)
_BLOCKS: Final = Reason(
    status=Status.RESTRICTED,
    text="its tokens are merged in blocks of 2 x 2, so only an order that keeps these blocks could be exact, and its "
    "language model needs the plain order; this version does not support it",
)
_TABLE: Final = Reason(
    status=Status.POSSIBLE,
    text="it is an image model that could be exact with the rows of its table in patch order, but this version does "
    "not read it",
)
_IMAGE_ROTARY: Final = Reason(
    status=Status.POSSIBLE,
    text="it is an image model that could be exact with the rows of its rotary tables in patch order, but this version "
    "does not read it",
)
_OWN_TABLE: Final = Reason(
    status=Status.POSSIBLE,
    text="it is a video model that could be exact with its own positions in cube order, but this version does not read "
    "it from a folder",
)
INTERNVIDEO2: Final = Reason(
    status=Status.POSSIBLE,
    text="InternVideo2 has RMSNorm and attentive pooling; it could be exact with the rows of its table in cube order, "
    "but this version does not read it",
)
_PIXELS: Final = Reason(
    status=Status.NOT_EXAMINED,
    text="its tokens are single pixels, so a cube has no pixel order to hide; this version does not read it",
)
_DENSE: Final = Reason(
    status=Status.OTHER_TASK,
    text="it finds objects, masks, depths or points at places of an image, and only classifiers and encoders are "
    "exported",
)
_MATCHING: Final = Reason(
    status=Status.OTHER_TASK,
    text="it compares points of two images, and only classifiers and encoders are exported",
)
_SOUND: Final = Reason(
    status=Status.OTHER_TASK,
    text="it does not classify clips, and only classifiers and encoders of clips and images are exported",
)
_LANGUAGE: Final = Reason(
    status=Status.OTHER_TASK, text="it reads text, and only classifiers and encoders of clips and images are exported"
)
_VISION_LANGUAGE: Final = Reason(
    status=Status.NOT_EXAMINED,
    text="it is the image part of a language model, which needs the tokens in their plain order; this version does "
    "not read it",
)
_UNREAD: Final = Reason(
    status=Status.NOT_EXAMINED,
    text="this version does not read it, and whether it can be exact has not been examined",
)
UNKNOWN: Final = Reason(
    status=Status.NOT_EXAMINED,
    text="this version does not know its layout or which of its tensors are positions, and a guess could give wrong "
    "results",
)
REGIONS: Final = Reason(
    status=Status.IMPOSSIBLE,
    text="it classifies regions of a frame, which a person detector selects from the tokens, so tokens must keep their "
    "order, and a clip has no single answer",
)

_TYPES: Final = {
    DIVIDED: "xclip videoprism videoprism_vision_model",
    ROTARY: "vjepa2_1",
    WINDOWS: "swin swinv2 swin2sr donut-swin maskformer-swin video_swin videoswin maxvit vitdet lw_detr_vit",
    CONVOLUTIONS: """
        mvit mvitv2 hiera sam2 sam2_vision_model sam2_hiera_det_model sam2_video edgetam edgetam_vision_model
        edgetam_video uniformer uniformerv2 resnet resnet3d rt_detr_resnet convnext convnextv2 dinov3_convnext cvt levit
        pvt_v2 poolformer segformer glpn mobilenet_v1 mobilenet_v2 mobilevit mobilevitv2 efficientnet efficientformer
        align swiftformer van bit x3d slowfast i3d c3d hgnet_v2 dinat nat textnet fastvit regnet focalnet pp_lcnet
        pp_lcnet_v3 pp_lcnet_v4 uvdoc_backbone
    """,
    _TIMM: "timm_wrapper",
    _MERGES: "pvt",
    _BLOCKS: """
        qwen2_vl qwen2_5_vl qwen2_5_vl_vision qwen3_vl qwen3_vl_vision qwen3_vl_moe_vision qwen3_5_vision
        qwen3_5_moe_vision qwen4_exp_vision
    """,
    _TABLE: "vit_mae altclip chinese_clip chinese_clip_vision_model clipseg blip pixio timm_backbone",
    _IMAGE_ROTARY: "eva eva02 pe_video perception_encoder mlcd mlcd_vision_model",
    _OWN_TABLE: "umt mvd mae_st",
    INTERNVIDEO2: "internvideo2",
    _PIXELS: "imagegpt perceiver",
    _DENSE: """
        conditional_detr d_fine dab-detr deformable_detr deimv2 detr grounding-dino lw_detr mask2former maskformer
        mm-grounding-dino omdet-turbo oneformer owlv2 owlvit pp_doclayout_v2 pp_doclayout_v3 pp_doclayout_v4
        pp_ocrv5_mobile_det pp_ocrv5_server_det pp_ocrv6_medium_det pp_ocrv6_small_det rf_detr rf_detr_dinov2 rt_detr
        rt_detr_v2 table-transformer yolos eomt eomt_dinov3 videomt depth_anything depth_pro dpt prompt_depth_anything
        chmv2 tipsv2_dpt upernet vitpose vitpose_backbone vitmatte zoedepth sam sam_vision_model sam_hq
        sam_hq_vision_model sam3 sam3_vision_model sam3_vit_model sam3_tracker sam3_tracker_video sam3_video sapiens2
    """,
    _MATCHING: "efficientloftr lightglue superglue superpoint",
    _SOUND: "whisper wav2vec2",
    _LANGUAGE: "bert roberta gpt2 llama mistral qwen2 t5",
    _VISION_LANGUAGE: """
        blip-2 llama4 mllama cohere2_vision shieldgemma2 video_llava llava_next_video instructblipvideo video_llama_3
    """,
    _UNREAD: """
        aimv2_vision_model aimv2 tipsv2 tipsv2_vision_model groupvit pe_audio_video pe_audio_video_encoder
        pe_video_encoder
    """,
}

REFUSED: Final = {model_type: reason for reason, names in _TYPES.items() for model_type in names.split()}
"""The reason for each model type that is not read."""

_PARTS: Final = re.compile(r".*_vision(_model)?|.*_vl(_\w+)?")
"""Model types that are parts of language models, by their names."""

TASKS: Final = (
    (
        r"\w+For(MaskedImageModeling|PreTraining|MaskedLM)",
        Reason(
            status=Status.OTHER_TASK,
            text="it restores masked parts of a clip, and its order of tokens is random; export the encoder or a "
            "fine-tuned classifier",
        ),
    ),
    (
        r"\w+Backbone",
        Reason(
            status=Status.OTHER_TASK,
            text="it gives maps of several blocks to another model; export the encoder",
        ),
    ),
    (
        r"\w+ForSemanticSegmentation",
        Reason(
            status=Status.IMPOSSIBLE,
            text="its head has overlapping convolutions over neighbouring tokens",
        ),
    ),
    (
        r"(VideoMAE|Vivit|Data2VecVision)Model",
        Reason(
            status=Status.OTHER_TASK,
            text="it gives tokens and no pooled vector; export a fine-tuned classifier",
        ),
    ),
)
"""Reasons for classes of model types that are read, by patterns of their names."""

_CLASS: Final = Reason(status=Status.OTHER_TASK, text="this version does not read this class of the model type")


def reason_for(model_type: str, architecture: str | None = None, *, is_read: bool = False) -> Reason:
    """Return why a model is not exported.

    Args:
        model_type: the model type.
        architecture: class of the model, if it is known.
        is_read: whether other classes of this model type are read.
    """
    if is_read:
        return next((reason for pattern, reason in TASKS if re.fullmatch(pattern, architecture or "")), _CLASS)
    if model_type in REFUSED:
        return REFUSED[model_type]
    return _VISION_LANGUAGE if _PARTS.fullmatch(model_type) else UNKNOWN
