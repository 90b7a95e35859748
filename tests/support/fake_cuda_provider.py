"""A stand-in for onnxruntime-gpu: its CUDA and TensorRT providers "run" where there is no GPU.

It keeps what makes the real ones hard: TF32 is on unless it is turned off (for CUDA by the provider's option, for
TensorRT by the environment), an unknown option is an error, and a provider that cannot start falls back to the CPU with
only a warning. TF32 is shown as an error of every logit, of the size that rounding the inputs of products has.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest

from lcve_deploy.libraries import onnxruntime as library
from lcve_deploy.libraries.cuda import Gpu

PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
TF32_ERROR = np.float32(5e-4)
GPUS = (Gpu(name="NVIDIA Nonesuch", capability="8.6"), Gpu(name="NVIDIA Otherwise", capability="9.0"))


@dataclass
class FakeCuda:
    """What the stand-in was asked.

    Args:
        options: provider options of every session.
        preloaded: how many sessions there were each time that the libraries were loaded.
        starts: whether the provider starts.
        fails: raised by every run, if set.
    """

    options: list[dict[str, str]] = field(default_factory=list)
    preloaded: list[int] = field(default_factory=list)
    starts: bool = True
    fails: Exception | None = None


class FakeSession:
    """A session on the CPU that says it is on the GPU."""

    def __init__(self, real: Any, provider: str, options: dict[str, str], cuda: FakeCuda) -> None:
        self._real, self._provider, self._cuda = real, provider, cuda
        in_cuda = provider == "CUDAExecutionProvider"
        self._tf32 = options.get("use_tf32", "1") != "0" if in_cuda else os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
        assert in_cuda or "use_tf32" not in options, "only the CUDA provider knows this option"
        self.get_inputs, self.get_outputs = real.get_inputs, real.get_outputs

    def get_providers(self) -> list[str]:
        return [self._provider, "CPUExecutionProvider"]

    def io_binding(self) -> FakeBinding:
        return FakeBinding(self._real.io_binding())

    def run_with_iobinding(self, binding: FakeBinding) -> None:
        if self._cuda.fails is not None:
            raise self._cuda.fails
        self._real.run_with_iobinding(binding.real)
        binding.error = TF32_ERROR if self._tf32 else np.float32(0)


class FakeBinding:
    """Takes addresses on the "GPU" of this module alone: those of the host are an error there."""

    def __init__(self, real: Any) -> None:
        self.real, self.error = real, np.float32(0)
        self.bind_cpu_input, self.bind_output = real.bind_cpu_input, real.bind_output

    def bind_input(self, name: str, kind: str, device: int, dtype: type, shape: tuple[int, ...], address: int) -> None:
        assert (kind, device, address) in FakeMemory.there
        self.real.bind_input(name, "cpu", 0, dtype, shape, address)

    def copy_outputs_to_cpu(self) -> list[np.ndarray]:
        return [logits + self.error for logits in self.real.copy_outputs_to_cpu()]


class FakeMemory:
    """Memory of the "GPU", at addresses of this process."""

    there: ClassVar[set[tuple[str, int, int]]] = set()

    def __init__(self, size: int, device: int) -> None:
        self._bytes = np.zeros(size, np.uint8)
        self.address = self._bytes.ctypes.data
        FakeMemory.there.add(("cuda", device, self.address))

    def write(self, offset: int, values: np.ndarray) -> None:
        self._bytes[offset:][: values.nbytes] = np.frombuffer(values.tobytes(), np.uint8)


def install(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Let ONNX Runtime and this package see two GPUs."""
    cuda, real = FakeCuda(), onnxruntime.InferenceSession

    def session(graph: bytes, settings: object = None, providers: Any = None, **more: object) -> object:
        provider, options = providers[0] if isinstance(providers[0], tuple) else (providers[0], {})
        made = real(graph, settings, ["CPUExecutionProvider"], **more)
        if provider not in PROVIDERS:
            return made
        cuda.options.append(dict(options))
        return FakeSession(made, provider, options, cuda) if cuda.starts else made

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*PROVIDERS, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: cuda.preloaded.append(len(cuda.options)))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    library.load_gpu_libraries.cache_clear()
    monkeypatch.setattr("lcve_deploy.runtime.backends.onnxruntime.find_gpu", lambda number=0: GPUS[number])
    monkeypatch.setattr("lcve_deploy.runtime.backends.onnxruntime_rows.GpuMemory", FakeMemory)
    return cuda


def lacking(folder: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[str], object]) -> None:
    """Put a provider's library into the module's folder, with ``load`` in place of the linker."""
    (folder / "capi").mkdir()
    (folder / "capi/libonnxruntime_providers_cuda.so").touch()
    monkeypatch.setattr(onnxruntime, "__file__", str(folder / "__init__.py"))
    monkeypatch.setattr(ctypes, "CDLL", load)
