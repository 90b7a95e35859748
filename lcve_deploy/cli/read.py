"""``lcve read``: the operator's logits to predictions."""

from __future__ import annotations

from pathlib import Path

import click

from lcve_deploy.cli.options import AnyPath, as_json, key_option

__all__ = ["command"]


@click.command()
@click.argument("logits", type=AnyPath)
@key_option
@click.option("--client", "client_folder", type=AnyPath, required=True, help="client/ of the artifact.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes to show.")
@as_json
def command(logits: Path, key_file: Path, client_folder: Path, top: int, as_json: bool) -> None:
    """Read LOGITS that the operator sent back (.npy, in the artifact's label order)."""
    from lcve_deploy.cli.show import print_classification
    from lcve_deploy.client import Client
    from lcve_deploy.clips import Views
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.classify import Classification

    client = Client.open(client_folder, SecurityKey.read(key_file))
    received = client.read_logits(logits)
    views = Views(temporal=len(received))
    print_classification(Classification.of(client, received, views=views, top=top), as_json=as_json)
