"""Read and write encrypted clip files, ``.lcve``: safetensors files with one tensor, ``clip``; or sealed ones.

The file is written without the safetensors library, which does not keep the order of the metadata.

Source: format of scheme ``lcve-1``, section "Encrypted clip file"; format ``lcve-seal-1``, section "Clip".
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import Binding, EncryptedClip, Layout, Views
from lcve_deploy.errors import EncryptedClipError, SealingError
from lcve_deploy.files.reading import check_safetensors, read_bounded, require_file
from lcve_deploy.files.writing import new_file
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.packing import pack, require_pad, unpack
from lcve_deploy.sealing import (
    Header,
    Kind,
    Sealed,
    SealingKey,
    SealingPublicKey,
    is_sealed,
    open_sealed,
    read_envelope,
)
from lcve_deploy.sealing import seal as seal_content

__all__ = ["ClipFile", "dump_clip", "is_sealed_clip", "read_clip_file", "read_sealed_header", "write_clip_file"]

_HINT: Final = "make one with: lcve encrypt"
_OPEN: Final = "open it with the private key of the recipient: --open-with, or open_with in Python"
_MAX_SEALED: Final = 4 * 2**30
"""Maximum bytes of a sealed clip file, which is opened in memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipFile:
    """Content of an encrypted clip file.

    Args:
        clip: encrypted clips, uint8 NumPy ``[views, N, L]`` or ``[views, T, H, W, C]``; in the scheme ``lcve-dct-1``,
            records ``[views]``.
        views: temporal and spatial views of the video.
    """

    clip: EncryptedClip
    views: Views


def write_clip_file(
    path: str | os.PathLike[str], content: ClipFile, *, seal_to: SealingPublicKey | None = None, pad: int = 1
) -> None:
    """Write an encrypted clip file.

    Args:
        path: path of the new file.
        content: content of the file.
        seal_to: public key to seal the file to; by default it is not sealed.
        pad: in the scheme ``lcve-dct-1``, the bytes of every view are padded to a multiple of this number.

    Raises:
        EncryptedClipError: the values are not uint8.
        SealingError: the key is not a key to seal to.
        ExistsError: the path exists.
        WriteError: the file could not be written; nothing is left.
    """
    with new_file(path) as file:
        dump_clip(content, file, seal_to=seal_to, pad=pad)


def dump_clip(content: ClipFile, file: IO[bytes], *, seal_to: SealingPublicKey | None = None, pad: int = 1) -> None:
    """Write the bytes of an encrypted clip file to an open file or stream; arguments as for ``write_clip_file``.

    Raises:
        EncryptedClipError: the values are not uint8 or cannot be packed; nothing is written.
        SealingError: the key is not a key to seal to; nothing is written.
    """
    values = _stored(content.clip, pad)
    if seal_to is not None:
        file.write(_sealed(content, values, seal_to))
        return
    binding = content.clip.binding
    metadata = {
        "scheme": binding.scheme,
        "key_id": binding.key_id,
        "salt": binding.salt,
        "geometry": str(binding.geometry),
        "layout": str(binding.layout),
        "views": str(content.views),
    }
    header = _header(values, metadata)
    file.write(len(header).to_bytes(8, "little") + header)
    file.write(values.data)


def _stored(clip: EncryptedClip, pad: int) -> npt.NDArray[np.uint8]:
    """Return the values of a clip as a file has them."""
    if clip.binding.packed:
        try:
            return np.frombuffer(pack(clip.values, clip.binding.geometry, pad=pad), np.uint8)
        except ValueError as error:
            raise EncryptedClipError(f"the clip cannot be packed: {error}") from None
    require_pad(pad, clip.binding)
    if clip.values.dtype != np.uint8:
        raise EncryptedClipError(f"expected a clip of dtype uint8, received {clip.values.dtype}")
    return np.ascontiguousarray(clip.values)


def _header(values: npt.NDArray[np.uint8], metadata: dict[str, str]) -> bytes:
    """Return the JSON header of a safetensors file with one tensor, padded with spaces to a multiple of 8 bytes."""
    clip = {"dtype": "U8", "shape": list(values.shape), "data_offsets": [0, values.size]}
    text = json.dumps({"__metadata__": metadata, "clip": clip}, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def read_clip_file(path: str | os.PathLike[str], *, open_with: SealingKey | None = None) -> ClipFile:
    """Read and check an encrypted clip file.

    Args:
        path: path of the file.
        open_with: private key for a file that is sealed; others are read without it.

    Raises:
        EncryptedClipError: the file is not an encrypted clip file, its parts contradict each other, or it is sealed and
            no key is given.
        SealingError: the file is sealed, and was changed or is sealed to another key.
        FileNotFoundError: the file does not exist.
    """
    if is_sealed_clip(path):
        return _opened(path, open_with)
    return _read_plain(path)


def is_sealed_clip(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as sealed data does.

    Raises:
        EncryptedClipError: the path is not a regular file.
        FileNotFoundError: the file does not exist.
    """
    require_file(path, "an encrypted clip file", EncryptedClipError)
    with open(path, "rb") as file:
        return is_sealed(file.read(8))


def read_sealed_header(path: str | os.PathLike[str]) -> Header:
    """Return the header of a sealed clip file, which is not encrypted. Only opening the file verifies it.

    Raises:
        SealingError: the file is not a sealed clip, or its header is invalid.
        FileNotFoundError: the file does not exist.
    """
    return _envelope(path).header


def _sealed(content: ClipFile, values: npt.NDArray[np.uint8], to: SealingPublicKey) -> bytes:
    header = Header(
        kind=Kind.CLIP,
        suite=to.suite,
        recipient=to.fingerprint,
        binding=content.clip.binding,
        views=content.views,
        size=values.size,
    )
    return seal_content(header, values.data.cast("B"), to)


def _opened(path: str | os.PathLike[str], key: SealingKey | None) -> ClipFile:
    sealed = _envelope(path)
    header = sealed.header
    if key is None:
        raise EncryptedClipError(f"the clip is sealed to the key {header.recipient[:16]}...: {path}", hint=_OPEN)
    shape = (header.views.count, *header.binding.layout.shape(header.binding.geometry))
    try:
        content = open_sealed(sealed, key, binding=header.binding, size=header.values_size)
    except SealingError as error:
        raise SealingError(f"{error}: {path}", hint=error.hint) from None
    if header.binding.packed:
        values: Any = _unpacked(content, header.binding, header.views, path)
    else:
        values = np.frombuffer(content, np.uint8).reshape(shape)
    return ClipFile(clip=EncryptedClip(values=values, binding=header.binding), views=header.views)


def _envelope(path: str | os.PathLike[str]) -> Sealed:
    data = read_bounded(path, "a sealed clip", SealingError, max_bytes=_MAX_SEALED)
    try:
        return read_envelope(data, kind=Kind.CLIP)
    except SealingError as error:
        raise SealingError(f"{error}: {path}", hint=error.hint) from None


def _read_plain(path: str | os.PathLike[str]) -> ClipFile:
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
    except ValueError as error:
        raise EncryptedClipError(f"the encrypted clip contradicts itself: {error}: {path}") from None
    packed = binding.packed
    shape = values.shape[:1] if packed else (views.count, *binding.layout.shape(binding.geometry))
    if values.shape != shape:
        raise EncryptedClipError(
            f"expected uint8 {'[bytes]' if packed else list(shape)} for {views} views of {binding.geometry}, received "
            f"{list(values.shape)}: {path}"
        )
    content = _unpacked(values.tobytes(), binding, views, path) if packed else values
    return ClipFile(clip=EncryptedClip(values=content, binding=binding), views=views)


def _unpacked(data: bytes, binding: Binding, views: Views, path: str | os.PathLike[str]) -> npt.NDArray[np.void]:
    try:
        return unpack(data, binding.geometry, clips=views.count)
    except EncryptedClipError as error:
        raise EncryptedClipError(f"{error}: {path}", hint=error.hint) from None
