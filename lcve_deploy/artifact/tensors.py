"""Parse safetensors files of an artifact, and check keyed tensors against a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.model_spec import ModelSpec
from lcve_deploy.artifact.names import BANK_PREFIX
from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.reading import check_safetensors_bytes
from lcve_deploy.model.keyed import BY_TOKEN, KEYED_TENSORS, READOUT_INDEX
from lcve_deploy.model.shapes import RELATIVE_INDEX

__all__ = ["check_keyed", "parse_tensors"]

Tensors = Mapping[str, npt.NDArray[Any]]


def parse_tensors(data: bytes, path: Path, what: str) -> dict[str, npt.NDArray[Any]]:
    """Parse the content of a safetensors file. The arrays share the memory of ``data``.

    Args:
        data: content of the file.
        path: file that it was read from, for messages.
        what: what it should be, for messages, such as ``a probe``.

    Raises:
        ArtifactError: it is not a safetensors file, or has a dtype that NumPy lacks.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        check_safetensors_bytes(data, path, what, ArtifactError)
        tensors: dict[str, npt.NDArray[Any]] = load(data)
    except (SafetensorError, KeyError, OSError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be read as {what}: {error}") from None
    return tensors


def check_keyed(tensors: Tensors, model: ModelSpec, path: Path) -> None:
    """Check that keyed tensors are those of a model.

    Args:
        tensors: by name, without the axis of the keys.
        model: the model.
        path: file that they were read from, for messages.

    Raises:
        ArtifactError: a tensor is missing, unexpected, has another dtype or shape, is not finite, or is an index out of
            range. The message lists all such tensors.
    """
    expected = {spec.name.removeprefix(BANK_PREFIX): spec for spec in model.bank}
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is not expected" for name in tensors if name not in expected]
    for name in [name for name in expected if name in tensors]:
        tensor, spec = tensors[name], expected[name]
        if (str(tensor.dtype), tensor.shape) != (spec.dtype, spec.shape[1:]):
            problems.append(
                f"{name} is {tensor.dtype} {list(tensor.shape)}, expected {spec.dtype} {list(spec.shape[1:])}"
            )
        elif not np.isfinite(tensor).all():
            problems.append(f"{name} has values that are not finite (NaN or infinity)")
    problems = problems or _index_problems(tensors)
    if problems:
        raise ArtifactError(
            f"the keyed tensors of {path} do not match the model: {'; '.join(problems)}",
            hint="ask the owner for a key folder that was made for this model",
        )


def _index_problems(tensors: Tensors) -> list[str]:
    """Explain which indices are out of range, of tensors that have the right names and shapes."""
    tokens = next(len(tensors[keyed.name]) for keyed in KEYED_TENSORS if keyed.by in BY_TOKEN and keyed.name in tensors)
    problems = []
    if READOUT_INDEX in tensors and not 0 <= int(tensors[READOUT_INDEX]) < tokens:
        problems.append(f"{READOUT_INDEX} is {int(tensors[READOUT_INDEX])}, expected a token index below {tokens}")
    relative = tensors.get(RELATIVE_INDEX)
    if relative is not None and not 0 <= int(relative.min()) <= int(relative.max()) < tokens**2:
        problems.append(f"{RELATIVE_INDEX} has entries from {relative.min()} to {relative.max()}, which are no indices")
    return problems
