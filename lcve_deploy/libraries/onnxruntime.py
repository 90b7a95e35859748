"""Finding ONNX Runtime, which is told to report nothing.

Its official builds (seen with 1.32 on Linux) tell their maker about every process and session unless they are told
not to: the path of the program, an identity of the device, the names of the graph and of its software, errors,
times. Neither the holder of a key nor an operator has agreed to that.
"""

from __future__ import annotations

import os
from typing import Any

from lcve_deploy.libraries.requiring import require

__all__ = ["load_onnxruntime"]


def load_onnxruntime(purpose: str) -> Any:
    """The module. Its telemetry is off, unless the environment says ``ORT_DISABLE_TELEMETRY=0``.

    Args:
        purpose: what needs it, for the error.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it looks once, when it is loaded
    with require(f"{purpose} needs ONNX Runtime", extra="cpu"):
        import onnxruntime
    return onnxruntime
