"""``lcve keygen``: make a key file."""

from __future__ import annotations

from pathlib import Path

import click

from lcve_deploy.cli.options import AnyPath

__all__ = ["command"]


@click.command()
@click.option("-o", "--output", type=AnyPath, required=True, help="Key file to make; never overwritten.")
@click.option("--from", "master", type=AnyPath, help="Derive the key from this one.")
@click.option("--name", help="Name of the derived key, such as camera-7.")
@click.option("--signing", is_flag=True, help="Make a key pair for signing artifacts: OUTPUT, and its .pub beside it.")
def command(output: Path, master: Path | None, name: str | None, signing: bool) -> None:
    """Make a key file, or derive one for a camera or client; or make a key pair for signing artifacts."""
    from lcve_deploy.keys.secret import SecurityKey

    if signing and (master or name):
        raise click.UsageError("--signing makes a new key pair, which goes neither with --from nor with --name")
    if signing:
        _make_signing_key(output)
        return
    if (master is None) != (name is None):
        raise click.UsageError("--from and --name are given together, or not at all")
    key = SecurityKey.create() if master is None else SecurityKey.read(master).derive(name or "")
    key.write(output)
    click.echo(f"{output}: key id {key.key_id}")


def _make_signing_key(output: Path) -> None:
    from lcve_deploy.keys.signing import SigningKey, public_path

    key = SigningKey.create()
    key.write(output)
    click.echo(f"{output}: private, stays with the owner")
    click.echo(f"{public_path(output)}: public, for everyone who pins it; SHA-256 {key.public_key.fingerprint}")
