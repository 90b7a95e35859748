"""Read, write and check the records in ``server/engines/``: engines that an operator builds for one machine.

Every engine is a folder with its files and ``engine.json``. Engines are built on the operator's machine, so the
manifest does not list them. Instead, ``engine.json`` has the digests of the engine's files and of the manifest of the
model that it was built from. The record is authenticated with the secret of the machine that built it; see
``engine_mac``.

Source: format of scheme ``lcve-1``, section "Artifact folder".
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from lcve_deploy.artifact.digests import ENGINES, FileRecord, shown_name, verify_files
from lcve_deploy.artifact.engine_options import option_problems
from lcve_deploy.artifact.manifest import FORMAT, check_format, manifest_digest, read_files
from lcve_deploy.artifact.profile import Profile
from lcve_deploy.artifact.record import Record, read_json
from lcve_deploy.errors import ArtifactError, SessionError
from lcve_deploy.files.writing import replace_file
from lcve_deploy.model.precision import Precision

__all__ = [
    "FASTEST",
    "Agreement",
    "EngineKind",
    "EngineRecord",
    "Proof",
    "check_engine",
    "engine_folder",
    "list_engines",
    "read_engine",
    "require_built_from",
    "require_engine_name",
    "write_engine",
]

RECORD: Final = "engine.json"

FASTEST: Final = "fastest"
"""Reserved name that selects the fastest engine that has passed the probe on this machine."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class EngineKind(StrEnum):
    """Runtime that an engine is built for."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Result of an engine that passed the probe.

    Args:
        device: device that it ran on.
        clips: number of probe clips.
        max_difference: largest ``|Δlogit|`` from the reference.
        budget: largest ``|Δlogit|`` that passes.
        milliseconds: median time per clip, a rough figure.
    """

    device: str
    clips: int
    max_difference: float
    budget: float
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Comparison of an engine with the artifact's own graph on encrypted clips.

    Args:
        clips: number of clips compared.
        max_difference: largest ``|Δlogit|``.
        top1: share of clips or tokens with the same most probable class, 0..1; None for features, which have none.
    """

    clips: int
    max_difference: float
    top1: float | None


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """Content of ``engine.json``.

    Args:
        name: name of the engine and of its folder.
        kind: runtime that runs it.
        precision: precision of its matrix products.
        builder: versions of the software that built it, by name.
        target: hardware that it was built for.
        profile: batch sizes; None if any size is accepted.
        options: options that it was built with and is opened with.
        ranges: calibration of an int8 engine: largest |activation| by tensor. It is the same for every key.
        files: files of the engine by path within its folder; empty if it runs the graph of the artifact.
        manifest_sha256: SHA-256 of the manifest of the model that it was built from.
        proof: result of the probe; None until it has passed.
        agreement: comparison with the artifact's graph on encrypted clips; None if none were given.
        mac: HMAC-SHA256 of all other fields with the secret of the machine that built it, 64 hex digits; empty if none.
    """

    name: str
    kind: EngineKind
    precision: Precision
    builder: Mapping[str, str]
    target: str
    manifest_sha256: str
    profile: Profile | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    proof: Proof | None = None
    agreement: Agreement | None = None
    mac: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, in the order of the format."""
        return {
            "format": FORMAT,
            "name": self.name,
            "kind": str(self.kind),
            "precision": str(self.precision),
            "builder": dict(self.builder),
            "target": self.target,
            "profile": dataclasses.asdict(self.profile) if self.profile else None,
            "options": dict(self.options),
            "ranges": dict(self.ranges),
            "files": {name: dataclasses.asdict(record) for name, record in self.files.items()},
            "manifest_sha256": self.manifest_sha256,
            "proof": dataclasses.asdict(self.proof) if self.proof else None,
            "agreement": dataclasses.asdict(self.agreement) if self.agreement else None,
            "mac": self.mac or None,
        }


def require_engine_name(name: str) -> str:
    """Check that a name can be used for an engine and its folder, and return it.

    Raises:
        ArtifactError: the name is invalid or reserved.
    """
    if not _NAME.fullmatch(name) or name == FASTEST:
        raise ArtifactError(
            f"expected an engine name of 1 to 64 characters from a-z 0-9 . _ - other than {FASTEST}, received {name!r}"
        )
    return name


def engine_folder(server: Path, name: str) -> Path:
    """Return the folder of an engine, which need not exist.

    Raises:
        ArtifactError: the name is invalid or reserved.
    """
    return server / ENGINES / require_engine_name(name)


def write_engine(folder: Path, record: EngineRecord) -> None:
    """Write ``engine.json``, replacing an existing one atomically.

    The temporary file is next to the folder, because every file inside must be listed.

    Raises:
        WriteError: the file cannot be written; an existing record is unchanged.
    """
    data = (json.dumps(record.to_json(), indent=2, allow_nan=False) + "\n").encode()
    replace_file(folder / RECORD, data, staging=folder.parent)


def list_engines(server: Path) -> tuple[str, ...]:
    """Return the sorted names of the engines in a server folder."""
    return tuple(
        sorted(path.parent.name for path in (server / ENGINES).glob(f"*/{RECORD}") if _NAME.fullmatch(path.parent.name))
    )


def read_engine(server: Path, name: str) -> EngineRecord:
    """Read and check the record of an engine.

    Raises:
        ArtifactError: there is no such engine, or its record is invalid. The message lists all problems.
    """
    path = engine_folder(server, name) / RECORD
    if not path.is_file():
        there = ", ".join(list_engines(server)) or "none"
        raise ArtifactError(f"{server} has no engine {name!r}; it has: {there}", hint=f"build one: lcve build {server}")
    record = read_json(path)
    kind, precision = record.parsed("kind", EngineKind), record.parsed("precision", Precision)
    check_format(record)
    builder, options, ranges = record.record("builder"), record.record("options"), record.record("ranges")
    engine = EngineRecord(
        name=record.text("name", re.escape(name)),
        kind=kind or EngineKind.ONNXRUNTIME,
        precision=precision or Precision.FP32,
        builder={key: builder.text(key) for key in builder.names()},
        target=record.text("target"),
        profile=_profile(record),
        options={key: options.text(key) for key in options.names()},
        ranges={key: ranges.number(key) for key in ranges.names()},
        files=read_files(record.record("files")),
        manifest_sha256=record.text("manifest_sha256", "[0-9a-f]{64}"),
        proof=_proof(record.record("proof")) if record.has("proof") else None,
        agreement=_agreement(record.record("agreement")) if record.has("agreement") else None,
        mac=record.text("mac", "[0-9a-f]{64}") if record.has("mac") else "",
    )
    if kind is not None:
        record.problems.extend(f"options.{problem}" for problem in option_problems(kind, engine.options))
    record.problems.extend(f"files: {file!r} is not directly in the folder" for file in engine.files if "/" in file)
    record.finish(path, hint=f"build it again: lcve build {server}")
    return engine


def check_engine(server: Path, record: EngineRecord) -> None:
    """Check that an engine was built from the model in this server folder, and that its files match its record.

    Raises:
        ArtifactError: a file is missing, differs, or is not listed.
        SessionError: the engine was built from another model.
    """
    require_built_from(server, record, manifest_digest(server))
    folder = engine_folder(server, record.name)
    _require_plain_files(folder)
    verify_files(folder, record.files, listing=RECORD)


def require_built_from(server: Path, record: EngineRecord, digest: str) -> None:
    """Check that an engine was built from the model whose manifest has this digest; ``server`` is for the message.

    Raises:
        SessionError: it was built from another model.
    """
    if record.manifest_sha256 != digest:
        raise SessionError(
            f"the engine {record.name} was built from another model, not the one in {server}",
            hint=f"remove it and build it again: lcve build {server} --runtime {record.kind}",
        )


def _require_plain_files(folder: Path) -> None:
    """Refuse links and folders: a link can point elsewhere by the time that a runtime follows it.

    Raises:
        ArtifactError: names all of them.
    """
    problems = [f"{folder.name} is a link"] if folder.is_symlink() else []
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            problems.append(f"{shown_name(path.name)} is a {'link' if path.is_symlink() else 'folder or special file'}")
    if problems:
        raise ArtifactError(
            f"an engine has only plain files in its folder: {'; '.join(problems)}: {folder}",
            hint="remove the folder and build the engine again",
        )


def _profile(record: Record) -> Profile | None:
    if not record.has("profile"):
        return None
    sizes = record.record("profile")
    minimum, optimum, maximum = (sizes.integer(name) for name in ("minimum", "optimum", "maximum"))
    try:
        return Profile(minimum=minimum, optimum=optimum, maximum=maximum)
    except ValueError as error:
        record.problems.append(f"profile: {error}")
        return None


def _proof(record: Record) -> Proof:
    return Proof(
        device=record.text("device"),
        clips=record.integer("clips"),
        max_difference=record.number("max_difference"),
        budget=record.number("budget"),
        milliseconds=record.number("milliseconds"),
    )


def _agreement(record: Record) -> Agreement:
    return Agreement(
        clips=record.integer("clips"),
        max_difference=record.number("max_difference"),
        top1=record.number("top1") if record.has("top1") else None,
    )
