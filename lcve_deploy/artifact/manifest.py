"""Read and write ``server/manifest.json``: the description of an artifact on the operator's side.

Source: format of scheme ``lcve-1``, section "Artifact folder".
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.artifact.digests import MANIFEST, FileRecord, path_problem
from lcve_deploy.artifact.names import MODEL, PROBE
from lcve_deploy.artifact.record import Record, parse_json, read_data
from lcve_deploy.artifact.signature import PublicKey, check_signature, read_signature
from lcve_deploy.clips import SCHEME, Binding, Layout
from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.parity import ParityReport

__all__ = [
    "FORMAT",
    "Manifest",
    "ModelSpec",
    "TensorSpec",
    "manifest_bytes",
    "manifest_data",
    "manifest_digest",
    "parse_manifest",
    "read_manifest",
    "write_manifest",
]

FORMAT: Final = 1
_LABELS: Final = "hidden|shown"


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """Input or output of a graph.

    Args:
        name: name in the graph.
        dtype: NumPy name of the dtype, such as ``uint8``.
        shape: sizes of the axes; None stands for the batch.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Binding, input and output of a model: all that a session needs to know about it.

    Args:
        binding: binding of the clips that the model accepts.
        input: encrypted clips, uint8 ``[batch, N, L]`` or ``[batch, T, H, W, C]``.
        output: logits, float32 ``[batch, classes]``.
    """

    binding: Binding
    input: TensorSpec
    output: TensorSpec

    @property
    def classes(self) -> int:
        """Length of the logits."""
        return int(self.output.shape[1] or 0)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content of ``manifest.json``.

    Args:
        model: binding, input and output of the model.
        precision: precision of the graph, such as ``fp32``.
        opset: version of the ONNX operators.
        labels: ``hidden`` if the logits are in the secret order K3, ``shown`` if they are in the plain order.
        files: records of the files of the server folder, by relative path.
        parity: comparison with the plain model at export.
        made_by: versions of the software that exported the model, by name.
        digest: SHA-256 of the bytes that it was read from, 64 hex digits; empty if it was not read.
    """

    model: ModelSpec
    precision: str
    opset: int
    labels: str
    files: Mapping[str, FileRecord]
    parity: ParityReport
    made_by: Mapping[str, str]
    digest: str = dataclasses.field(default="", compare=False)

    @property
    def binding(self) -> Binding:
        """Binding of the clips that the model accepts."""
        return self.model.binding

    @property
    def input(self) -> TensorSpec:
        """Input of the model."""
        return self.model.input

    @property
    def output(self) -> TensorSpec:
        """Output of the model."""
        return self.model.output

    @property
    def classes(self) -> int:
        """Length of the logits."""
        return self.model.classes

    def with_binding(self, binding: Binding) -> Manifest:
        """Return the manifest of the same model with another binding, such as after a key rotation."""
        return dataclasses.replace(self, model=dataclasses.replace(self.model, binding=binding))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, in the order of the format."""
        return {
            "format": FORMAT,
            **binding_to_json(self.binding),
            "input": dataclasses.asdict(self.input),
            "output": dataclasses.asdict(self.output),
            "precision": self.precision,
            "opset": self.opset,
            "labels": self.labels,
            "files": {name: dataclasses.asdict(record) for name, record in self.files.items()},
            "parity": self.parity.to_json(),
            "made_by": dict(self.made_by),
        }


def write_manifest(server: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into a server folder that is being staged."""
    (server / MANIFEST).write_bytes(manifest_bytes(manifest))


def manifest_bytes(manifest: Manifest) -> bytes:
    """Serialise a manifest to the bytes of ``manifest.json``."""
    return (json.dumps(manifest.to_json(), indent=2) + "\n").encode()


def manifest_digest(server: Path) -> str:
    """Compute the SHA-256 of ``manifest.json``, 64 hex digits.

    Raises:
        ArtifactError: it is too large, or not a regular file.
        OSError: there is none, or it cannot be read.
    """
    return hashlib.sha256(read_bounded(server / MANIFEST, "a manifest", ArtifactError)).hexdigest()


def manifest_data(server: Path, signed_by: PublicKey | None = None) -> bytes:
    """Read the bytes of ``manifest.json``, and check their signature if a key is pinned.

    Parse these bytes instead of reading the file again: it may have changed since.

    Args:
        server: server folder.
        signed_by: pinned key; None skips the check.

    Raises:
        ArtifactError: the manifest is missing, not a regular file, or too large.
        SignatureError: a key is pinned, and the manifest is not signed with it.
    """
    data = read_data(server / MANIFEST)
    if signed_by is not None:
        check_signature(data, read_signature(server), signed_by, place=server)
    return data


def read_manifest(server: Path, signed_by: PublicKey | None = None) -> Manifest:
    """Read and check ``manifest.json``.

    Args:
        server: server folder.
        signed_by: pinned key; the signature is checked before the manifest is parsed. None skips the check.

    Raises:
        ArtifactError: the manifest is missing or invalid. The message lists all problems.
        SignatureError: a key is pinned, and the manifest is not signed with it.
    """
    return parse_manifest(manifest_data(server, signed_by), server / MANIFEST)


def parse_manifest(data: bytes, path: Path) -> Manifest:
    """Parse and check the bytes of a manifest.

    Args:
        data: content of ``manifest.json``.
        path: file that it was read from, for messages.

    Raises:
        ArtifactError: the manifest is invalid. The message lists all problems.
    """
    manifest = _checked(path, parse_json(data, path))
    return dataclasses.replace(manifest, digest=hashlib.sha256(data).hexdigest())


def _checked(path: Path, record: Record) -> Manifest:
    binding = read_binding(record)
    manifest = Manifest(
        model=ModelSpec(
            binding=binding or _PLACEHOLDER,
            input=_tensor(record.record("input")),
            output=_tensor(record.record("output")),
        ),
        precision=record.text("precision", "[a-z0-9]+"),
        opset=record.integer("opset"),
        labels=record.text("labels", _LABELS),
        files=_files(record),
        parity=_parity(record.record("parity")),
        made_by={name: record.record("made_by").text(name) for name in record.record("made_by").names()},
    )
    if binding:
        _check_consistency(record, manifest)
    record.finish(path)
    return manifest


def binding_to_json(binding: Binding) -> dict[str, str]:
    """Return the fields of a binding, as manifest and client settings store them."""
    return {
        "scheme": binding.scheme,
        "key_id": binding.key_id,
        "salt": binding.salt,
        "geometry": str(binding.geometry),
        "layout": str(binding.layout),
    }


def read_binding(record: Record) -> Binding | None:
    """Read the format version and the binding; return None if a field is invalid, with the problems recorded."""
    if record.integer("format") != FORMAT:
        record.problems.append(f"format: expected {FORMAT}; a newer version of lcve-deploy may read this")
    scheme, key_id, salt = record.text("scheme", SCHEME), record.text("key_id"), record.text("salt")
    geometry, layout = record.parsed("geometry", ClipGeometry.parse), record.parsed("layout", Layout)
    if record.problems or geometry is None or layout is None:
        return None
    try:
        return Binding(scheme=scheme, key_id=key_id, salt=salt, geometry=geometry, layout=layout)
    except ValueError as error:
        record.problems.append(str(error))
        return None


def _tensor(record: Record) -> TensorSpec:
    shape = record.items("shape")
    if not all(size is None or (isinstance(size, int) and size > 0) for size in shape):
        record.note("shape", "sizes, and null for the batch", shape)
    return TensorSpec(name=record.text("name"), dtype=record.text("dtype"), shape=tuple(shape))


def _files(record: Record) -> dict[str, FileRecord]:
    files = read_files(record.record("files"))
    record.problems.extend(f"files: {name} is missing" for name in (MODEL, PROBE) if name not in files)
    return files


def read_files(record: Record) -> dict[str, FileRecord]:
    """Read file records by relative path, and record paths that leave the folder as problems."""
    record.problems.extend(f"files: {problem}" for name in record.names() if (problem := path_problem(name)))
    entries = {name: record.record(name) for name in record.names()}
    return {
        name: FileRecord(bytes=entry.integer("bytes", 0), sha256=entry.text("sha256", "[0-9a-f]{64}"))
        for name, entry in entries.items()
    }


def _parity(record: Record) -> ParityReport:
    controls = record.record("controls")
    return ParityReport(
        reference=record.text("reference"),
        clips=record.integer("clips"),
        controls={name: controls.number(name) for name in controls.names()},
        **{
            name: record.number(name)
            for name in (
                "tolerance",
                "max_difference",
                "mean_difference",
                "logit_scale",
                "top1_agreement",
                "top5_agreement",
            )
        },
    )


def _check_consistency(record: Record, manifest: Manifest) -> None:
    expected = (None, *manifest.binding.layout.shape(manifest.binding.geometry))
    if manifest.input.shape != expected or manifest.input.dtype != "uint8":
        record.problems.append(
            f"input: a {manifest.binding.layout} clip of {manifest.binding.geometry} is uint8 {list(expected)}, "
            f"received {manifest.input.dtype} {list(manifest.input.shape)}"
        )
    shape = manifest.output.shape
    if len(shape) != 2 or shape[0] is not None or shape[1] is None:
        record.problems.append(f"output: expected [null, classes], received {list(shape)}")
    if not manifest.parity.ok:
        record.problems.append("parity: the logits do not agree, or a negative control does")


_PLACEHOLDER: Final = Binding(
    scheme=SCHEME,
    key_id="0" * 32,
    salt="0" * 32,
    geometry=ClipGeometry(frames=1, height=1, width=1, cube=(1, 1, 1)),
    layout=Layout.CUBES,
)
