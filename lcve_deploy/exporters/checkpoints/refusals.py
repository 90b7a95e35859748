"""Errors for models that are not exported. Each has its reason from ``refusal_table``.

Some of these models cannot be exported exactly. Others could be, but this version does not support them. The error says
which of the two applies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from lcve_deploy.errors import UnsupportedModelError
from lcve_deploy.exporters.checkpoints import refusal_table as table
from lcve_deploy.exporters.checkpoints.refusal_table import reason_for

__all__ = [
    "architecture_error",
    "detector_error",
    "model_type_error",
    "require_rgb",
    "require_supported_content",
    "require_supported_weights",
]

_RGB: Final = 3
_MAX_NESTING: Final = 3
_VJEPA: Final = r"(^|\.)(predictor_embed|predictor_blocks|query_tokens|cross_attention_block)\b"
_PAGE: Final = "see docs/reference/models.md"

_BY_WEIGHT: Final = (
    (r"roi_heads?\.|\bcls_score\.|bbox_head\.|roi_action", table.REGIONS),
    (r"temporal_attn|temporal_attention|time_embed|temporal_fc", table.DIVIDED),
    (r"layers\.\d+\.(blocks\.\d+\.attn\.)?.*relative_position", table.WINDOWS),
    (r"relative_position_bias|relative_position_index|rel_pos_bias", table.RELATIVE),
    (r"pool_[qkv]\.|rel_pos_[hwt]|patch_embed_xp|attn\.pool", table.CONVOLUTIONS),
    (r"^clip_projector\.|^clip_pos_embed|blocks\.\d+\.ls[12]\.", table.INTERNVIDEO2),
    (r"rotary|\brope|freqs_c(os|is)|inv_freq", table.ROTARY),
    (r"^(stem|s\d|layer\d|conv\d?|features)\.|\.conv\d?\.weight|\.dpe\.|pos_embed\.weight", table.CONVOLUTIONS),
)


def detector_error(seen: str) -> UnsupportedModelError:
    """Create the error for a detector, parts of which look like a classifier.

    Args:
        seen: evidence that the checkpoint is a detector.
    """
    return UnsupportedModelError(
        f"the checkpoint is a detector for AVA ({seen}): {table.REGIONS.text}",
        hint="export a classifier; see docs/reference/checkpoints.md",
    )


def model_type_error(model_type: str, supported: Iterable[str]) -> UnsupportedModelError:
    """Create the error for a Hugging Face model type that is not supported."""
    return UnsupportedModelError(
        f"a model of type {model_type!r} cannot be exported: {reason_for(model_type).text}",
        hint=f"supported model types: {', '.join(supported)}; {_PAGE}",
    )


def architecture_error(model_type: str, stated: Sequence[str], supported: Iterable[str]) -> UnsupportedModelError:
    """Create the error for a class of a supported model type that is not supported itself."""
    reason = reason_for(model_type, stated[0], is_read=True).text
    return UnsupportedModelError(
        f"expected {' or '.join(supported)}, received {', '.join(stated)}: {reason}",
        hint=f"export one of the expected classes; {_PAGE}",
    )


def require_rgb(channels: int) -> None:
    """Check that a model takes clips of three channels.

    Raises:
        UnsupportedModelError: it takes others.
    """
    if channels != _RGB:
        raise UnsupportedModelError(f"expected a model for RGB clips with 3 channels, received one for {channels}")


def require_supported_weights(names: Iterable[str]) -> None:
    """Check that no weight name belongs to an architecture that is not supported.

    Raises:
        UnsupportedModelError: one does. The message has its name and the reason.
    """
    for name in names:
        for pattern, reason in _BY_WEIGHT:
            if re.search(pattern, name):
                raise UnsupportedModelError(
                    f"the checkpoint cannot be exported: {reason.text} (seen: {name})",
                    hint="see docs/reference/checkpoints.md for the supported models",
                )


def require_supported_content(content: Any) -> None:
    """Check that a pickled file is not one of V-JEPA, whose encoder could be mistaken for VideoMAE's.

    Raises:
        UnsupportedModelError: it has a predictor next to an encoder, or an attentive probe.
    """
    seen = next((name for name in _names(content, _MAX_NESTING) if re.search(_VJEPA, name)), None)
    if seen is not None:
        raise UnsupportedModelError(
            f"the checkpoint cannot be exported: {table.VJEPA_FILE.text} (seen: {seen[:80]})",
            hint="export the Hugging Face folder of the classifier (VJEPA2ForVideoClassification); transformers has a "
            "script that makes it of the official files: convert_vjepa2_classifier_to_hf.py",
        )


def _names(content: Any, depth: int) -> Iterator[str]:
    """Yield the names in a file and in what it contains, down to some depth."""
    inner = (
        dict.items(content) if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    )
    for name, value in inner:
        yield str(name)
        if depth > 1:
            yield from _names(value, depth - 1)
