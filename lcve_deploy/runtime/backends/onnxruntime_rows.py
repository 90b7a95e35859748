"""Rows of the bank where ONNX Runtime reads them: nothing of them is copied for a run.

On a CPU it reads arrays of this process in place. On a GPU it reads memory of the GPU, into which a row is copied when
it is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from lcve_deploy.artifact import TensorSpec
from lcve_deploy.libraries.gpu_memory import GpuMemory
from lcve_deploy.runtime.bank import BankMemory, HostMemory, Tensors, bank_shape, keyed_name

__all__ = ["GpuRows", "HostRows", "OnnxRuntimeRows"]


class OnnxRuntimeRows(BankMemory, Protocol):
    """Rows that ONNX Runtime takes as inputs."""

    def bind(self, binding: Any) -> None:
        """Make the rows inputs of a run, whose ``IOBinding`` this is."""


class HostRows(HostMemory):
    """Rows in memory of this process, for a provider that runs on the CPU.

    Args:
        onnxruntime: the module.
        specs: the tensors of the model's bank.
        rows: number of rows.
    """

    def __init__(self, onnxruntime: Any, specs: Iterable[TensorSpec], rows: int) -> None:
        super().__init__(specs, rows)
        from_numpy = onnxruntime.OrtValue.ortvalue_from_numpy
        self._values = {name: from_numpy(array) for name, array in self.arrays.items()}  # shares the array's memory

    def bind(self, binding: Any) -> None:
        """Make the rows inputs of a run."""
        for name, value in self._values.items():
            binding.bind_ortvalue_input(name, value)


class GpuRows:
    """Rows in memory of a GPU.

    Args:
        specs: the tensors of the model's bank.
        rows: number of rows.
        device: number of the GPU.

    Raises:
        SessionError: the GPU has too little memory.
    """

    def __init__(self, specs: Iterable[TensorSpec], rows: int, device: int) -> None:
        self._device = device
        self._shapes = {spec.name: (np.dtype(spec.dtype), (rows, *bank_shape(spec))) for spec in specs}
        self._memory = {
            name: GpuMemory(math.prod(shape) * dtype.itemsize, device) for name, (dtype, shape) in self._shapes.items()
        }

    def write(self, row: int, tensors: Tensors) -> None:
        """Copy one row to the GPU, and wait until it is there."""
        for name, memory in self._memory.items():
            values = tensors[keyed_name(name)]
            memory.write(row * values.nbytes, values)

    def bind(self, binding: Any) -> None:
        """Make the rows inputs of a run."""
        for name, (dtype, shape) in self._shapes.items():
            binding.bind_input(name, "cuda", self._device, dtype.type, shape, self._memory[name].address)
