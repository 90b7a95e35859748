"""Load ONNX Runtime with its telemetry turned off.

By default its official builds (observed with 1.32 on Linux) send data about every process and session to their
vendor: the path of the program, a device id, names of the graph and of its producer, errors, times. Neither owners
nor operators have agreed to that.
"""

from __future__ import annotations

import os
from typing import Any

from lcve_deploy.libraries.requiring import require

__all__ = ["load_onnxruntime"]


def load_onnxruntime(purpose: str) -> Any:
    """Return the module, with telemetry off unless the environment sets ``ORT_DISABLE_TELEMETRY=0``.

    Args:
        purpose: what needs the module, for the error.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, at load time
    with require(f"{purpose} needs ONNX Runtime", extra="cpu"):
        import onnxruntime
    return onnxruntime
