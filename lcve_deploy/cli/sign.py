"""``lcve sign``: the owner's signature of an artifact that exists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lcve_deploy.cli.options import AnyPath, SigningKeyFile

if TYPE_CHECKING:
    from lcve_deploy.keys.signing import SigningKey

__all__ = ["command"]


@click.command()
@click.argument("server", type=AnyPath)
@click.option("--signing-key", type=SigningKeyFile(), required=True, help="Private key of lcve keygen --signing.")
def command(server: Path, signing_key: SigningKey) -> None:
    """Sign the manifest of the server folder SERVER, once its files have their digests: manifest.sig."""
    from lcve_deploy.verbs.sign import sign

    path = sign(server, signing_key=signing_key)
    click.echo(f"{path}: by the key with SHA-256 {signing_key.public_key.fingerprint}")
