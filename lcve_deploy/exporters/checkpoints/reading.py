"""Read tensors from untrusted files without running code.

``.pth`` and ``.bin`` files are read by torch's restricted unpickler. It accepts tensors, plain containers and the few
inert classes of ``pickles``, and rejects everything else.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.pickles import check_torch_file, inert_classes, is_archive
from lcve_deploy.files.reading import check_safetensors, parse_json, read_bounded, require_file

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_folder_weights", "read_json_file", "read_pickled", "to_arrays"]

Arrays = dict[str, npt.NDArray[np.floating]]
Unused = Callable[[str], bool]

_CORRUPT: Final = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    OSError,
    MemoryError,
    zipfile.BadZipFile,
    NotImplementedError,
)

_NOT_WEIGHTS: Final = {
    b"version https://git-lfs": ("a Git LFS pointer", "download the file itself: git lfs pull"),
    b"<!doctype html": ("a web page", "download the file itself, not the page that shows it"),
    b"<html": ("a web page", "download the file itself, not the page that shows it"),
}
"""First bytes of files that are often passed instead of weights, with a description and a hint."""
_START_BYTES: Final = 64
_MAX_COPIES: Final = 2
"""Maximum size of all tensors of a file, in multiples of the size of the file."""
_WEIGHT_FILES: Final = ("model.safetensors", "pytorch_model.bin")


def _none(name: str) -> bool:
    return False


def _require_weights(path: Path) -> None:
    """Reject files that are often downloaded by mistake, by their first bytes."""
    with path.open("rb") as file:
        start = file.read(_START_BYTES).lstrip().lower()
    for mark, (what, hint) in _NOT_WEIGHTS.items():
        if start.startswith(mark):
            raise CheckpointError(f"{path} is {what}, not the weights", hint=hint)


def read_pickled(path: Path) -> Any:
    """Read the content of a ``torch.save`` file. Tensors of the zip format are mapped and read on first use.

    Raises:
        CheckpointError: the file is missing, damaged, of another format, or could run code.
    """
    import torch

    try:
        require_file(path, "a checkpoint", CheckpointError)
        _require_weights(path)
        check_torch_file(path)
        with torch.serialization.safe_globals(inert_classes()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive(path))
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was refused: it contains more than tensors and plain values, and loading it could run code "
            f"({_first_line(error)})",
            hint="if you trust the file, load it elsewhere and save only the weights: "
            "torch.save(model.state_dict(), path)",
        ) from None
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint at {path}") from None
    except _CORRUPT as error:
        raise CheckpointError(f"{path} is damaged, or not a PyTorch checkpoint ({_safe_reason(error)})") from None


def read_folder_weights(folder: Path, unused: Unused = _none) -> Arrays:
    """Read the weights of a Hugging Face folder: safetensors or ``.bin``, in one file or in shards.

    Args:
        folder: the folder.
        unused: whether the model does not use the weight of a name; such a weight is not converted, and may be of
            integers.

    Raises:
        CheckpointError: weights are missing or damaged, or a shard is not a file of the folder.
    """
    for name in _WEIGHT_FILES:
        read = _read_safetensors if name.endswith(".safetensors") else _read_bin
        if (folder / name).is_file():
            return read(folder / name, unused)
        if (folder / f"{name}.index.json").is_file():
            return _read_shards(folder, f"{name}.index.json", partial(read, unused=unused))
    raise CheckpointError(f"expected {' or '.join(_WEIGHT_FILES)} in {folder}, found neither")


def read_json_file(path: Path) -> dict[str, Any]:
    """Read a JSON file whose content is an object.

    Raises:
        CheckpointError: the file is missing, too large, not JSON, or not an object.
    """
    try:
        value = parse_json(read_bounded(path, "a JSON file", CheckpointError))
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"expected {path.name} in {path.parent}, found none") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"expected an object in {path}, received {type(value).__name__}")
    return value


def to_arrays(tensors: Mapping[Any, Any], *, stored: int) -> dict[str, npt.NDArray[np.floating]]:
    """Convert tensors to NumPy arrays.

    float32 and float64 tensors share their memory with the arrays; float16 and bfloat16 are converted to float32.

    Args:
        tensors: tensors by name.
        stored: size of the file that they were read from, bytes.

    Raises:
        CheckpointError: a value is not a dense floating-point tensor; or all tensors together are more than
            ``_MAX_COPIES`` times as large as the file, for example because one repeats a single stored value.
    """
    wrong = [str(name) for name, tensor in tensors.items() if not _is_dense(tensor)]
    if wrong:
        raise CheckpointError(f"expected floating-point tensors, received something else for: {', '.join(wrong[:8])}")
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if needed > _MAX_COPIES * stored:
        raise CheckpointError(
            f"expected tensors of at most {_MAX_COPIES} times the size of the file ({stored} bytes), received {needed} "
            "bytes"
        )
    return {str(name): _array(tensor) for name, tensor in tensors.items()}


def _is_dense(value: Any) -> bool:
    """Tell whether a value is a floating-point tensor in memory with a value for every element."""
    import torch

    plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return plain and not value.is_nested and value.dtype in kinds


def _array(tensor: Tensor) -> npt.NDArray[np.floating]:
    import torch

    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float32)
    array: npt.NDArray[np.floating] = tensor.detach().resolve_neg().numpy()
    return array


def _read_safetensors(path: Path, unused: Unused) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    require_file(path, "a safetensors file", CheckpointError)
    _require_weights(path)
    check_safetensors(path, "a safetensors file", CheckpointError)
    try:
        return to_arrays(_used(load_file(path), unused), stored=path.stat().st_size)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged, or not a safetensors file ({error})") from None


def _read_bin(path: Path, unused: Unused) -> Arrays:
    content = read_pickled(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"expected named tensors in {path}, received {type(content).__name__}")
    return to_arrays(_used(dict(dict.items(content)), unused), stored=path.stat().st_size)


def _used(tensors: Mapping[Any, Any], unused: Unused) -> dict[Any, Any]:
    return {name: tensor for name, tensor in tensors.items() if not unused(str(name))}


def _read_shards(folder: Path, index: str, read: Callable[[Path], Arrays]) -> Arrays:
    shards = read_json_file(folder / index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f"expected a weight_map in {folder / index}")
    weights: Arrays = {}
    present = {path.name for path in folder.iterdir() if path.is_file()}
    for name in sorted(set(map(str, shards.values()))):
        if name not in present:
            raise CheckpointError(f"the shard {name[:100]!r} of {folder / index} is not a file of the folder")
        weights |= read(folder / name)
    return weights


def _safe_reason(error: Exception) -> str:
    """Return the message of an error only if it cannot quote bytes of the file, which might be a key file."""
    quotes_no_bytes = isinstance(error, RuntimeError | OSError | zipfile.BadZipFile)
    return _first_line(error) if quotes_no_bytes else type(error).__name__


def _first_line(error: Exception) -> str:
    text = str(error)
    marker = "Unsupported"
    picked = text[text.index(marker) :] if marker in text else text
    return (picked.splitlines() or [type(error).__name__])[0][:200]
