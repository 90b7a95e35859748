"""Load ONNX Runtime with its telemetry turned off, and what its providers for GPUs need.

By default its official builds (observed with 1.32 on Linux) send data about every process and session to their
vendor: the path of the program, a device id, names of the graph and of its producer, errors, times. Neither owners
nor operators have agreed to that.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import SessionError
from lcve_deploy.libraries.requiring import require

__all__ = ["disable_tf32", "give_files", "load_gpu_libraries", "load_onnxruntime", "missing_library"]

_TF32_VARIABLE: Final = "NVIDIA_TF32_OVERRIDE"
_PROVIDER_LIBRARIES: Final[Mapping[str, str]] = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
    "NvTensorRTRTXExecutionProvider": "libonnxruntime_providers_nv_tensorrt_rtx.so",
}


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


@functools.cache
def load_gpu_libraries(onnxruntime: Any) -> None:
    """Load the CUDA and cuDNN libraries of installed Python packages, which ONNX Runtime does not find by itself.

    What cannot be loaded matters only if a provider needs it; ``missing_library`` then names it. The function of ONNX
    Runtime prints such libraries to standard output, which belongs to the command.
    """
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            preload()


def missing_library(onnxruntime: Any, provider: str) -> str:
    """Return why the library of an execution provider cannot be loaded, which names the first missing library.

    Args:
        onnxruntime: the module.
        provider: full name of the provider, such as ``CUDAExecutionProvider``.

    Returns:
        The linker's message; empty if the library loads, is not there, or has another name on this system.
    """
    path = Path(onnxruntime.__file__).parent / "capi" / _PROVIDER_LIBRARIES.get(provider, "")
    if not path.is_file():
        return ""
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return str(error)
    return ""


def disable_tf32() -> None:
    """Turn TF32 off in all NVIDIA libraries of this process, for providers that have no option for it.

    ONNX Runtime's TensorRT providers allow TF32 to TensorRT, which reads this variable when an engine is built. It
    keeps the value of the first session of the process.

    Source: documentation of TensorRT, "Network-Level Control of Precision"; microsoft/onnxruntime issue 26029.
    """
    os.environ[_TF32_VARIABLE] = "0"
