"""Write and read the binding of clips as parameters of requests and model configurations.

A client sends the parameters with every request, so that the server finds the key, and refuses clips made for another
model. The model configuration carries those that do not depend on a key, so that the client can check before it sends
anything. A model that has one key built in states all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lcve_deploy.artifact import ModelSpec
from lcve_deploy.clips import Binding, KeyRef, Layout
from lcve_deploy.errors import RequestError
from lcve_deploy.geometry import ClipGeometry

__all__ = ["PREFIX", "binding_from_parameters", "binding_to_parameters", "model_to_parameters", "stated_binding"]

PREFIX: Final = "lcve_"
"""Prefix of the parameters' names."""
_KEY_FIELDS: Final = ("key_id", "salt")
_FIELDS: Final = ("scheme", *_KEY_FIELDS, "geometry", "layout")


def binding_to_parameters(binding: Binding) -> dict[str, str]:
    """Return the five fields of a binding as text, by their prefixed names."""
    return {f"{PREFIX}{name}": str(getattr(binding, name)) for name in _FIELDS}


def model_to_parameters(model: ModelSpec, key: KeyRef | None = None) -> dict[str, str]:
    """Return what a model states of its clips: scheme, geometry and layout, and its key if it has one built in."""
    if key is not None:
        return binding_to_parameters(model.binding_of(key))
    return {f"{PREFIX}{name}": str(getattr(model, name)) for name in _FIELDS if name not in _KEY_FIELDS}


def stated_binding(parameters: Mapping[str, object], key: KeyRef) -> Binding | None:
    """Return the binding that a model states, or None if it states none.

    Args:
        parameters: parameters of its configuration.
        key: key to assume of a model that states none, as it has any number of them.

    Raises:
        RequestError: some fields are missing or invalid.
    """
    stated = {name: value for name, value in parameters.items() if name.startswith(PREFIX)}
    names = [f"{PREFIX}{name}" for name in _KEY_FIELDS]
    if any(f"{PREFIX}{name}" in stated for name in _FIELDS) and not any(name in stated for name in names):
        stated |= dict(zip(names, (key.key_id, key.salt), strict=True))
    return binding_from_parameters(stated)


def binding_from_parameters(parameters: Mapping[str, object]) -> Binding | None:
    """Return the binding in ``parameters``, or None if they contain none of its fields.

    Raises:
        RequestError: some fields are missing or invalid.
    """
    given = {name: parameters[f"{PREFIX}{name}"] for name in _FIELDS if f"{PREFIX}{name}" in parameters}
    if not given:
        return None
    try:
        return Binding(
            scheme=str(given["scheme"]),
            key_id=str(given["key_id"]),
            salt=str(given["salt"]),
            geometry=ClipGeometry.parse(str(given["geometry"])),
            layout=Layout(str(given["layout"])),
        )
    except KeyError as error:
        raise RequestError(f"the binding in the parameters lacks {PREFIX}{error.args[0]}") from None
    except ValueError as error:
        raise RequestError(f"the binding in the parameters is invalid: {error}") from None
