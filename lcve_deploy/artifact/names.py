"""Names fixed by the format: files of a model folder and of a key folder, and inputs and output of the graph.

Source: format of scheme ``lcve-1``, sections "The scrambled model" and "Artifact folder".
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BANK_PREFIX",
    "INPUT",
    "KEYED",
    "KEYS",
    "KEY_INPUT",
    "KEY_MANIFEST",
    "KEY_SIGNATURE",
    "MODEL",
    "OUTPUT",
    "PACKED_INPUT",
    "PLAN",
    "PROBE",
    "RUNTIME_CACHE",
    "STEP_INPUT",
]

MODEL: Final = "model.onnx"
PROBE: Final = "probe.safetensors"
PLAN: Final = "engine.plan"
RUNTIME_CACHE: Final = "runtime.cache"

KEYS: Final = "keys"
KEY_MANIFEST: Final = "key.json"
KEY_SIGNATURE: Final = "key.sig"
KEYED: Final = "keyed.safetensors"

INPUT: Final = "clips"
STEP_INPUT: Final = "step"
"""Quantisation step of each clip, in the scheme ``lcve-dct-1``; float32 ``[batch]``."""
PACKED_INPUT: Final = "packed"
"""Input of a request with packed clips, in the scheme ``lcve-dct-1``; uint8 ``[bytes]``. No graph has it."""
KEY_INPUT: Final = "key"
"""For each clip, the row of the bank with the tensors of its key; int64 ``[batch]``."""
BANK_PREFIX: Final = "bank."
"""Prefix of the inputs with the keyed tensors of all keys, one row for each key."""
OUTPUT: Final = "logits"
