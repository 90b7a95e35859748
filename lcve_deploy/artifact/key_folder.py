"""Read and write a key folder: what an operator needs to run a model's clips under one key. It contains no key.

An operator copies it to ``keys/NAME`` of the model folder, or removes it there. Model and engines do not change.

Source: format of scheme ``lcve-1``, section "Key folder".
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.digests import FileRecord, hold_checked, record_of, verify_files
from lcve_deploy.artifact.manifest import (
    FORMAT,
    Manifest,
    binding_to_json,
    check_format,
    read_binding,
    read_files,
    read_versions,
)
from lcve_deploy.artifact.model_spec import ModelSpec
from lcve_deploy.artifact.names import KEY_MANIFEST, KEY_SIGNATURE, KEYED, KEYS, PROBE
from lcve_deploy.artifact.probe import Probe, parse_probe, write_probe
from lcve_deploy.artifact.record import parse_json, read_data
from lcve_deploy.artifact.signature import PublicKey, check_signature, read_signature
from lcve_deploy.artifact.tensors import check_keyed, parse_tensors
from lcve_deploy.clips import Binding, KeyRef
from lcve_deploy.errors import ArtifactError, MismatchError, UnknownKeyError

__all__ = [
    "KeyFolder",
    "KeyManifest",
    "find_key",
    "find_keys",
    "key_manifest_bytes",
    "key_manifest_data",
    "key_manifest_digest",
    "open_key",
    "parse_key_manifest",
    "read_key_manifest",
    "require_key_name",
    "write_key_folder",
]

_KIND: Final = "key"
_FILES: Final = (KEYED, PROBE)
_MAX_KEYS: Final = 2**16
"""Maximum number of key folders of a model."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class KeyManifest:
    """Content of ``key.json``.

    Args:
        binding: scheme, key id, salt, geometry and layout of the clips.
        labels: ``hidden`` if the logits are in the secret order K3, ``shown`` if they are in the plain order.
        model_sha256: SHA-256 of the manifest of the model that the tensors belong to, 64 hex digits.
        files: records of the files of the folder, by name.
        made_by: versions of the software that made the folder, by name.
        digest: SHA-256 of the bytes that it was read from, 64 hex digits; empty if it was not read.
    """

    binding: Binding
    labels: str
    model_sha256: str
    files: Mapping[str, FileRecord]
    made_by: Mapping[str, str]
    digest: str = dataclasses.field(default="", compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, in the order of the format."""
        return {
            "format": FORMAT,
            "kind": _KIND,
            **binding_to_json(self.binding),
            "labels": self.labels,
            "model_sha256": self.model_sha256,
            "files": {name: dataclasses.asdict(record) for name, record in self.files.items()},
            "made_by": dict(self.made_by),
        }


@dataclass(frozen=True, kw_only=True)
class KeyFolder:
    """A key folder whose manifest has been read and checked for a model.

    Args:
        folder: the folder with ``key.json``.
        manifest: its manifest.
        model: the model that it was checked for.
    """

    folder: Path
    manifest: KeyManifest
    model: ModelSpec

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Read the keyed tensors, by name, without the axis of the keys: once, and as the manifest records them.

        Raises:
            ArtifactError: the file is missing or unreadable, or does not match its digest or the model.
        """
        tensors = parse_tensors(self._data(KEYED), self.folder / KEYED, "keyed tensors")
        check_keyed(tensors, self.model, self.folder / KEYED)
        return tensors

    def probe(self) -> Probe:
        """Read the probe of the key: once, and as the manifest records it.

        Raises:
            ArtifactError: the file is missing or unreadable, or does not match its digest or the model.
        """
        return parse_probe(self._data(PROBE), self.folder / PROBE, self.model, with_tensors=False)

    def verify(self) -> None:
        """Check size and digest of every file, and that the folder has no others.

        Raises:
            ArtifactError: a file is missing, differs, or is not listed. The message lists all of them.
        """
        verify_files(self.folder, self.manifest.files, listing=KEY_MANIFEST, signature=KEY_SIGNATURE)

    def _data(self, name: str) -> bytes:
        return bytes(hold_checked(self.folder, name, self.manifest.files, mapped=False).data)


def require_key_name(name: str) -> str:
    """Check that a name can be used for a key folder, and return it.

    Raises:
        ArtifactError: the name is invalid.
    """
    if not _NAME.fullmatch(name):
        raise ArtifactError(
            "expected a name of 1 to 64 letters, digits, dots, dashes and underscores for a key folder, which begins "
            f"with a letter or digit, received {name[:80]!r}"
        )
    return name


def find_keys(server: Path) -> dict[str, Path]:
    """Return the key folders of a model folder by name, sorted: folders in ``keys/`` with a ``key.json``.

    Names that are not those of key folders, such as hidden ones that are being copied, are ignored.

    Raises:
        ArtifactError: there are too many.
        OSError: ``keys/`` cannot be read.
    """
    folder = server / KEYS
    if not folder.is_dir():
        return {}
    found = (path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
    names = sorted(islice(found, _MAX_KEYS + 1))
    if len(names) > _MAX_KEYS:
        raise ArtifactError(
            f"expected at most {_MAX_KEYS} key folders in {folder}, received more",
            hint="serve a second model folder with the others",
        )
    return {name: folder / name for name in names if (folder / name / KEY_MANIFEST).is_file()}


def write_key_folder(
    folder: Path,
    *,
    binding: Binding,
    labels: str,
    model_sha256: str,
    tensors: Tensors,
    probe: Probe,
    made_by: Mapping[str, str],
) -> KeyManifest:
    """Write keyed tensors, probe and ``key.json`` into a folder that is being staged. The signature is separate.

    Args:
        folder: empty folder.
        binding: of the clips.
        labels: ``hidden`` or ``shown``.
        model_sha256: digest of the model's manifest.
        tensors: keyed tensors by name, without the axis of the keys.
        probe: probe of the key, without tensors.
        made_by: versions of the software, by name.

    Returns:
        The manifest as it was written, with its digest.
    """
    from safetensors.numpy import save

    # Not ascontiguousarray: it would add an axis to a scalar, such as the readout index.
    (folder / KEYED).write_bytes(save({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}))
    write_probe(folder, probe)
    manifest = KeyManifest(
        binding=binding,
        labels=labels,
        model_sha256=model_sha256,
        files={name: record_of([memoryview((folder / name).read_bytes())]) for name in _FILES},
        made_by=made_by,
    )
    data = key_manifest_bytes(manifest)
    (folder / KEY_MANIFEST).write_bytes(data)
    return dataclasses.replace(manifest, digest=hashlib.sha256(data).hexdigest())


def key_manifest_bytes(manifest: KeyManifest) -> bytes:
    """Serialise a manifest to the bytes of ``key.json``."""
    return (json.dumps(manifest.to_json(), indent=2) + "\n").encode()


def key_manifest_digest(folder: Path) -> str:
    """Compute the SHA-256 of ``key.json``, 64 hex digits.

    Raises:
        ArtifactError: it is missing, too large, or not a regular file.
    """
    return hashlib.sha256(read_data(folder / KEY_MANIFEST)).hexdigest()


def read_key_manifest(folder: Path, signed_by: PublicKey | None = None) -> KeyManifest:
    """Read and check ``key.json``.

    Args:
        folder: key folder.
        signed_by: pinned key; the signature is checked before the manifest is parsed. None skips the check.

    Raises:
        ArtifactError: the manifest is missing or invalid. The message lists all problems.
        SignatureError: a key is pinned, and it has not signed the manifest.
    """
    return parse_key_manifest(key_manifest_data(folder, signed_by), folder / KEY_MANIFEST)


def key_manifest_data(folder: Path, signed_by: PublicKey | None = None) -> bytes:
    """Read the bytes of ``key.json``, and check their signature if a key is pinned.

    Raises:
        ArtifactError: the manifest is missing, not a regular file, or too large.
        SignatureError: a key is pinned, and it has not signed the manifest.
    """
    data = read_data(folder / KEY_MANIFEST)
    if signed_by is not None:
        check_signature(data, read_signature(folder, KEY_SIGNATURE), signed_by, place=folder)
    return data


def parse_key_manifest(data: bytes, path: Path) -> KeyManifest:
    """Parse and check the bytes of ``key.json``.

    Args:
        data: content of the file.
        path: file that it was read from, for messages.

    Raises:
        ArtifactError: the manifest is invalid. The message lists all problems.
    """
    record = parse_json(data, path)
    check_format(record, _KIND)
    binding, files = read_binding(record), read_files(record.record("files"))
    if sorted(files) != sorted(_FILES):
        record.problems.append(f"files: expected {' and '.join(_FILES)}, received {', '.join(sorted(files))[:200]}")
    labels, model_sha256 = record.text("labels", "hidden|shown"), record.text("model_sha256", "[0-9a-f]{64}")
    made_by = read_versions(record)
    record.finish(path, hint="ask the owner for the key folder again")
    if binding is None:
        raise ArtifactError(f"{path} is invalid")
    return KeyManifest(
        binding=binding,
        labels=labels,
        model_sha256=model_sha256,
        files=files,
        made_by=made_by,
        digest=hashlib.sha256(data).hexdigest(),
    )


def open_key(folder: Path, manifest: Manifest, signed_by: PublicKey | None = None) -> KeyFolder:
    """Read the manifest of a key folder, and check that it was made for a model. Its files are read when they are used.

    Args:
        folder: key folder.
        manifest: manifest of the model, as it was read.
        signed_by: pinned key of the owner; None skips the check.

    Raises:
        ArtifactError: the manifest is missing or invalid.
        SignatureError: a key is pinned, and it has not signed the manifest.
        MismatchError: the key folder was made for another model.
    """
    key = read_key_manifest(folder, signed_by)
    if key.model_sha256 != manifest.digest:
        raise MismatchError(
            f"the key folder {folder} was made for the model with the manifest {key.model_sha256[:16]}..., not for "
            f"this one, {manifest.digest[:16]}...",
            hint="ask the owner for a key folder of this model",
        )
    manifest.model.require(key.binding, here="model", there=f"key folder {folder}")
    return KeyFolder(folder=folder, manifest=key, model=manifest.model)


def find_key(server: Path, manifest: Manifest, key: KeyRef, signed_by: PublicKey | None = None) -> KeyFolder:
    """Return the key folder of a model for a key. Folders that cannot be read are passed over.

    Args:
        server: model folder.
        manifest: of the model, as it was read.
        key: the key.
        signed_by: pinned key of the owner; None skips the check.

    Raises:
        UnknownKeyError: there is none. The message lists folders that cannot be read.
        ArtifactError, SignatureError, MismatchError: its folder is refused, as by ``open_key``.
    """
    problems = []
    for path in find_keys(server).values():
        try:
            found = read_key_manifest(path).binding.key == key
        except ArtifactError as error:
            problems.append(str(error))
            continue
        if found:
            return open_key(path, manifest, signed_by)
    raise UnknownKeyError(
        f"there is no key folder for {key} in {server / KEYS}" + "".join(f"; {problem}" for problem in problems),
        hint="ask the owner for the key folder, and add it with lcve apply",
    )
