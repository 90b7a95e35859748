"""Write and read the binding of an artifact as parameters of requests and model configurations.

A client sends the parameters with every request, so that the server can refuse clips made for another artifact. The
model configuration carries them too, so that the client can check before it sends anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lcve_deploy.clips import Binding, Layout
from lcve_deploy.errors import RequestError
from lcve_deploy.geometry import ClipGeometry

__all__ = ["PREFIX", "binding_from_parameters", "binding_to_parameters"]

PREFIX: Final = "lcve_"
"""Prefix of the parameters' names."""
_FIELDS: Final = ("scheme", "key_id", "salt", "geometry", "layout")


def binding_to_parameters(binding: Binding) -> dict[str, str]:
    """Return the five fields of a binding as text, by their prefixed names."""
    return {f"{PREFIX}{name}": str(getattr(binding, name)) for name in _FIELDS}


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
