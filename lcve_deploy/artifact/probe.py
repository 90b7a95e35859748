"""Read and write ``probe.safetensors``: clips and their expected logits, to check a model or a key without the key.

The clips are random bytes, drawn directly as ciphertext. They are never the encryption of a known clip, because a
single known clip reveals the secret orders.

The probe of a model brings keyed tensors of its own. They were made with a random key that nobody has kept. So an
engine is proven once, for every key.

Source: format of scheme ``lcve-1``, section "Artifact folder".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.digests import hold_checked
from lcve_deploy.artifact.manifest import Manifest
from lcve_deploy.artifact.model_spec import ModelSpec
from lcve_deploy.artifact.names import BANK_PREFIX, PROBE, STEP_INPUT
from lcve_deploy.artifact.tensors import check_keyed, parse_tensors
from lcve_deploy.clips import COEFFICIENTS, STEP, coefficient_record
from lcve_deploy.errors import ArtifactError

__all__ = ["Probe", "parse_probe", "read_probe", "write_probe"]

_CLIP = "clip"
_STEP = "step"
_LOGITS = "logits"


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Random ciphertext and its expected logits, to check a model or a key without the key.

    Args:
        clip: random ciphertext, uint8 ``[probes, N, L]`` or ``[probes, T, H, W, C]``; of ``lcve-dct-1``, records
            ``[probes]``.
        logits: output of the reference in the orders of the probe's key, float64 ``[probes, ...]``.
        tensors: keyed tensors of the probe, by name, without the axis of the keys; empty in the probe of a key folder,
            which has them in a file of their own.
    """

    clip: npt.NDArray[Any]
    logits: npt.NDArray[np.float64]
    tensors: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


def write_probe(folder: Path, probe: Probe) -> None:
    """Write the probe into a model folder or key folder that is being staged."""
    from safetensors.numpy import save

    bank = {f"{BANK_PREFIX}{name}": np.asarray(tensor, order="C") for name, tensor in probe.tensors.items()}
    (folder / PROBE).write_bytes(save({**_clip_tensors(probe.clip), _LOGITS: probe.logits, **bank}))


def read_probe(server: Path, manifest: Manifest) -> Probe:
    """Read the probe of a model: once, and as the manifest records it.

    Raises:
        ArtifactError: the probe is missing or unreadable, or does not match the manifest or its digest.
    """
    data = bytes(hold_checked(server, PROBE, manifest.files, mapped=False).data)
    return parse_probe(data, server / PROBE, manifest.model, with_tensors=True)


def parse_probe(data: bytes, path: Path, model: ModelSpec, *, with_tensors: bool) -> Probe:
    """Parse the content of a probe.

    Args:
        data: content of the file.
        path: file that it was read from, for messages.
        model: the model that the probe is for.
        with_tensors: whether it is the probe of the model, which has keyed tensors, or that of a key folder.

    Raises:
        ArtifactError: not a probe, or one that has no clips or does not match the model.
    """
    tensors = parse_tensors(data, path, "a probe")
    clip, logits = _pop_clip(tensors, model), tensors.pop(_LOGITS, None)
    if clip is None or logits is None:
        raise ArtifactError(f"the probe of {path.parent} cannot be read: it has no {_CLIP} or no {_LOGITS}")
    if not len(clip) or logits.dtype != np.float64 or logits.shape != (len(clip), *model.result.shape):
        raise ArtifactError(f"the probe of {path.parent} does not match the manifest: {clip.shape} and {logits.shape}")
    keyed = {name.removeprefix(BANK_PREFIX): tensor for name, tensor in tensors.items()}
    if with_tensors:
        check_keyed(keyed, model, path)
    elif keyed:
        raise ArtifactError(f"{path} has the tensors {', '.join(sorted(tensors))}, expected {_CLIP} and {_LOGITS}")
    return Probe(clip=clip, logits=logits, tensors=keyed)


def _clip_tensors(clip: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a file with this clip; a record is two."""
    if clip.dtype.names is None:
        return {_CLIP: np.ascontiguousarray(clip)}
    return {_CLIP: np.ascontiguousarray(clip[COEFFICIENTS]), _STEP: np.ascontiguousarray(clip[STEP])}


def _pop_clip(tensors: dict[str, npt.NDArray[Any]], model: ModelSpec) -> npt.NDArray[Any] | None:
    """Take the clip out of the tensors of a file; None if there is none. One that does not fit the model is empty."""
    values = {spec.name: tensors.pop(name, None) for name, spec in zip((_CLIP, _STEP), model.clip_inputs, strict=False)}
    if (first := values[model.input.name]) is None:
        return None
    for spec in model.clip_inputs:
        value = values[spec.name]
        shape = (len(first) if first.ndim else 0, *spec.shape[1:])
        if value is None or value.shape != shape or value.dtype != spec.dtype:
            return np.empty(0)
    if len(model.clip_inputs) == 1:
        return first
    return _record(first, values[STEP_INPUT], model)


def _record(coefficients: npt.NDArray[Any], step: Any, model: ModelSpec) -> npt.NDArray[np.void]:
    records = np.empty(len(coefficients), coefficient_record(model.geometry))
    records[COEFFICIENTS], records[STEP] = coefficients, step
    return records
