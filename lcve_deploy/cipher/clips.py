"""LCVE: encrypt and decrypt clips with NumPy, CuPy or torch through one code path.

Encrypted cube i, value j = plain cube ``K1[i]``, value ``K2[j]``. Nothing else happens to a value,
so every dtype survives and decryption is lossless. Orders of the scheme ``lcve-dct-1`` encrypt quantised coefficients
instead, see ``coefficients``.

Source: LCVE paper, section 3.2, steps 2 to 7; format of scheme ``lcve-1``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lcve_deploy.cipher.coefficients import dequantised, quantised, reordered
from lcve_deploy.cipher.gpu import encrypted_on_gpu, is_on_gpu
from lcve_deploy.cipher.pairs import are_paired, decrypted, encrypted
from lcve_deploy.clips import Binding, EncryptedClip, Layout, PlainClip, Scheme
from lcve_deploy.errors import MissingDependencyError
from lcve_deploy.keys.orders import Order, Orders
from lcve_deploy.packing import DEFAULT_STEP

__all__ = ["binding_of", "decrypt", "encrypt", "reencrypt"]


def binding_of(orders: Orders, layout: Layout) -> Binding:
    """The public label of clips encrypted with ``orders``."""
    return Binding(
        scheme=orders.scheme, key_id=orders.key_id, salt=orders.salt.hex(), geometry=orders.geometry, layout=layout
    )


def encrypt(
    clip: PlainClip, orders: Orders, *, layout: Layout | str = Layout.CUBES, step: float | None = None
) -> EncryptedClip:
    """Shuffle the cubes of clips, and the values or coefficients inside every cube.

    Args:
        clip: values ``[..., T, H, W, C]`` of any leading batch shape, any dtype.
        orders: of the artifact; K1 and K2 are used.
        layout: ``cubes`` gives ``[..., N, L]``, ``video`` gives ``[..., T, H, W, C]``.
        step: quantisation step, only for orders of the scheme ``lcve-dct-1``; by default 16.

    Returns:
        The encrypted clips: same library, device and dtype; of the scheme ``lcve-dct-1``, NumPy records.

    Raises:
        ValueError: the clips do not have the geometry of the orders, or the step is out of range or without use.
    """
    values, geometry, layout = clip.values, orders.geometry, Layout(layout)
    if tuple(values.shape[-4:]) != geometry.clip_shape:
        raise ValueError(
            f"expected clips that end in the axes {list(geometry.clip_shape)}, received {list(values.shape)}"
        )
    if orders.scheme is Scheme.DCT:
        records = quantised(values, orders, _namespace(values), step=DEFAULT_STEP if step is None else step)
        return EncryptedClip(values=records, binding=binding_of(orders, layout))
    if step is not None:
        raise ValueError(f"the scheme {orders.scheme} has no quantisation step, received {step:g}")
    if are_paired(values, geometry):
        return EncryptedClip(values=encrypted(values, orders, layout), binding=binding_of(orders, layout))
    xp = _namespace(values)
    if is_on_gpu(values, geometry):
        return EncryptedClip(values=encrypted_on_gpu(values, orders, layout, xp), binding=binding_of(orders, layout))
    cubes = _encrypted_cubes(values, orders, xp)
    if layout is Layout.VIDEO:
        cubes = geometry.from_cubes(cubes, xp)
    return EncryptedClip(values=cubes, binding=binding_of(orders, layout))


def decrypt(clip: EncryptedClip, orders: Orders) -> PlainClip:
    """The inverse of ``encrypt``. Clips of the scheme ``lcve-dct-1`` are float64, neither rounded nor clipped.

    Raises:
        MismatchError: the clips were encrypted with another key, salt or geometry.
    """
    layout = clip.binding.layout
    binding_of(orders, layout).require(clip.binding, here="key", there="encrypted clip")
    if orders.scheme is Scheme.DCT:
        return PlainClip(values=dequantised(clip.values, orders))
    if are_paired(clip.values, orders.geometry):
        return PlainClip(values=decrypted(clip.values, orders, layout))
    xp = _namespace(clip.values)
    cubes = orders.geometry.to_cubes(clip.values, xp) if layout is Layout.VIDEO else clip.values
    plain = xp.take(cubes, _index(orders.placement, cubes, xp), axis=-2)
    plain = xp.take(plain, _index(np.argsort(orders.pixel_order), cubes, xp), axis=-1)
    return PlainClip(values=orders.geometry.from_cubes(plain, xp))


def reencrypt(clip: EncryptedClip, old: Orders, new: Orders) -> EncryptedClip:
    """Encrypt clips of one key for another of the same scheme and geometry. No number changes.

    Raises:
        MismatchError: the clips were encrypted with another key, salt, scheme or geometry than the old one.
    """
    layout = clip.binding.layout
    if old.scheme is not Scheme.DCT:
        return encrypt(decrypt(clip, old), new, layout=layout)
    binding_of(old, layout).require(clip.binding, here="key", there="encrypted clip")
    return EncryptedClip(values=reordered(clip.values, old, new), binding=binding_of(new, layout))


def _encrypted_cubes(values: Any, orders: Orders, xp: Any) -> Any:
    """One slab of t frames at a time: its values are taken from rows of cubes, its cubes put in place.

    Taking from rows does the work of dividing into cubes on the way. Slabs keep what is made on the
    way in the cache, and small enough for the allocator to keep at hand; both made it several times
    quicker than shuffling whole clips.
    """
    geometry, lead = orders.geometry, tuple(values.shape[:-4])
    (slabs, rows, columns), t = geometry.grid, geometry.cube[0]
    gather, placement = _index(orders.row_gather, values, xp), _index(orders.placement, values, xp)
    cubes = xp.empty((*lead, geometry.cubes, geometry.values), dtype=values.dtype, device=values.device)
    size = rows * columns
    for slab in range(slabs):
        frames = values[..., slab * t : (slab + 1) * t, :, :, :]
        taken = xp.take(geometry.to_rows(frames, xp), gather, axis=-1)
        cubes[..., placement[slab * size : (slab + 1) * size], :] = xp.reshape(taken, (*lead, size, geometry.values))
    return cubes


def _index(order: Order, values: Any, xp: Any) -> Any:
    return xp.asarray(order.copy(), device=values.device)


def _namespace(values: Any) -> Any:
    """The array API functions of an array's library; NumPy has them itself, and no other library is imported."""
    if isinstance(values, np.ndarray):
        return np
    try:
        import array_api_compat
    except ImportError as error:
        raise MissingDependencyError(
            f"arrays of {type(values).__module__} need array-api-compat", hint="pip install array-api-compat"
        ) from error
    return array_api_compat.array_namespace(values)
