"""Read settings of a ``config.json``: each value is checked, and errors name it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.model.transformer import Activation

__all__ = ["Settings", "activation", "flag", "number", "pair", "tubelet", "whole"]

Settings = Mapping[str, Any]

_ACTIVATIONS: Final = {
    "gelu": Activation.GELU,
    "gelu_python": Activation.GELU,
    "gelu_fast": Activation.GELU_TANH,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_python_tanh": Activation.GELU_TANH,
    "gelu_accurate": Activation.GELU_TANH,
    "quick_gelu": Activation.QUICK_GELU,
    "relu": Activation.RELU,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
}


def activation(settings: Settings, name: str = "hidden_act") -> Activation:
    """Read an activation.

    Raises:
        UnsupportedModelError: its name is unknown.
    """
    known = _ACTIVATIONS.get(str(settings[name]))
    if known is None:
        raise UnsupportedModelError(
            f"the activation {settings[name]!r} is unknown", hint=f"known: {', '.join(_ACTIVATIONS)}"
        )
    return known


def whole(settings: Settings, name: str, *, least: int = 1) -> int:
    """Read an integer, by default a positive one."""
    value = settings[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        kind = "a positive integer" if least else "an integer of at least 0"
        raise CheckpointError(f"config.json: expected {kind} for {name}, received {value!r}")
    return value


def pair(settings: Settings, name: str) -> tuple[int, int]:
    """Read a height and a width, given as two sizes or as one."""
    value = settings[name]
    sizes = list(value) if isinstance(value, list) else [value, value]
    if len(sizes) != 2 or not all(type(size) is int and size > 0 for size in sizes):
        raise CheckpointError(f"config.json: expected one or two sizes for {name}, received {value!r}")
    return sizes[0], sizes[1]


def flag(settings: Settings, name: str) -> bool:
    """Read true or false."""
    value = settings[name]
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json: expected true or false for {name}, received {value!r}")
    return value


def number(settings: Settings, name: str, *, below: float = 1) -> float:
    """Read a number from 0 to a limit, which is excluded."""
    value = settings[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < below:
        raise CheckpointError(f"config.json: expected a number from 0 to {below:g} for {name}, received {value!r}")
    return float(value)


def tubelet(settings: Settings) -> tuple[int, int, int]:
    """Read the (frames, height, width) of a cube."""
    value = settings["tubelet_size"]
    if isinstance(value, int) and "patch_size" in settings:
        return value, *pair(settings, "patch_size")
    if isinstance(value, Sequence) and len(value) == 3 and all(isinstance(n, int) for n in value):
        return value[0], value[1], value[2]
    known = "2 or [2, 16, 16]" if "patch_size" in settings else "[2, 16, 16]"
    raise CheckpointError(f"config.json: expected a tubelet_size like {known}, received {value!r}")
