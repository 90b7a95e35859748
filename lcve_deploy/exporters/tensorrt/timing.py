"""Read and write timing caches: measured times of kernels, which make later builds faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lcve_deploy.errors import BuildError
from lcve_deploy.files.writing import replace_file
from lcve_deploy.libraries.tensorrt import TensorRT

__all__ = ["read_timing_cache", "write_timing_cache"]


def read_timing_cache(config: Any, path: Path | None, library: TensorRT) -> Any | None:
    """Set the timing cache of a builder's configuration from a file, or to an empty one if the file does not exist.

    Returns:
        The library's cache, which the build fills; None if there is no path.

    Raises:
        BuildError: the file cannot be read, or is not a cache of this library and this GPU. It is not changed.
    """
    if path is None:
        return None
    library.log.clear()
    cache = config.create_timing_cache(_content(path))
    if cache is None or not config.set_timing_cache(cache, False):
        raise BuildError(
            f"{path} is not a timing cache of {library} and this GPU: {library.log.quote()}",
            hint="pass another file; a cache is valid for one version of the library and one GPU model",
        )
    return cache


def write_timing_cache(cache: Any, path: Path) -> None:
    """Write a cache that a build has filled, replacing an existing file atomically.

    Raises:
        BuildError: the library returned none.
        WriteError: the file cannot be written; an existing one is unchanged.
    """
    content = cache.serialize()
    if content is None:
        raise BuildError(f"the library returned no timing cache for {path}", hint="build without the timing cache")
    replace_file(path, bytes(content))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise BuildError(f"the timing cache {path} cannot be read: {error.strerror or error}") from None
