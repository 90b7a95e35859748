"""Which engines are this machine's own: a MAC over the whole record, made when the engine has been built or proven.

The record has the digests of all files of the engine and of the manifest, its options, proof and times. So neither a
file nor a figure can be changed or taken from another engine without the secret.

Source: format of scheme ``lcve-1``, section "engine.json"; RFC 2104 for HMAC.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Final

from lcve_deploy.artifact.engine_options import PROVIDER
from lcve_deploy.artifact.engine_secret import SECRET_VARIABLE, EngineSecret
from lcve_deploy.artifact.engines import EngineRecord, engine_folder
from lcve_deploy.errors import ForeignEngineError
from lcve_deploy.model.precision import Precision

__all__ = ["authenticate", "is_own", "require_own"]

_CONTEXT: Final = b"lcve-engine-1\n"


def authenticate(record: EngineRecord, secret: EngineSecret) -> EngineRecord:
    """Return the record with the MAC of its other fields."""
    return dataclasses.replace(record, mac=secret.mac(_message(record)))


def is_own(record: EngineRecord, secret: EngineSecret | None) -> bool:
    """Check whether a machine with this secret has made this very record."""
    return secret is not None and bool(record.mac) and secret.holds(_message(record), record.mac)


def require_own(server: Path, record: EngineRecord, secret: EngineSecret | None) -> None:
    """Refuse an engine that this machine has not made, before any runtime reads it.

    Args:
        server: the folder with ``manifest.json``.
        record: of the engine.
        secret: of this machine; None if it has none.

    Raises:
        ForeignEngineError: the record has no MAC of this machine over its fields.
    """
    if is_own(record, secret):
        return
    if not record.mac:
        reason = "its record has no MAC"
    elif secret is None:
        reason = "this machine has no engine secret"
    else:
        reason = f"the MAC of its record is not one of the engine secret {secret.path}"
    raise ForeignEngineError(
        f"the engine {record.name} was not made on this machine, or was changed since, and is not opened: {reason}",
        hint=f"build it here: {_commands(server, record)}. Machines that share engines share the secret: "
        f"{SECRET_VARIABLE}=FILE",
    )


def _commands(server: Path, record: EngineRecord) -> str:
    """Return the commands that replace an engine; of its record only what is one of a few known words."""
    build = f"lcve build {shlex.quote(str(server))} --runtime {record.kind} --precision {record.precision}"
    provider = record.options.get(PROVIDER, "cpu")
    build += f" --provider {provider}" if provider != "cpu" else ""
    clip = " --clip FILE.lcve" if record.precision is Precision.INT8 else ""
    folder = shlex.quote(str(engine_folder(server, record.name)))
    return f"rm -r {folder} && {build} --name {record.name}{clip}"


def _message(record: EngineRecord) -> bytes:
    """Return what the MAC is of: the fields as JSON with sorted names, without the MAC itself."""
    fields = {name: value for name, value in record.to_json().items() if name != "mac"}
    return _CONTEXT + json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
