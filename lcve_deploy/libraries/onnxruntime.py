"""Load ONNX Runtime with its telemetry turned off.

By default its official builds (observed with 1.32 on Linux) send data about every process and session to their
vendor: the path of the program, a device id, names of the graph and of its producer, errors, times. Neither owners
nor operators have agreed to that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lcve_deploy.errors import SessionError
from lcve_deploy.libraries.requiring import require

__all__ = ["give_files", "load_onnxruntime"]


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


def give_files(settings: Any, files: Mapping[str, Any]) -> None:
    """Pass the content of a graph's external files, so that ONNX Runtime opens none of them.

    Args:
        settings: ``onnxruntime.SessionOptions`` of the session.
        files: bytes-like contents by the names in the graph. They must outlive the constructor of the session, which
            copies what it needs.

    Raises:
        SessionError: this version of ONNX Runtime cannot take files from memory, and would open them itself.
    """
    if not files:
        return
    if not hasattr(settings, "add_external_initializers_from_files_in_memory"):
        raise SessionError(
            "the files of a graph are passed in memory, and this ONNX Runtime cannot take them",
            hint="pip install --upgrade onnxruntime (1.24 or newer)",
        )
    contents = [*files.values()]
    settings.add_external_initializers_from_files_in_memory([*files], contents, [*map(len, contents)])
