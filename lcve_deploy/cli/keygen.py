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
def command(output: Path, master: Path | None, name: str | None) -> None:
    """Make a key file, or derive one for a camera or client."""
    from lcve_deploy.key import SecurityKey

    if (master is None) != (name is None):
        raise click.UsageError("--from and --name are given together, or not at all")
    key = SecurityKey.create() if master is None else SecurityKey.read(master).derive(name or "")
    key.write(output)
    click.echo(f"{output}: key id {key.key_id}")
