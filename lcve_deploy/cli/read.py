"""``lcve read``: turn the operator's logits into predictions."""

from __future__ import annotations

from pathlib import Path

import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, client_option, key_option, top_option
from lcve_deploy.cli.options.types import PATH_OR_PIPE
from lcve_deploy.cli.pipes import readable
from lcve_deploy.cli.show import print_classification

__all__ = ["command"]


@lcve_command(
    "lcve read logits.npy --key key.bin --client client",
    "lcve run server clip.lcve --json | lcve read - --key key.bin --client client",
)
@cloup.argument("logits", type=PATH_OR_PIPE, help="Logits from the operator. - for standard input.")
@key_option
@client_option
@top_option
@as_json
def command(logits: Path, key_file: Path, client_folder: Path, top: int, as_json: bool) -> None:
    """Turn the operator's logits into class names.

    The logits are a .npy file, or what lcve run --json prints, in the artifact's own label order: [classes] or
    [views, classes].
    """
    from lcve_deploy.client import Client
    from lcve_deploy.clips import Views
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.classify import Classification

    client = Client.open(client_folder, SecurityKey.read(key_file))
    with readable(logits) as path:
        received = client.read_logits(path)
    views = Views(temporal=len(received))
    print_classification(Classification.of(client, received, views=views, top=top), as_json=as_json)
