"""Tensors of a file as arrays: shared or converted, and at most twice as large as the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.reading import to_arrays


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_shares_its_memory(dtype: torch.dtype) -> None:
    tensor = torch.arange(6, dtype=dtype).reshape(2, 3)
    array = to_arrays({"a": tensor}, stored=1000)["a"]
    tensor[1, 2] = 7
    np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 7]])
    assert array.dtype == tensor.numpy().dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype: torch.dtype) -> None:
    array = to_arrays({"a": torch.tensor([0.5, -2.0], dtype=dtype)}, stored=1000)["a"]
    np.testing.assert_array_equal(array, np.array([0.5, -2.0], np.float32), strict=True)


def test_tensors_are_at_most_twice_as_large_as_their_file() -> None:
    tensors = {"a": torch.zeros(1).expand(40), "b": torch.zeros(5, dtype=torch.float64)}  # 160 and 40 bytes
    assert {name: array.shape for name, array in to_arrays(tensors, stored=100).items()} == {"a": (40,), "b": (5,)}
    with pytest.raises(CheckpointError) as caught:
        to_arrays(tensors, stored=99)
    assert str(caught.value) == (
        "expected tensors of at most 2 times the size of the file (99 bytes), received 200 bytes"
    )


@pytest.mark.parametrize(
    "value",
    [torch.ones(2, dtype=torch.int64), torch.eye(2).to_sparse(), torch.ones(2, device="meta"), 1.0, None],
    ids=["int64", "sparse", "meta", "number", "none"],
)
def test_other_values_are_named(value: object) -> None:
    with pytest.raises(CheckpointError, match=r"expected floating-point tensors, received something else for: b$"):
        to_arrays({"a": torch.ones(2), "b": value}, stored=1000)


def test_at_most_eight_names_are_shown() -> None:
    with pytest.raises(CheckpointError, match=r": w0, w1, w2, w3, w4, w5, w6, w7$"):
        to_arrays({f"w{i}": None for i in range(9)}, stored=1000)
