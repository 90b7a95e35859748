"""Names fixed by the format: files of a server folder, and the input and output of its model.

Source: format of scheme ``lcve-1``, sections "The scrambled model" and "Artifact folder".
"""

from __future__ import annotations

from typing import Final

__all__ = ["INPUT", "MODEL", "OUTPUT", "PLAN", "PROBE", "RUNTIME_CACHE"]

MODEL: Final = "model.onnx"
PROBE: Final = "probe.safetensors"
PLAN: Final = "engine.plan"
RUNTIME_CACHE: Final = "runtime.cache"

INPUT: Final = "clips"
OUTPUT: Final = "logits"
