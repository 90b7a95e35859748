"""Read and write ``server/probe.safetensors``: a clip and its expected logits, to check an engine without a key.

The clip is random bytes, drawn directly as ciphertext. It is never the encryption of a known clip, because a single
known clip reveals the secret orders.

Source: format of scheme ``lcve-1``, section "Artifact folder".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.digests import hold_checked
from lcve_deploy.artifact.manifest import Manifest
from lcve_deploy.artifact.matching import Relation
from lcve_deploy.artifact.names import PROBE
from lcve_deploy.clips import Binding, Layout
from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.reading import check_safetensors_bytes

__all__ = ["Probe", "carry_probe", "parse_probe", "read_probe", "write_probe"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Random ciphertext and its expected logits, to check an engine without a key.

    Args:
        clip: random ciphertext, uint8 ``[probes, N, L]`` or ``[probes, T, H, W, C]``.
        logits: logits of the reference in the artifact's label order, float64 ``[probes, classes]``.
    """

    clip: npt.NDArray[np.uint8]
    logits: npt.NDArray[np.float64]


def carry_probe(probe: Probe, relation: Relation, binding: Binding) -> Probe:
    """Convert a probe to the orders of a rotated artifact, without running an engine.

    The new ciphertext decrypts to the same clip as the old one, so the reference logits remain exact.

    Args:
        probe: probe of the artifact before the rotation.
        relation: how the keyed tensors before and after the rotation correspond.
        binding: binding of either artifact; only geometry and layout are used, which a rotation keeps.
    """
    geometry, as_video = binding.geometry, binding.layout is Layout.VIDEO
    cubes = geometry.to_cubes(probe.clip, np) if as_video else probe.clip
    moved = cubes.take(relation.cubes, axis=1).take(relation.values, axis=2)
    clip = geometry.from_cubes(moved, np) if as_video else moved
    return Probe(clip=np.ascontiguousarray(clip), logits=probe.logits.take(relation.labels, axis=1))


def write_probe(server: Path, probe: Probe) -> None:
    """Write the probe into a server folder that is being staged."""
    from safetensors.numpy import save

    (server / PROBE).write_bytes(save({"clip": np.ascontiguousarray(probe.clip), "logits": probe.logits}))


def read_probe(server: Path, manifest: Manifest) -> Probe:
    """Read the probe of an artifact: once, and as the manifest records it.

    Raises:
        ArtifactError: the probe is missing or unreadable, or does not match the manifest or its digest.
    """
    data = bytes(hold_checked(server, PROBE, manifest.files, mapped=False).data)
    return parse_probe(data, server / PROBE, manifest)


def parse_probe(data: bytes, path: Path, manifest: Manifest) -> Probe:
    """Parse the content of a probe.

    Args:
        data: content of the file.
        path: file that it was read from, for messages.
        manifest: manifest of the artifact.

    Raises:
        ArtifactError: not a probe, or one that has no clips or does not match the manifest.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        check_safetensors_bytes(data, path, "a probe", ArtifactError)
        tensors = load(data)
        clip, logits = tensors["clip"], tensors["logits"]
    except (SafetensorError, KeyError, OSError, TypeError, AttributeError) as error:
        raise ArtifactError(f"the probe of {path.parent} cannot be read: {error}") from None
    fits = clip.dtype == np.uint8 and clip.ndim and len(clip) and clip.shape[1:] == manifest.input.shape[1:]
    if not fits or logits.dtype != np.float64 or logits.shape != (len(clip), manifest.classes):
        raise ArtifactError(f"the probe of {path.parent} does not match the manifest: {clip.shape} and {logits.shape}")
    return Probe(clip=clip, logits=logits)
