"""``lcve inspect``: describe a file or folder in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import cloup

from lcve_deploy.artifact import (
    ClientSettings,
    Manifest,
    ModelSpec,
    PublicKey,
    find_keys,
    is_signed,
    list_engines,
    open_key,
    read_client,
    read_engine,
    read_key_manifest,
    read_manifest,
    verify_files,
)
from lcve_deploy.artifact.engine_mac import is_own
from lcve_deploy.artifact.engine_secret import read_secret
from lcve_deploy.artifact.names import KEY_MANIFEST, KEY_SIGNATURE
from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.options.signing import signed_by_option
from lcve_deploy.cli.options.types import PATH_OR_PIPE
from lcve_deploy.cli.pipes import readable
from lcve_deploy.cli.show import print_json, printable
from lcve_deploy.clips import STEP, Binding
from lcve_deploy.errors import LcveError
from lcve_deploy.files.reading import read_bounded, require_file
from lcve_deploy.model.checkpoint_record import CheckpointRecord
from lcve_deploy.model.output import ModelOutput, OutputKind
from lcve_deploy.sealing import SealingKey, SealingPublicKey, is_sealed
from lcve_deploy.sealing.header import FORMAT
from lcve_deploy.sealing.keys import is_sealing_key

__all__ = ["command"]

Lines = dict[str, object]

_ENTRIES: Final = {
    "fact": "{fact}: {value} ({option})",
    "refused": "{name}: refused: {refused}",
    "name": "{name}: key id {key id}, salt {salt}, labels {labels}, signed: {signed}",
}
"""Text of an entry of a list, by a field that it has."""


@lcve_command(
    "lcve inspect service",
    "lcve inspect clip.lcve --json",
    "ssh camera cat clip.lcve | lcve inspect -",
)
@cloup.argument(
    "path",
    type=PATH_OR_PIPE,
    help="Key file, artifact or one of its sides, key folder, or encrypted clip. - for a file on standard input.",
)
@signed_by_option
@as_json
def command(path: Path, signed_by: PublicKey | None, as_json: bool) -> None:
    """Describe a file or folder of this package. The secret in a key file is never shown.

    If a key is pinned, a model or key folder that it has not signed is refused.
    """
    with readable(path) as readable_path:
        lines = _describe(readable_path, signed_by)
    if as_json:
        print_json(lines)
        return
    for name, value in lines.items():
        for text in _texts(value):
            click.echo(f"{name:<15} {printable(text)}")


def _texts(value: object) -> list[str]:
    """Return the lines to print for a value: one for each assumption or key, or one for any other value."""
    if not isinstance(value, list):
        return [str(value)]
    return [next(text for field, text in _ENTRIES.items() if field in entry).format(**entry) for entry in value] or [
        "nothing"
    ]


def _describe(path: Path, signed_by: PublicKey | None) -> Lines:
    if (path / "server").is_dir() or (path / "client").is_dir():
        sides = [path / side for side in ("server", "client") if (path / side).is_dir()]
        is_key = (path / "server" / KEY_MANIFEST).is_file()
        return {"kind": "enrolled key" if is_key else "artifact"} | {
            k: v for side in sides for k, v in _describe(side, signed_by).items() if k != "kind"
        }
    if (path / "manifest.json").is_file():
        return _server(path, signed_by)
    if (path / KEY_MANIFEST).is_file():
        return _key_folder(path, signed_by)
    if (path / "client.json").is_file():
        return _client(path)
    if path.is_dir():
        raise LcveError(
            f"{path} is not an artifact: expected a folder with server/ or client/, or one of these two folders"
        )
    if not path.exists():
        raise LcveError(f"{path} does not exist")
    require_file(path, "a file or folder of this package", LcveError)
    with path.open("rb") as file:
        head = file.read(10)
    if head.startswith(b"LCVEKEY1"):
        return _key(path)
    if head == b"-----BEGIN":
        return _key_pair(path)
    if is_sealed(head):
        return _sealed(path)
    return _clip(path)


def _server(path: Path, signed_by: PublicKey | None) -> Lines:
    manifest = read_manifest(path, signed_by)
    if signed_by:  # the signature covers the files by their digests
        verify_files(path, manifest.files)
    size = sum(record.bytes for record in manifest.files.values())
    return {
        "kind": "server folder",
        **_clips(manifest.model),
        "model": f"{manifest.precision}, opset {manifest.opset}, {_answer(manifest.model.result)}, {size / 1e6:.1f} MB",
        "signed": _signed(is_signed(path), signed_by),
        "parity": f"max |Δlogit| {manifest.parity.max_difference:.2e}, tolerance {manifest.parity.tolerance:.2e}",
        "made by": ", ".join(f"{name} {version}" for name, version in manifest.made_by.items()),
        **{f"engine {name}": _engine(path, name) for name in list_engines(path)},
        "keys": [_key_of(name, folder, manifest, signed_by) for name, folder in find_keys(path).items()],
    }


def _key_of(name: str, folder: Path, manifest: Manifest, signed_by: PublicKey | None) -> Lines:
    """Describe a key folder of a model; one that is refused does not hide the others."""
    try:
        key = open_key(folder, manifest, signed_by)
        if signed_by:
            key.verify()
    except LcveError as error:
        return {"name": name, "refused": str(error)}
    binding, signed = key.manifest.binding, _signed(is_signed(folder, KEY_SIGNATURE), signed_by)
    ids = {"key id": binding.key_id, "salt": binding.salt}
    return {"name": name, **ids, "labels": key.manifest.labels, "signed": signed}


def _key_folder(path: Path, signed_by: PublicKey | None) -> Lines:
    key = read_key_manifest(path, signed_by)
    if signed_by:
        verify_files(path, key.files, listing=KEY_MANIFEST, signature=KEY_SIGNATURE)
    size = sum(record.bytes for record in key.files.values())
    return {
        "kind": "key folder",
        **_binding(key.binding),
        "labels": key.labels,
        "model": f"manifest {key.model_sha256}",
        "size": f"{size / 1e6:.1f} MB",
        "signed": _signed(is_signed(path, KEY_SIGNATURE), signed_by),
        "made by": ", ".join(f"{name} {version}" for name, version in key.made_by.items()),
    }


def _signed(is_signed: bool, signed_by: PublicKey | None) -> str:
    if signed_by is not None:
        return f"yes, by the pinned key, SHA-256 {signed_by.fingerprint}"
    return "yes, not checked" if is_signed else "no"


def _engine(server: Path, name: str) -> str:
    """State of an engine. What the record of another machine says is no more than a claim, and not shown."""
    try:
        record, secret = read_engine(server, name), read_secret()
    except LcveError as error:
        return f"never opened: {error}"
    if not is_own(record, secret):
        return f"{record.kind} in {record.precision}, not made on this machine or changed since: never opened"
    builder = ", ".join(f"{name} {version}" for name, version in record.builder.items())
    if record.proof is None:
        return f"unproven, built for {record.target} by {builder}"
    proof = record.proof
    return (
        f"{proof.milliseconds:.1f} ms a clip, max |Δlogit| {proof.max_difference:.2e} on {proof.device}; by {builder}"
    )


def _client(path: Path) -> Lines:
    settings = read_client(path).settings
    p = settings.preprocess
    return {
        "kind": "client folder",
        **_binding(settings.binding),
        **_answer_lines(settings),
        "preprocess": f"{p.frames} frames, {p.sampling}, stride {p.stride}, resized to {p.resizing}, crop {p.crop}",
        **({"source": settings.source} if settings.source else {}),
        **({"checkpoint": _checkpoint(settings.checkpoint)} if settings.checkpoint else {}),
        "assumed": [assumption.to_json() for assumption in settings.assumptions],
    }


def _checkpoint(record: CheckpointRecord) -> str:
    options = " ".join(f"{name} {value}" for name, value in record.options.items())
    return f"{record.form}, {options or 'no options'}"


def _answer_lines(settings: ClientSettings) -> Lines:
    """Describe classes, or what a model without classes answers."""
    if not settings.answer.kind.has_labels:
        return {"output": _answer(settings.answer)}
    names, kind = settings.classes, settings.answer.kind
    return {
        **({"output": _answer(settings.answer)} if kind.has_tokens else {}),
        "labels": settings.labels,
        "classes": f"{len(names)}: {', '.join(names[:4])}{', ...' * (len(names) > 4)}",
        "problem type": settings.problem_type.value,
    }


def _answer(output: ModelOutput) -> str:
    """Describe the output of a model for a clip."""
    if output.kind is OutputKind.LOGITS:
        return f"{output.width} classes"
    rows = f"{output.shape[0]} tokens of " if output.kind.has_tokens else ""
    return f"{rows}{output.width} {'classes' if output.kind.has_labels else 'features'}"


def _key(path: Path) -> Lines:
    from lcve_deploy.keys.secret import SecurityKey

    return {"kind": "key file", "key id": SecurityKey.read(path).key_id}


def _key_pair(path: Path) -> Lines:
    """Describe either half of a key pair by the fingerprint of the public key."""
    data = read_bounded(path, "a key in PEM", LcveError)
    is_private = b"PRIVATE KEY" in data
    if is_sealing_key(data):
        public = SealingKey.read(path).public_key if is_private else SealingPublicKey.read(path)
        kind = "sealing key" if is_private else "public key of a sealing key"
        return {"kind": kind, "suite": public.suite.value, "SHA-256": public.fingerprint}
    if is_private:
        from lcve_deploy.keys.signing import SigningKey

        return {"kind": "signing key", "SHA-256": SigningKey.read(path).public_key.fingerprint}
    return {"kind": "public key of a signing key", "SHA-256": PublicKey.read(path).fingerprint}


def _sealed(path: Path) -> Lines:
    """Describe a sealed clip by its header, which is not encrypted; nothing is opened."""
    from lcve_deploy.clipfile import read_sealed_header

    header = read_sealed_header(path)
    return {
        "kind": "sealed clip",
        "format": FORMAT,
        "suite": header.suite.value,
        "sealed to": header.recipient,
        **_binding(header.binding),
        "views": str(header.views),
        "header": "not encrypted; only opening the clip verifies it",
    }


def _clip(path: Path) -> Lines:
    from lcve_deploy.clipfile import read_clip_file

    content = read_clip_file(path)
    binding = content.clip.binding
    steps = sorted({float(step) for step in content.clip.values[STEP]}) if binding.packed else []
    quality = {"quantisation step": ", ".join(f"{step:g}" for step in steps)} if steps else {}
    return {"kind": "encrypted clip", **_binding(binding), "views": str(content.views), **quality}


def _clips(model: ModelSpec) -> Lines:
    return {"scheme": model.scheme, "geometry": str(model.geometry), "layout": str(model.layout)}


def _binding(binding: Binding) -> Lines:
    return {
        "scheme": binding.scheme,
        "key id": binding.key_id,
        "salt": binding.salt,
        "geometry": str(binding.geometry),
        "layout": str(binding.layout),
    }
