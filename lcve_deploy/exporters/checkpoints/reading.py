"""Reading tensors from files that nobody vouches for. Pickles are never run.

``.pth`` and ``.bin`` files are read by torch's restricted unpickler, which knows tensors, plain
containers and the few inert classes named here, and refuses everything else.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
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

_NO_WEIGHTS: Final = {
    b"version https://git-lfs": ("a Git LFS pointer", "download the file itself: git lfs pull"),
    b"<!doctype html": ("a web page", "download the file itself, not the page that shows it"),
    b"<html": ("a web page", "download the file itself, not the page that shows it"),
}
"""Beginnings of files that people have in place of weights."""
_START_BYTES: Final = 64
_MAX_COPIES: Final = 2
_WEIGHT_FILES: Final = ("model.safetensors", "pytorch_model.bin")


def _require_weights(path: Path) -> None:
    """Refuse what is downloaded by mistake, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(_START_BYTES).lstrip().lower()
    for mark, (what, hint) in _NO_WEIGHTS.items():
        if start.startswith(mark):
            raise CheckpointError(f"{path} is {what}, not the weights", hint=hint)


def read_pickled(path: Path) -> Any:
    """Content of a ``torch.save`` file; tensors stay on disk until they are used.

    Raises:
        CheckpointError: damaged, not such a file, or one that asks to run code.
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
            f"{path} was refused: it holds more than tensors and plain values, and loading it could run code "
            f"({_first_line(error)})",
            hint="save the weights alone, with torch.save(model.state_dict(), path), where you trust the file",
        ) from None
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint at {path}") from None
    except _CORRUPT as error:
        raise CheckpointError(
            f"{path} cannot be read as a PyTorch checkpoint: damaged, or another kind of file ({_safe_reason(error)})"
        ) from None


def read_folder_weights(folder: Path) -> dict[str, npt.NDArray[np.floating]]:
    """Weights of a Hugging Face folder: safetensors or ``.bin``, whole or in shards.

    Raises:
        CheckpointError: no weights, damaged ones, or a shard outside the folder.
    """
    for name in _WEIGHT_FILES:
        read = _read_safetensors if name.endswith(".safetensors") else _read_bin
        if (folder / name).is_file():
            return read(folder / name)
        if (folder / f"{name}.index.json").is_file():
            return _read_shards(folder, f"{name}.index.json", read)
    raise CheckpointError(f"expected {' or '.join(_WEIGHT_FILES)} in {folder}, found neither")


def read_json_file(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: not JSON, or not an object.
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
    """Tensors as NumPy arrays that share their memory; half precisions become float32.

    Args:
        tensors: by their names.
        stored: bytes of the file that they are from.

    Raises:
        CheckpointError: names what is not a floating-point tensor; or tensors that show the bytes of
            the file more than ``_MAX_COPIES`` times over, as one that repeats a single value does.
    """
    wrong = [str(name) for name, tensor in tensors.items() if not _is_dense(tensor)]
    if wrong:
        raise CheckpointError(f"expected floating-point tensors, received something else for: {', '.join(wrong[:8])}")
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if needed > _MAX_COPIES * stored:
        raise CheckpointError(f"the tensors come to {needed} bytes, and the file has {stored}")
    return {str(name): _array(tensor) for name, tensor in tensors.items()}


def _is_dense(value: Any) -> bool:
    """Whether a value is a floating-point tensor whose numbers are all here."""
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


def _read_safetensors(path: Path) -> dict[str, npt.NDArray[np.floating]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    require_file(path, "a safetensors file", CheckpointError)
    _require_weights(path)
    check_safetensors(path, "a safetensors file", CheckpointError)
    try:
        return to_arrays(load_file(path), stored=path.stat().st_size)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged, or not a safetensors file ({error})") from None


def _read_bin(path: Path) -> dict[str, npt.NDArray[np.floating]]:
    content = read_pickled(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"expected named tensors in {path}, received {type(content).__name__}")
    return to_arrays(dict(dict.items(content)), stored=path.stat().st_size)


def _read_shards(
    folder: Path, index: str, read: Callable[[Path], dict[str, npt.NDArray[np.floating]]]
) -> dict[str, npt.NDArray[np.floating]]:
    shards = read_json_file(folder / index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f"expected a weight_map in {folder / index}")
    weights: dict[str, npt.NDArray[np.floating]] = {}
    present = {path.name for path in folder.iterdir() if path.is_file()}
    for name in sorted(set(map(str, shards.values()))):
        if name not in present:
            raise CheckpointError(f"the shard {name[:100]!r} of {folder / index} is not a file of the folder")
        weights |= read(folder / name)
    return weights


def _safe_reason(error: Exception) -> str:
    """What torch and the archive's reader say; others may quote bytes of the file, and the file may be a key."""
    quotes_nothing = isinstance(error, RuntimeError | OSError | zipfile.BadZipFile)
    return _first_line(error) if quotes_nothing else type(error).__name__


def _first_line(error: Exception) -> str:
    text = str(error)
    marker = "Unsupported"
    picked = text[text.index(marker) :] if marker in text else text
    return (picked.splitlines() or [type(error).__name__])[0][:200]
