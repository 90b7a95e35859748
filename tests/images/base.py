"""A base image where no registry of images can be reached: Debian with Python and its venv module."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.images.podman import said_by

_RELEASE = "bookworm"
_UNWANTED = (
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
    "./dev/*",
    "./etc/resolv.conf",
    "./etc/hostname",
)


def cache_folder() -> Path:
    """Where the base is kept: ``LCVE_IMAGES_CACHE``, or a folder of the user's cache."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LCVE_IMAGES_CACHE") or Path(caches) / "lcve-images")


def base_archive() -> Path:
    """The base as a tar archive, made on the first call."""
    archive = cache_folder() / f"{_RELEASE}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix="new-") as new:
            _make(Path(new), Path(new) / "base.tar")
            (Path(new) / "base.tar").rename(archive)
    return archive


def _make(folder: Path, archive: Path) -> None:
    root = folder / "root"
    said_by("debootstrap", "--variant=minbase", "--include=python3,python3-venv", _RELEASE, str(root))
    excluded = (f"--exclude={pattern}" for pattern in _UNWANTED)
    said_by("tar", "--directory", str(root), "--numeric-owner", *excluded, "--create", "--file", str(archive), ".")
