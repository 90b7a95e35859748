"""What the tests in this folder share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from lcve_deploy import Client, EncryptedClip, EnrollOptions, PlainClip, RotateOptions, SecurityKey, enroll, rotate
from lcve_deploy.artifact.names import KEYED
from tests.support.artifacts import editing_key, key_folder

__all__ = [
    "NEW_KEY",
    "NEW_SALT",
    "Breakage",
    "change_keyed",
    "change_tensor",
    "encrypted",
    "enrolled",
    "main",
    "rotated",
]

NEW_KEY = SecurityKey(bytes(range(32, 64)))
NEW_SALT = bytes(range(48, 64))

Breakage = Callable[[Path], object]
Change = Callable[[np.ndarray], np.ndarray]


def main(artifact: Path) -> Path:
    """The folder of the first key."""
    return key_folder(artifact / "server")


def rotated(artifact: Path, output: Path, key: SecurityKey, **options: Any) -> Path:
    return rotate(artifact, output, key=key, options=RotateOptions(**options)).folder


def enrolled(artifact: Path, output: Path, key: SecurityKey, name: str = "camera-7", **options: Any) -> Path:
    return enroll(artifact, name, output, key=key, options=EnrollOptions(**options)).enrolled[0].folder


def encrypted(client_folder: Path, key: SecurityKey, clips: np.ndarray) -> tuple[Client, EncryptedClip]:
    """A client, and plain clips encrypted by it."""
    client = Client.open(client_folder, key)
    return client, client.encrypt(PlainClip(values=clips))


def change_tensor(folder: Path, name: str, change: Change) -> None:
    """Change a keyed tensor of a key folder, and make its digests hold again."""
    tensors = load_file(folder / KEYED)
    with editing_key(folder):
        save_file(tensors | {name: np.asarray(change(tensors[name]), order="C")}, folder / KEYED)


def change_keyed(name: str, change: Change) -> Breakage:
    return lambda artifact: change_tensor(main(artifact), name, change)
