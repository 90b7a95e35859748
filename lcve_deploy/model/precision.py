"""Precisions of an engine, and how far each may be from the plain model."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["BUDGETS", "Precision"]


class Precision(StrEnum):
    """Number format of the blocks' matrix products.

    LayerNorm, softmax, the residual stream and the keyed tensors are float32 in the graph of every precision.
    OpenVINO, which is told bf16 or fp16 for a float32 graph, may take that type for them as well.
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
"""Largest ``|Δlogit|`` from the float64 reference, for a logit scale of 1; larger logits scale it up."""
