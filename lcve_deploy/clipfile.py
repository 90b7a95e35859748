"""Read and write encrypted clip files, ``.lcve``: safetensors files with one tensor, ``clip``.

The file is written without the safetensors library, which does not keep the order of the metadata.

Source: format of scheme ``lcve-1``, section "Encrypted clip file".
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import Binding, EncryptedClip, Layout, Views
from lcve_deploy.errors import EncryptedClipError
from lcve_deploy.files.reading import check_safetensors
from lcve_deploy.files.writing import new_file
from lcve_deploy.geometry import ClipGeometry

__all__ = ["ClipFile", "dump_clip", "read_clip_file", "write_clip_file"]

_HINT: Final = "make one with: lcve encrypt"


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipFile:
    """Content of an encrypted clip file.

    Args:
        clip: encrypted clips, uint8 NumPy ``[views, N, L]`` or ``[views, T, H, W, C]``.
        views: temporal and spatial views of the video.
    """

    clip: EncryptedClip
    views: Views


def write_clip_file(path: str | os.PathLike[str], content: ClipFile) -> None:
    """Write an encrypted clip file.

    Raises:
        EncryptedClipError: the values are not uint8.
        ExistsError: the path exists.
        WriteError: the file could not be written; nothing is left.
    """
    with new_file(path) as file:
        dump_clip(content, file)


def dump_clip(content: ClipFile, file: IO[bytes]) -> None:
    """Write the bytes of an encrypted clip file to an open file or stream.

    Raises:
        EncryptedClipError: the values are not uint8; nothing is written.
    """
    if content.clip.values.dtype != np.uint8:
        raise EncryptedClipError(f"expected a clip of dtype uint8, received {content.clip.values.dtype}")
    binding = content.clip.binding
    metadata = {
        "scheme": binding.scheme,
        "key_id": binding.key_id,
        "salt": binding.salt,
        "geometry": str(binding.geometry),
        "layout": str(binding.layout),
        "views": str(content.views),
    }
    values = np.ascontiguousarray(content.clip.values)
    header = _header(values, metadata)
    file.write(len(header).to_bytes(8, "little") + header)
    file.write(values.data)


def _header(values: npt.NDArray[np.uint8], metadata: dict[str, str]) -> bytes:
    """Return the JSON header of a safetensors file with one tensor, padded with spaces to a multiple of 8 bytes."""
    clip = {"dtype": "U8", "shape": list(values.shape), "data_offsets": [0, values.size]}
    text = json.dumps({"__metadata__": metadata, "clip": clip}, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def read_clip_file(path: str | os.PathLike[str]) -> ClipFile:
    """Read and check an encrypted clip file.

    Raises:
        EncryptedClipError: the file is not an encrypted clip file, or its parts contradict each other.
        FileNotFoundError: the file does not exist.
    """
    from safetensors import SafetensorError, safe_open

    check_safetensors(path, "an encrypted clip file", EncryptedClipError, hint=_HINT)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            if names != ["clip"]:
                raise EncryptedClipError(f"expected one tensor named clip, received {str(names)[:200]}: {path}")
            values = _values(file, path)
    except SafetensorError as error:
        raise EncryptedClipError(
            f"not an encrypted clip file, or a damaged one: {path} ({error})", hint=_HINT
        ) from None
    return _checked(path, values, metadata)


def _values(file: Any, path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read the tensor of an open file. Check its dtype first: NumPy does not support all of them."""
    dtype = file.get_slice("clip").get_dtype()
    if dtype != "U8":
        raise EncryptedClipError(f"expected a clip of dtype U8, received {dtype}: {path}")
    values: npt.NDArray[np.uint8] = file.get_tensor("clip")
    return values


def _checked(path: str | os.PathLike[str], values: np.ndarray, metadata: dict[str, str]) -> ClipFile:
    fields = ("scheme", "key_id", "salt", "geometry", "layout", "views")
    missing = [name for name in fields if name not in metadata]
    if missing:
        raise EncryptedClipError(f"the encrypted clip lacks {', '.join(missing)}: {path}")
    try:
        binding = Binding(
            scheme=metadata["scheme"],
            key_id=metadata["key_id"],
            salt=metadata["salt"],
            geometry=ClipGeometry.parse(metadata["geometry"]),
            layout=Layout(metadata["layout"]),
        )
        views = Views.parse(metadata["views"])
        clip = EncryptedClip(values=values, binding=binding)
    except ValueError as error:
        raise EncryptedClipError(f"the encrypted clip contradicts itself: {error}: {path}") from None
    shape = (views.count, *binding.layout.shape(binding.geometry))
    if values.shape != shape:
        raise EncryptedClipError(
            f"expected uint8 {list(shape)} for {views} views, received {list(values.shape)}: {path}"
        )
    return ClipFile(clip=clip, views=views)
