"""Precisions of an engine, and the largest deviation from the plain model that each may have."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["BUDGETS", "Precision"]


class Precision(StrEnum):
    """Number format of the blocks' matrix products.

    LayerNorm, softmax, the residual stream and the keyed tensors are float32 in the graph of every precision.
    OpenVINO gets bf16 or fp16 as a hint with a float32 graph, and may use that type for them as well.
    """

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


BUDGETS: Final[dict[Precision, float]] = {
    Precision.FP32: 1e-4,
    Precision.FP16: 2e-3,
    Precision.BF16: 2e-2,
    Precision.INT8: 5e-2,
}
"""Largest ``|Δlogit|`` from the reference for a logit scale of 1; it grows with a larger scale."""
