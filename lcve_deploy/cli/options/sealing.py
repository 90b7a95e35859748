"""Options of sealing: to whom, and with what."""

from __future__ import annotations

from typing import Any, Final

import cloup

from lcve_deploy.cli.options.groups import Decorator
from lcve_deploy.cli.options.types import SealingKeyFile, SealingPublicKeyFile

__all__ = ["open_with_option", "seal_to_option"]


def seal_to_option(what: str) -> Decorator[Any]:
    """``--seal-to``.

    Args:
        what: is sealed, such as "the clip".
    """
    return cloup.option(
        "--seal-to",
        type=SealingPublicKeyFile(),
        metavar="FILE",
        help=f"Seal {what} to this public key; only the holder of the private one can read it.",
    )


open_with_option: Final = cloup.option(
    "--open-with", type=SealingKeyFile(), metavar="FILE", help="Private sealing key, for a clip that is sealed."
)
