"""Read and write the delta of a key rotation, ``rotation.safetensors``, which updates an operator's artifact.

The file has the new keyed tensors. Its metadata has the new manifest and the digest of the manifest of the artifact
that it applies to.

Source: format of scheme ``lcve-1``, section "Key rotation".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.manifest import FORMAT, Manifest, parse_manifest
from lcve_deploy.artifact.signature import SIGNATURE_BYTES, PublicKey, check_signature
from lcve_deploy.errors import ArtifactError, SignatureError, WriteError
from lcve_deploy.files.reading import check_safetensors

__all__ = ["DELTA", "Delta", "is_delta", "read_delta", "write_delta"]

DELTA: Final = "rotation.safetensors"

_KIND: Final = "rotation"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SIGNATURE: Final = "manifest_signature"
_SIGNATURE_TEXT: Final = re.compile(rf"[0-9a-f]{{{2 * SIGNATURE_BYTES}}}")
_HINT: Final = "pass a file that lcve rotate --delta has written"


@dataclass(frozen=True, kw_only=True, eq=False)
class Delta:
    """Content of a delta.

    Args:
        base: SHA-256 of the manifest of the artifact that it applies to, 64 hex digits.
        manifest: manifest of the rotated artifact.
        manifest_data: bytes of the ``manifest.json`` of the rotated artifact.
        tensors: keyed tensors of the rotated artifact.
        signature: the owner's signature of ``manifest_data``; None if it is not signed.
    """

    base: str
    manifest: Manifest
    manifest_data: bytes
    tensors: Mapping[str, npt.NDArray[Any]]
    signature: bytes | None = None


def write_delta(folder: Path, delta: Delta) -> None:
    """Write ``rotation.safetensors`` into a folder that is being staged.

    Raises:
        WriteError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    metadata = {
        "format": str(FORMAT),
        "kind": _KIND,
        "base_manifest_sha256": delta.base,
        "manifest": delta.manifest_data.decode(),
        **({} if delta.signature is None else {_SIGNATURE: delta.signature.hex()}),
    }
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in delta.tensors.items()}
    try:
        save_file(tensors, folder / DELTA, metadata)
    except SafetensorError as error:  # raised instead of OSError, even if the disk is full
        raise WriteError(f"cannot write {DELTA}: {error}", hint="check free space and permissions") from None


def is_delta(path: Path) -> bool:
    """Tell whether the metadata of a file says that it is a delta; False if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        check_safetensors(path, "a key rotation", ArtifactError)
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("kind") == _KIND
    except (SafetensorError, ArtifactError, OSError):
        return False


def read_delta(path: Path, signed_by: PublicKey | None = None) -> Delta:
    """Read and check a delta.

    Args:
        path: file to read.
        signed_by: pinned key; the signature is checked before the manifest is parsed. None skips the check.

    Raises:
        ArtifactError: the file is missing, is not a delta, or has an invalid part.
        SignatureError: the signature is damaged; or a key is pinned, and the manifest is not signed with it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_safetensors(path, "a key rotation", ArtifactError, hint=_HINT)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_metadata(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is not a key rotation, or is damaged: {error}", hint=_HINT) from None
    data, signature = metadata["manifest"].encode(), _signature(path, metadata)
    if signed_by is not None:
        check_signature(data, signature, signed_by, place=path)
    return Delta(
        base=metadata["base_manifest_sha256"],
        manifest=parse_manifest(data, path),
        manifest_data=data,
        tensors=tensors,
        signature=signature,
    )


def _signature(path: Path, metadata: Mapping[str, str]) -> bytes | None:
    text = metadata.get(_SIGNATURE)
    if text is not None and not _SIGNATURE_TEXT.fullmatch(text):
        raise SignatureError(
            f"the signature in {path} is damaged: expected {2 * SIGNATURE_BYTES} hex digits, received {len(text)} "
            "characters",
            hint=_HINT,
        )
    return None if text is None else bytes.fromhex(text)


def _check_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("kind") != _KIND or not {"format", "manifest", "base_manifest_sha256"} <= set(metadata):
        raise ArtifactError(f"{path} is not a key rotation", hint=_HINT)
    if metadata["format"] != str(FORMAT):
        raise ArtifactError(
            f"{path} has format {metadata['format']}, expected {FORMAT}",
            hint="a newer version of lcve-deploy may read this",
        )
    if not _DIGEST.fullmatch(metadata["base_manifest_sha256"]):
        raise ArtifactError(f"{path} does not say which artifact it applies to", hint=_HINT)
