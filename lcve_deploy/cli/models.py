"""Server folders by the names of their models, as the commands of servers take them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

__all__ = ["ModelFolder", "to_models"]


class ModelFolder(click.ParamType):  # type: ignore[type-arg]
    """``NAME=FOLDER``, or a folder: the name is then that of the folder, or of its parent where it is ``server``."""

    name = "[NAME=]FOLDER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        """Split at the first equals sign; what is no name stays part of the folder."""
        if isinstance(value, tuple):
            return value
        name, equals, folder = value.partition("=")
        if equals and os.sep not in name:
            if not name or not folder:
                self.fail(f"expected NAME=FOLDER, received {value!r}", param, ctx)
            return name, Path(folder)
        path = Path(os.path.abspath(value))  # noqa: PTH100 (keeps links)
        return path.parent.name if path.name == "server" else path.name, Path(value)


def to_models(given: tuple[tuple[str, Path], ...]) -> dict[str, Path]:
    """The folders by name.

    Raises:
        UsageError: two of one name.
    """
    names = [name for name, _ in given]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise click.UsageError(f"two models of one name: {', '.join(twice)}; name them: NAME=FOLDER")
    return dict(given)
