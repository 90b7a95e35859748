"""Read and write ``server/manifest.json``: the description of a model, which depends on no key.

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
from lcve_deploy.artifact.model_spec import (
    ModelSpec,
    TensorSpec,
    bank_problems,
    clip_specs,
    output_problems,
    read_tensor,
)
from lcve_deploy.artifact.names import MODEL, PROBE
from lcve_deploy.artifact.record import Record, parse_json, read_data
from lcve_deploy.artifact.signature import PublicKey, check_signature, read_signature
from lcve_deploy.clips import Binding, Layout, Scheme
from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.output import OutputKind
from lcve_deploy.model.parity import AGREEMENTS, ParityReport

__all__ = [
    "FORMAT",
    "Manifest",
    "check_format",
    "manifest_bytes",
    "manifest_data",
    "manifest_digest",
    "parse_manifest",
    "read_manifest",
    "read_versions",
    "write_manifest",
]

FORMAT: Final = 2
_SCHEMES: Final = "|".join(Scheme)
_KIND: Final = "model"
_OLD: Final = "an older version of lcve-deploy wrote this: convert the artifact with lcve convert"
_NEW: Final = "a newer version of lcve-deploy may read this"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content of ``manifest.json``.

    Args:
        model: clips, keyed tensors and output of the model.
        precision: precision of the graph, such as ``fp32``.
        opset: version of the ONNX operators.
        files: records of the files of the server folder, by relative path.
        parity: comparison with the plain model at export.
        made_by: versions of the software that exported the model, by name.
        digest: SHA-256 of the bytes that it was read from, 64 hex digits; empty if it was not read.
    """

    model: ModelSpec
    precision: str
    opset: int
    files: Mapping[str, FileRecord]
    parity: ParityReport
    made_by: Mapping[str, str]
    digest: str = dataclasses.field(default="", compare=False)

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
        """Length of the last axis of the output: the number of classes if there are labels."""
        return self.model.classes

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, in the order of the format."""
        return {
            "format": FORMAT,
            "kind": _KIND,
            "scheme": self.model.scheme,
            "geometry": str(self.model.geometry),
            "layout": str(self.model.layout),
            "input": dataclasses.asdict(self.input),
            "bank": [dataclasses.asdict(spec) for spec in self.model.bank],
            "output": dataclasses.asdict(self.output),
            "precision": self.precision,
            "opset": self.opset,
            "files": {name: dataclasses.asdict(record) for name, record in self.files.items()},
            "parity": self.parity.to_json(),
            "made_by": dict(self.made_by),
        }


def write_manifest(server: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into a model folder that is being staged."""
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
    check_format(record, _KIND)
    scheme = record.text("scheme", _SCHEMES)
    geometry, layout = record.parsed("geometry", ClipGeometry.parse), record.parsed("layout", Layout)
    manifest = Manifest(
        model=ModelSpec(
            scheme=scheme,
            geometry=geometry or _PLACEHOLDER,
            layout=layout or Layout.CUBES,
            input=read_tensor(record.record("input")),
            bank=tuple(
                read_tensor(Record(value, f"bank[{i}]", record.problems))
                for i, value in enumerate(record.items("bank"))
            ),
            output=read_tensor(record.record("output")),
        ),
        precision=record.text("precision", "[a-z0-9]+"),
        opset=record.integer("opset"),
        files=read_model_files(record),
        parity=read_parity(record.record("parity")),
        made_by=read_versions(record),
    )
    if geometry and layout:
        _check_consistency(record, manifest)
    record.finish(path)
    return manifest


def check_format(record: Record, kind: str = "", *, number: int = FORMAT) -> None:
    """Record a problem if a file is not of a format version, or not of this kind; no kind skips that check."""
    received = record.integer("format")
    if received != number:
        hint = _OLD if received < FORMAT else _NEW
        record.problems.append(f"format: expected {number}, received {received}" + f"; {hint}" * (received != FORMAT))
    elif kind:
        record.text("kind", kind)


def read_versions(record: Record) -> dict[str, str]:
    """Read the versions in ``made_by``, by the name of the software."""
    return {name: record.record("made_by").text(name) for name in record.record("made_by").names()}


def binding_to_json(binding: Binding) -> dict[str, str]:
    """Return the fields of a binding, as key folders and client settings store them."""
    return {
        "scheme": binding.scheme,
        "key_id": binding.key_id,
        "salt": binding.salt,
        "geometry": str(binding.geometry),
        "layout": str(binding.layout),
    }


def read_binding(record: Record) -> Binding | None:
    """Read a binding; return None if a field is invalid, with the problems recorded."""
    scheme, key_id, salt = record.text("scheme", _SCHEMES), record.text("key_id"), record.text("salt")
    geometry, layout = record.parsed("geometry", ClipGeometry.parse), record.parsed("layout", Layout)
    if record.problems or geometry is None or layout is None:
        return None
    try:
        return Binding(scheme=scheme, key_id=key_id, salt=salt, geometry=geometry, layout=layout)
    except ValueError as error:
        record.problems.append(str(error))
        return None


def read_model_files(record: Record) -> dict[str, FileRecord]:
    """Read the file records of a manifest, which must have a graph and a probe."""
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


def read_parity(record: Record) -> ParityReport:
    """Read the comparison with the plain model."""
    controls = record.record("controls")
    agreements: dict[str, Any] = {name: record.number(name) if record.has(name) else None for name in AGREEMENTS}
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
            )
        },
        **agreements,
    )


def _check_consistency(record: Record, manifest: Manifest) -> None:
    model = manifest.model
    expected = clip_specs(model.scheme, model.geometry, model.layout)[0]
    if (manifest.input.shape, manifest.input.dtype) != (expected.shape, expected.dtype):
        record.problems.append(
            f"input: a {model.layout} clip of {model.geometry} is {expected.dtype} {list(expected.shape)}, "
            f"received {manifest.input.dtype} {list(manifest.input.shape)}"
        )
    if model.packed and model.layout is not Layout.CUBES:
        record.problems.append(f"layout: the scheme {model.scheme} has the layout {Layout.CUBES}")
    record.problems.extend(f"output: {problem}" for problem in output_problems(model.output, model.geometry))
    record.problems.extend(f"bank: {problem}" for problem in bank_problems(model.bank))
    record.problems.extend(f"parity.{name} is missing" for name in _missing_agreements(manifest))
    if not manifest.parity.scale > 0:
        record.problems.append("parity.logit_scale: expected a number above 0 for features")
    if not manifest.parity.ok:
        record.problems.append("parity: the logits do not agree, or a negative control does")


def _missing_agreements(manifest: Manifest) -> list[str]:
    """Return the figures that the parity report of this kind of output must have, and does not."""
    kind = next((kind for kind in OutputKind if kind == manifest.output.name), OutputKind.LOGITS)
    needed = ("top1_agreement", "top5_agreement") if kind.has_labels else ("min_cosine",)
    return [name for name in needed if getattr(manifest.parity, name) is None]


_PLACEHOLDER: Final = ClipGeometry(frames=1, height=1, width=1, cube=(1, 1, 1))
