"""How large a valid request can be: what is larger is refused before it is read."""

from __future__ import annotations

from math import prod
from typing import Final

from lcve_deploy.packing import max_packed
from lcve_deploy.serving.models.registry import Registry
from lcve_deploy.serving.models.served import ServedModel
from lcve_deploy.serving.settings import Limits

__all__ = ["max_binary_bytes", "max_json_bytes", "max_message_bytes"]

_OVERHEAD: Final = 2**20
"""Bytes of a request in addition to its tensor."""
_JSON_BYTES_PER_VALUE: Final = 8
"""A number of three digits, a comma, and spaces or brackets."""
_TYPED_BYTES_PER_VALUE: Final = 2
_MAX_TYPED_BYTES: Final = 8 * 2**20
"""Maximum of a gRPC message without raw tensors, see ``grpc.wire``."""


def max_binary_bytes(model: ServedModel, limits: Limits) -> int:
    """Return the maximum bytes of a request whose tensor is binary."""
    return min(limits.request_bytes, _values(model) + _OVERHEAD)


def max_json_bytes(model: ServedModel, limits: Limits) -> int:
    """Return the maximum bytes of a request's JSON."""
    return min(limits.request_bytes, limits.json_bytes, _JSON_BYTES_PER_VALUE * _values(model) + _OVERHEAD)


def max_message_bytes(registry: Registry, limits: Limits) -> int:
    """Return the maximum bytes of a gRPC message for any served model; that of the limits if none is served."""
    values = [_values(model) for name in registry.names for model in registry.versions(name).values()]
    if not values:
        return limits.request_bytes
    typed = min(_TYPED_BYTES_PER_VALUE * max(values), _MAX_TYPED_BYTES)
    return min(limits.request_bytes, max(*values, typed) + _OVERHEAD)


def _values(model: ServedModel) -> int:
    """Return the number of values, which is that of bytes, in the largest batch of a model."""
    if model.spec.packed:
        return model.max_batch * max_packed(model.spec.geometry)
    return model.max_batch * prod(size or 1 for size in model.spec.input.shape[1:])
