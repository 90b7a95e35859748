"""Options for sealing, padding and opening."""

from __future__ import annotations

from typing import Any, Final

import cloup

from lcve_deploy.cli.options.groups import Decorator
from lcve_deploy.cli.options.types import PADDING, SealingKeyFile, SealingPublicKeyFile

__all__ = ["open_with_option", "pad_option", "seal_to_option"]


def seal_to_option(what: str) -> Decorator[Any]:
    """Return the option ``--seal-to``.

    Args:
        what: what is sealed, such as "requests".
    """
    return cloup.option(
        "--seal-to",
        type=SealingPublicKeyFile(),
        metavar="FILE",
        help=f"Public sealing key; only the holder of the private key can read the {what}.",
    )


def pad_option(*, default: int | None) -> Decorator[Any]:
    """Return the option ``--pad``."""
    return cloup.option(
        "--pad",
        type=PADDING,
        default=default,
        metavar="BYTES",
        help="Pad every clip to a multiple of this size, which hides how much is in it; for --wire dct.",
    )


open_with_option: Final = cloup.option(
    "--open-with", type=SealingKeyFile(), metavar="FILE", help="Private sealing key, if the clip is sealed."
)
