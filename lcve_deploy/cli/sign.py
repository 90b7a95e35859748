"""``lcve sign``: sign an existing artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.options.types import PATH, SigningKeyFile
from lcve_deploy.cli.show import print_json, say

if TYPE_CHECKING:
    from lcve_deploy.keys.signing import SigningKey

__all__ = ["command"]


@lcve_command("lcve sign service/server --signing-key signing.pem")
@cloup.argument("server", type=PATH, metavar="DIR", help="server/ of an artifact.")
@cloup.option("--signing-key", type=SigningKeyFile(), required=True, help="Private key from lcve keygen --signing.")
@as_json
def command(server: Path, signing_key: SigningKey, as_json: bool) -> None:
    """Sign the manifest of a server folder.

    The files are first compared with their digests. The signature is written to manifest.sig in the folder.
    """
    from lcve_deploy.verbs.sign import sign

    path, fingerprint = sign(server, signing_key=signing_key), signing_key.public_key.fingerprint
    if as_json:
        print_json({"signature": str(path), "sha256": fingerprint})
        return
    say(f"{path}: signed by the key with SHA-256 {fingerprint}")
