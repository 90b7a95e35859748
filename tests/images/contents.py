"""What must not be in an image: keys, modules of other roles, traces of the build, files that its user may write."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

ENVIRONMENT = "opt/lcve"
OWN_FOLDERS = ("opt/lcve", "data")
UNWANTED_MODULES = {
    "client": (
        *("torch", "onnx", "onnx_ir", "onnxruntime", "openvino", "tensorrt", "transformers"),
        *("prometheus_client", "ray", "scipy", "pip"),
    ),
    "server": ("torch", "onnx", "onnx_ir", "transformers", "av", "ray", "scipy", "pip"),
    "export": ("transformers", "tritonclient", "grpc", "prometheus_client", "ray", "scipy", "pip"),
}
_KEY_BEGINS = (b"LCVEKEY1", b"-----BEGIN PRIVATE", b"-----BEGIN ENCRYPTED PRIVATE", b"-----BEGIN RSA", b"-----BEGIN EC")


def files(root: Path) -> Iterator[Path]:
    """Regular files below a folder, links not followed."""
    for folder, _, names in os.walk(root):
        for name in names:
            if stat.S_ISREG((Path(folder) / name).lstat().st_mode):
                yield Path(folder) / name


def size(root: Path) -> int:
    """Bytes of the regular files below a folder."""
    return sum(path.lstat().st_size for path in files(root))


def key_files(root: Path) -> list[str]:
    """Files that begin as a key file or a private key in PEM does."""
    found = []
    for path in files(root):
        with path.open("rb") as file:
            if file.read(64).startswith(_KEY_BEGINS):
                found.append(str(path.relative_to(root)))
    return found


def writable(root: Path, user: int) -> list[str]:
    """Files and folders that a user may write, but for temporary folders, which have the sticky bit."""
    found = []
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder) / name
            status = path.lstat()
            own, sticky = status.st_uid == user or status.st_gid == user, status.st_mode & stat.S_ISVTX
            if not stat.S_ISLNK(status.st_mode) and (own or (status.st_mode & stat.S_IWOTH and not sticky)):
                found.append(str(path.relative_to(root)))
    return found


def changed(root: Path, base: Path) -> list[str]:
    """Paths outside of what the image is made for that the base lacks or has with another size, mode or owner."""
    before, after = _tree(base), _tree(root)
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def _tree(root: Path) -> dict[str, tuple[int, int, int, int]]:
    found = {}
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if str(here / name) not in OWN_FOLDERS]
        for name in (*folders, *names):
            status = (Path(folder) / name).lstat()
            length = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            found[str(here / name)] = (status.st_mode, status.st_uid, status.st_gid, length)
    return found


def traces(root: Path, words: tuple[str, ...]) -> list[str]:
    """Files that say where packages came from, and settings, that have one of these words."""
    found = []
    for path in files(root / ENVIRONMENT):
        if path.name == "direct_url.json" or path.suffix in (".cfg", ".conf"):
            content = path.read_text(errors="replace")
            found += [f"{path.relative_to(root)}: {word}" for word in words if word in content]
    return found
