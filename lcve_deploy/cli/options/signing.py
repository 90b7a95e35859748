"""Options of signatures: ``--signed-by`` and ``--signing-key``."""

from __future__ import annotations

import os
from typing import Final

import click
import cloup

from lcve_deploy.cli.options.types import PublicKeyFile, SigningKeyFile

__all__ = ["signed_by_option", "signing_key_option"]

_PIN_VARIABLE: Final = "LCVE_SIGNED_BY"


class _Pin(cloup.Option):
    """An option that also uses an empty environment variable, so that a pin is never lost silently."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the value of the variable; None only if it is not set."""
        return os.environ.get(_PIN_VARIABLE)


signed_by_option: Final = cloup.option(
    "--signed-by",
    cls=_Pin,
    type=PublicKeyFile(),
    envvar=_PIN_VARIABLE,
    show_envvar=True,
    help="Owner's public key; refuse anything that it has not signed.",
)
signing_key_option: Final = cloup.option(
    "--signing-key",
    type=SigningKeyFile(),
    help="Sign what is written with this private key from lcve keygen --signing.",
)
