"""Read artifacts of format 1, which had one key inside the model folder. For their conversion only.

Source: format of scheme ``lcve-1``, section "Format 1".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.artifact.client_settings import ClientFile, parse_client
from lcve_deploy.artifact.digests import MANIFEST, FileRecord
from lcve_deploy.artifact.manifest import check_format, read_binding, read_model_files, read_parity, read_versions
from lcve_deploy.artifact.model_spec import TensorSpec, read_tensor
from lcve_deploy.artifact.record import parse_json, read_data, read_json
from lcve_deploy.artifact.signature import PublicKey, check_signature, read_signature
from lcve_deploy.clips import Binding
from lcve_deploy.errors import ArtifactError
from lcve_deploy.model.parity import ParityReport

__all__ = ["OldManifest", "read_old_client", "read_old_manifest"]

_NUMBER: Final = 1


@dataclass(frozen=True, kw_only=True)
class OldManifest:
    """Content of a ``manifest.json`` of format 1.

    Args:
        binding: scheme, key id, salt, geometry and layout of the clips.
        input: input of the graph.
        output: output of the graph.
        labels: ``hidden`` or ``shown``.
        precision: precision of the graph.
        opset: version of the ONNX operators.
        files: records of the files of the server folder, by relative path.
        parity: comparison with the plain model at export.
        made_by: versions of the software that exported it, by name.
        digest: SHA-256 of its bytes, 64 hex digits.
    """

    binding: Binding
    input: TensorSpec
    output: TensorSpec
    labels: str
    precision: str
    opset: int
    files: Mapping[str, FileRecord]
    parity: ParityReport
    made_by: Mapping[str, str]
    digest: str


def read_old_manifest(server: Path, signed_by: PublicKey | None = None) -> OldManifest:
    """Read and check a ``manifest.json`` of format 1.

    Args:
        server: server folder.
        signed_by: pinned key; the signature is checked before the manifest is parsed. None skips the check.

    Raises:
        ArtifactError: the manifest is missing or invalid, or of another format. The message lists all problems.
        SignatureError: a key is pinned, and it has not signed the manifest.
    """
    path = server / MANIFEST
    data = read_data(path)
    if signed_by is not None:
        check_signature(data, read_signature(server), signed_by, place=server)
    record = parse_json(data, path)
    check_format(record, number=_NUMBER)
    binding = read_binding(record)
    input_spec, output_spec = read_tensor(record.record("input")), read_tensor(record.record("output"))
    labels, precision = record.text("labels", "hidden|shown"), record.text("precision", "[a-z0-9]+")
    opset, files = record.integer("opset"), read_model_files(record)
    parity, made_by = read_parity(record.record("parity")), read_versions(record)
    record.finish(path)
    if binding is None:
        raise ArtifactError(f"{path} is invalid")
    return OldManifest(
        binding=binding,
        input=input_spec,
        output=output_spec,
        labels=labels,
        precision=precision,
        opset=opset,
        files=files,
        parity=parity,
        made_by=made_by,
        digest=hashlib.sha256(data).hexdigest(),
    )


def read_old_client(folder: Path) -> ClientFile:
    """Read and check a ``client.json`` of format 1. It has the fields of today.

    Raises:
        ArtifactError: the file is missing or invalid, or of another format. The message lists all problems.
    """
    path = folder / "client.json"
    return parse_client(read_json(path), path, number=_NUMBER)
