"""``server/engines/``: what an operator builds from the graph of an artifact, for one machine.

Every engine is a folder with its files and ``engine.json``. It is made on the operator's machine, so
the manifest does not know it; its record holds the digests instead, those of its own files and that
of the manifest of the model that it was built from. The record is authenticated with the secret of the
machine that made it, see ``engine_mac``.

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

from lcve_deploy.artifact.digests import ENGINES, FileRecord, verify_files
from lcve_deploy.artifact.engine_options import option_problems
from lcve_deploy.artifact.manifest import FORMAT, manifest_digest, read_files
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
"""In place of an engine's name: the quickest of those that have answered the probe on this machine."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class EngineKind(StrEnum):
    """The runtime that runs an engine."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """That an engine has answered the probe, and where.

    Args:
        device: that it ran on.
        clips: probes asked.
        max_difference: largest ``|Δlogit|`` from the float64 reference.
        budget: largest that counts as right.
        milliseconds: median time of one clip, as a first impression.
    """

    device: str
    clips: int
    max_difference: float
    budget: float
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """An engine's answers to encrypted clips, compared with those of the artifact's own graph.

    Args:
        clips: compared.
        max_difference: largest ``|Δlogit|``.
        top1: share of clips with the same first class, 0..1.
    """

    clips: int
    max_difference: float
    top1: float


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """Content of ``engine.json``.

    Args:
        name: of the engine and its folder.
        kind: runtime that runs it.
        precision: of its matrix products.
        builder: software that made it → version.
        target: what it was built to run on.
        profile: batch sizes; None where any will do.
        options: how it was built and is to be opened.
        ranges: largest |activation| by tensor, of an int8 engine: a new key needs no new calibration.
        files: its files, by their paths within its folder; none where it opens the graph of the artifact.
        manifest_sha256: digest of the manifest that it was built from.
        proof: of its answers to the probe; None until it has answered.
        agreement: with the artifact's graph on encrypted clips; None if none were given.
        mac: HMAC-SHA256 of all else with the secret of the machine that made it, 64 hex digits; empty if there is none.
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
        """The fields as plain values, in the order of the format."""
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
    """The name, once it is certain that it can be a folder.

    Raises:
        ArtifactError: it cannot.
    """
    if not _NAME.fullmatch(name) or name == FASTEST:
        raise ArtifactError(f"an engine's name is 1 to 64 of a-z 0-9 . _ -, and not {FASTEST}, received {name!r}")
    return name


def engine_folder(server: Path, name: str) -> Path:
    """Where an engine is, or will be."""
    return server / ENGINES / require_engine_name(name)


def write_engine(folder: Path, record: EngineRecord) -> None:
    """Write ``engine.json``; one that is there already is replaced in one step.

    What is half-written is next to the folder, in which every file must be listed.

    Raises:
        WriteError: the folder cannot be written; an older record is still there.
    """
    data = (json.dumps(record.to_json(), indent=2, allow_nan=False) + "\n").encode()
    replace_file(folder / RECORD, data, staging=folder.parent)


def list_engines(server: Path) -> tuple[str, ...]:
    """Names of the engines of a server folder."""
    return tuple(
        sorted(path.parent.name for path in (server / ENGINES).glob(f"*/{RECORD}") if _NAME.fullmatch(path.parent.name))
    )


def read_engine(server: Path, name: str) -> EngineRecord:
    """Read and check the record of an engine.

    Raises:
        ArtifactError: no such engine, or an invalid record; names every problem.
    """
    path = engine_folder(server, name) / RECORD
    if not path.is_file():
        there = ", ".join(list_engines(server)) or "none"
        raise ArtifactError(f"{server} has no engine {name!r}; it has: {there}", hint=f"build one: lcve build {server}")
    record = read_json(path)
    kind, precision = record.made("kind", EngineKind), record.made("precision", Precision)
    if record.integer("format") != FORMAT:
        record.problems.append(f"format: expected {FORMAT}; a newer version of lcve-deploy may read this")
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
    """Check that an engine was built from this server's model, and that its files are its own.

    Raises:
        ArtifactError: they are not.
        SessionError: it was built from another model.
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
            f"the engine {record.name} was built from another model than the one in {server}",
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
            problems.append(f"{path.name} is a {'link' if path.is_symlink() else 'folder or special file'}")
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
        top1=record.number("top1"),
    )
