"""The argument of commands that serve models: ``[NAME=]DIR...``."""

from __future__ import annotations

from typing import Final

import cloup

__all__ = ["models_argument"]

models_argument: Final = cloup.argument(
    "models",
    nargs=-1,
    required=True,
    metavar="[NAME=]DIR...",
    help="server/ of an artifact. Without NAME, the model is named after the folder, or after its parent if the folder "
    "is called server.",
)
