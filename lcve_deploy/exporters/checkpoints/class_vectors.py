"""Read a vector for each class, such as the embeddings of their names, which take the place of a classifier.

A file has ``vectors`` ``[classes, width]``, and optionally ``scale`` (one number), ``bias`` (one number, or one for
each class), ``unit`` (0 or 1: whether the model's vector is divided by its length), ``names`` and ``problem_type``.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError
from lcve_deploy.files.reading import check_safetensors, parse_json, read_bounded
from lcve_deploy.model.predictions import ProblemType

__all__ = ["ClassVectors", "read_class_vectors"]

_MAX_BYTES: Final = 2**30
_NUMBERS: Final = frozenset({"vectors", "scale", "bias", "unit"})
_TEXTS: Final = frozenset({"names", "problem_type"})
_UNIT_TOLERANCE: Final = 1e-2
"""Largest deviation from 1 of the length of a vector that counts as a unit vector; float16 stays well within it."""
_FORM: Final = "safetensors or .npz with vectors [classes, width]; see docs/guides/features.md"

Tensors = Mapping[str, npt.NDArray[Any]]
Texts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassVectors:
    """A classifier made of one vector for each class.

    Args:
        weight: scale · vectors, float64 ``[classes, width]``.
        bias: float64 ``[classes]``.
        unit: whether the vector of the model is divided by its length first.
        names: names of the classes; None if the file has none.
        problem_type: meaning of the logits; None if the file does not state it.
    """

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    unit: bool = True
    names: tuple[str, ...] | None = None
    problem_type: ProblemType | None = None


def read_class_vectors(path: Path) -> ClassVectors:
    """Read a file of class vectors.

    Args:
        path: safetensors file, with texts in its metadata, or ``.npz``.

    Raises:
        CheckpointError: the file is missing, damaged, or has other content; the message says what was expected.
    """
    try:
        tensors, texts = _read_npz(path) if path.suffix == ".npz" else _read_safetensors(path)
    except FileNotFoundError:
        raise CheckpointError(f"there are no class vectors at {path}") from None
    unknown = sorted({*tensors, *texts} - _NUMBERS - _TEXTS)
    if unknown:
        raise CheckpointError(f"{path} has unknown entries: {', '.join(unknown)[:200]}", hint=f"expected {_FORM}")
    return _assemble(tensors, texts, path)


def _read_safetensors(path: Path) -> tuple[Tensors, Texts]:
    from safetensors import SafetensorError, safe_open

    check_safetensors(path, "class vectors", CheckpointError, hint=f"expected {_FORM}")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            texts = dict(file.metadata() or {})
    except (SafetensorError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read as class vectors: {error}", hint=f"expected {_FORM}") from None
    texts.pop("format", None)  # written by every version of safetensors
    if "names" in texts:
        texts["names"] = _parsed_names(texts["names"], path)
    return tensors, texts


def _parsed_names(text: str, path: Path) -> Any:
    try:
        return parse_json(text.encode())
    except ValueError as error:
        raise CheckpointError(f"{path}: expected names as a JSON list in the metadata: {error}") from None


def _read_npz(path: Path) -> tuple[Tensors, Texts]:
    data = read_bounded(path, "class vectors", CheckpointError, max_bytes=_MAX_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                raise CheckpointError(f"{path} has more than {_MAX_BYTES} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read as class vectors: {error}", hint=f"expected {_FORM}") from None
    tensors = {name: array for name, array in arrays.items() if name not in _TEXTS}
    return tensors, {name: arrays[name].tolist() for name in _TEXTS & set(arrays)}


def _assemble(tensors: Tensors, texts: Texts, path: Path) -> ClassVectors:
    vectors = tensors.get("vectors")
    if vectors is None or vectors.ndim != 2 or not vectors.size or vectors.dtype.kind != "f":
        received = "none" if vectors is None else f"{vectors.dtype} {list(vectors.shape)}"
        raise CheckpointError(f"expected vectors of floats, [classes, width], received {received}: {path}")
    exact, unit = vectors.astype(np.float64), _number(tensors, "unit", 1.0, path)
    scale, bias = _number(tensors, "scale", 1.0, path), _bias(tensors, len(vectors), path)
    if unit not in (0.0, 1.0):
        raise CheckpointError(f"expected 0 or 1 for unit, received {unit:g}: {path}")
    if not all(np.isfinite(array).all() for array in (exact, bias, scale)):
        raise CheckpointError(f"{path} has values that are not finite (NaN or infinity)")
    if unit and "unit" not in tensors:
        _require_unit(exact, path)
    return ClassVectors(
        weight=scale * exact,
        bias=bias,
        unit=bool(unit),
        names=_names(texts, len(vectors), path),
        problem_type=_problem_type(texts, path),
    )


def _number(tensors: Tensors, name: str, default: float, path: Path) -> float:
    array = tensors.get(name)
    if array is None:
        return default
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise CheckpointError(f"expected one number for {name}, received {array.dtype} {list(array.shape)}: {path}")
    return float(array.reshape(()))


def _bias(tensors: Tensors, classes: int, path: Path) -> npt.NDArray[np.float64]:
    array = tensors.get("bias", np.zeros(1))
    if array.size not in (1, classes) or array.dtype.kind not in "iuf":
        raise CheckpointError(
            f"expected one number or {classes} for bias, received {array.dtype} {list(array.shape)}: {path}"
        )
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (classes,)).copy()


def _require_unit(vectors: npt.NDArray[np.float64], path: Path) -> None:
    """Refuse vectors that were probably not divided by their lengths, unless the file states ``unit``."""
    lengths = np.linalg.norm(vectors, axis=1)
    if np.abs(lengths - 1).max() > _UNIT_TOLERANCE:
        raise CheckpointError(
            f"expected vectors of length 1, received lengths from {lengths.min():.3g} to {lengths.max():.3g}: {path}",
            hint="divide each vector by its length, as CLIP and SigLIP do; or add unit to the file: 1 to use the "
            "vectors as they are, 0 for a linear classifier of the model's vector itself",
        )


def _names(texts: Texts, classes: int, path: Path) -> tuple[str, ...] | None:
    names = texts.get("names")
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != classes or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"expected {classes} names, received {json.dumps(names)[:100]}: {path}")
    return tuple(names)


def _problem_type(texts: Texts, path: Path) -> ProblemType | None:
    text = texts.get("problem_type")
    if text is None:
        return None
    if text not in list(ProblemType):
        raise CheckpointError(f"expected one of {', '.join(ProblemType)}, received {str(text)[:100]!r}: {path}")
    return ProblemType(text)
