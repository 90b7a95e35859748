"""What tests ask of an artifact: its keys, and clips for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lcve_deploy import EncryptedClip
from lcve_deploy.artifact import KeyFolder, find_keys, open_key, read_key_manifest, read_manifest, record_of
from lcve_deploy.artifact.names import KEY_MANIFEST, KEYS
from lcve_deploy.clips import Binding

__all__ = [
    "KEY",
    "add_key",
    "binding_of",
    "contents",
    "edit_json",
    "editing_key",
    "flip_a_byte",
    "key_folder",
    "key_of",
    "random_clip",
    "rebind",
    "rebind_all",
]

KEY = "main"
"""Name of the key folder that an export writes."""


def key_folder(server: Path, name: str = KEY) -> Path:
    """A key folder of a model folder."""
    return server / KEYS / name


def key_of(server: Path, name: str = KEY) -> KeyFolder:
    """A key folder of a model folder, opened."""
    return open_key(key_folder(server, name), read_manifest(server))


def binding_of(server: Path, name: str = KEY) -> Binding:
    """Binding of the clips of a key."""
    return read_key_manifest(key_folder(server, name)).binding


def random_clip(server: Path, clips: int = 1, *, seed: int = 0, name: str = KEY) -> EncryptedClip:
    """Random ciphertext for a key of a model."""
    binding = binding_of(server, name)
    shape = (clips, *binding.layout.shape(binding.geometry))
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return EncryptedClip(values=values, binding=binding)


def add_key(server: Path, source: Path, name: str) -> Path:
    """Copy a key folder to a model folder, as an operator without ``lcve apply`` does."""
    import shutil

    return Path(shutil.copytree(source, key_folder(server, name)))


def contents(folder: Path) -> dict[str, bytes]:
    """Content of every file, by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rebind(folder: Path) -> None:
    """Make the digests of a key folder hold again."""
    with editing_key(folder):
        pass


@contextmanager
def editing_key(folder: Path) -> Iterator[dict[str, Any]]:
    """Change ``key.json``; the records of the files are those of the files that are there at the end."""
    content = json.loads((folder / KEY_MANIFEST).read_text())
    yield content
    for name in content["files"]:
        record = record_of([memoryview((folder / name).read_bytes())])
        content["files"][name] = {"bytes": record.bytes, "sha256": record.sha256}
    (folder / KEY_MANIFEST).write_text(json.dumps(content))


def rebind_all(artifact: Path) -> None:
    """Make all digests of an artifact hold again: of the model's files, of its keys, and of the client."""
    server = artifact / "server"
    names = [path for path in server.rglob("*") if path.is_file() and path.relative_to(server).parts[0] != KEYS]
    records = {
        path.relative_to(server).as_posix(): record_of([memoryview(path.read_bytes())])
        for path in names
        if path.name not in ("manifest.json", "manifest.sig") and "engines" not in path.parts
    }
    files = {name: {"bytes": record.bytes, "sha256": record.sha256} for name, record in records.items()}
    edit_json(server / "manifest.json", lambda manifest: manifest.update(files=files))
    digest = hashlib.sha256((server / "manifest.json").read_bytes()).hexdigest()
    for folder in find_keys(server).values():
        with editing_key(folder) as key:
            key["model_sha256"] = digest
    edit_json(artifact / "client/client.json", lambda client: client.update(manifest_sha256=digest))
