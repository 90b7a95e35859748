"""``lcve read``: the operator's logits to predictions."""

from __future__ import annotations

from pathlib import Path

import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, client_option, key_option, top_option
from lcve_deploy.cli.options.types import PATH

__all__ = ["command"]


@lcve_command(
    "lcve read logits.npy --key key.bin --client client",
)
@cloup.argument("logits", type=PATH, help="Logits that the operator sent back, .npy.")
@key_option
@client_option
@top_option
@as_json
def command(logits: Path, key_file: Path, client_folder: Path, top: int, as_json: bool) -> None:
    """Turn the operator's logits into class names.

    The logits are in the artifact's own label order, [classes] or [views, classes].
    """
    from lcve_deploy.cli.run import print_predictions
    from lcve_deploy.client import Client
    from lcve_deploy.clips import Views
    from lcve_deploy.keys.secret import SecurityKey

    client = Client.open(client_folder, SecurityKey.read(key_file))
    received = client.read_logits(logits)
    print_predictions(
        client, client.plain_order(received), top=top, views=Views(temporal=len(received)), as_json=as_json
    )
