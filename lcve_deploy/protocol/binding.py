"""The binding of an artifact as parameters of requests and of model configurations.

A client sends them with every clip, so that a server can refuse a clip that was made for another artifact. A model
configuration carries them too, so that a client can find out before it sends anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lcve_deploy.clips import Binding, Layout
from lcve_deploy.errors import RequestError
from lcve_deploy.geometry import ClipGeometry

__all__ = ["PREFIX", "binding_from_parameters", "binding_to_parameters"]

PREFIX: Final = "lcve_"
"""Of the parameters' names."""
_FIELDS: Final = ("scheme", "key_id", "salt", "geometry", "layout")


def binding_to_parameters(binding: Binding) -> dict[str, str]:
    """The five fields of a binding as text, by their names with the prefix."""
    return {f"{PREFIX}{name}": str(getattr(binding, name)) for name in _FIELDS}


def binding_from_parameters(parameters: Mapping[str, object]) -> Binding | None:
    """The binding that parameters carry; None where they carry none.

    Raises:
        RequestError: some of the fields, or fields that are not a binding's.
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
        raise RequestError(f"the parameters of a binding lack {PREFIX}{error.args[0]}") from None
    except ValueError as error:
        raise RequestError(f"the parameters are not those of a binding: {error}") from None
