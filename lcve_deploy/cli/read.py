"""``lcve read``: turn the operator's logits into predictions, or put another output into the plain order."""

from __future__ import annotations

from pathlib import Path

import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, client_option, key_option, logits_out_option, top_option
from lcve_deploy.cli.options.types import PATH_OR_PIPE
from lcve_deploy.cli.pipes import is_standard, readable, require_writable
from lcve_deploy.cli.show import print_classification, write_output

__all__ = ["command"]


@lcve_command(
    "lcve read logits.npy --key key.bin --client client",
    "lcve run server clip.lcve --json | lcve read - --key key.bin --client client",
    "lcve read tokens.npy --key key.bin --client client --logits-out plain.npy",
)
@cloup.argument("logits", type=PATH_OR_PIPE, help="Output of the model from the operator. - for standard input.")
@key_option
@client_option
@top_option
@logits_out_option
@as_json
def command(
    logits: Path, key_file: Path, client_folder: Path, top: int, logits_out: Path | None, as_json: bool
) -> None:
    """Turn the operator's logits into class names.

    The logits are a .npy file, or what lcve run --json prints, in the artifact's own label order: [classes] or
    [views, classes].

    Features and tokens are described. With --logits-out, any output is written in the plain order: tokens are in the
    order of the clip, prefix tokens first.
    """
    from lcve_deploy.client import Client
    from lcve_deploy.clips import Views
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.classify import Classification

    if logits_out:
        require_writable(logits_out, as_json=as_json)
    client = Client.open(client_folder, SecurityKey.read(key_file))
    with readable(logits) as path:
        received = client.read_logits(path)
    views = Views(temporal=len(received))
    classification = Classification.of(client, received, views=views, top=top)
    write_output(logits_out, classification.logits)
    if logits_out is None or not is_standard(logits_out):
        print_classification(classification, as_json=as_json)
