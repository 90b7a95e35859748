"""The timing cache: how long kernels took, for quicker builds of the same kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lcve_deploy.errors import BuildError
from lcve_deploy.files.writing import replace_file
from lcve_deploy.libraries.tensorrt import TensorRT

__all__ = ["read_timing_cache", "write_timing_cache"]


def read_timing_cache(config: Any, path: Path | None, library: TensorRT) -> Any | None:
    """Give a builder's configuration the cache of a file, or an empty one if there is no file yet.

    Returns:
        The library's cache, which the build fills; None without a path.

    Raises:
        BuildError: the file is not a cache of this library and this GPU. It is left as it is.
    """
    if path is None:
        return None
    library.log.clear()
    cache = config.create_timing_cache(_content(path))
    if cache is None or not config.set_timing_cache(cache, False):
        raise BuildError(
            f"{path} is not a timing cache of {library} and this GPU: {library.log.quote()}",
            hint="name another file; a cache holds for one version of the library and one model of GPU",
        )
    return cache


def write_timing_cache(cache: Any, path: Path) -> None:
    """Write a cache that a build has filled, in one step."""
    replace_file(path, bytes(cache.serialize()))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise BuildError(f"the timing cache {path} cannot be read: {error.strerror or error}") from None
