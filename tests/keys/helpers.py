"""What the tests in this folder share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from lcve_deploy import (
    RotateOptions,
    SecurityKey,
    rotate_delta,
)
from lcve_deploy.artifact import record_files
from lcve_deploy.artifact.delta import DELTA
from lcve_deploy.artifact.keyed import KEYED
from tests.test_artifact import edit

NEW_KEY = SecurityKey(bytes(range(32, 64)))
NEW_SALT = bytes(range(48, 64))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def delta_of(artifact: Path, output: Path, key: SecurityKey, **options: Any) -> Path:
    return rotate_delta(artifact, output, key=key, options=RotateOptions(**options)).folder / DELTA


def record_files_but_manifest(server: Path) -> dict[str, Any]:
    return {name: record for name, record in record_files(server).items() if name != "manifest.json"}


Breakage = Callable[[Path], object]


def sign(artifact: Path) -> None:
    """Make the digests of manifest and client settings hold again."""
    files = {
        name: {"bytes": record.bytes, "sha256": record.sha256}
        for name, record in record_files_but_manifest(artifact / "server").items()
    }
    edit(artifact / "server/manifest.json", lambda m: m.update(files=files))
    digest = hashlib.sha256((artifact / "server/manifest.json").read_bytes()).hexdigest()
    edit(artifact / "client/client.json", lambda c: c.update(manifest_sha256=digest))


def change_keyed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Breakage:
    def apply(artifact: Path) -> None:
        tensors = load_file(artifact / "server" / KEYED)
        save_file(tensors | {name: np.asarray(change(tensors[name]), order="C")}, artifact / "server" / KEYED)
        sign(artifact)

    return apply
