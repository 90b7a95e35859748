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


@lcve_command(
    "lcve sign service --signing-key signing.pem",
    "lcve sign camera-7/server --signing-key signing.pem",
)
@cloup.argument("folder", type=PATH, metavar="DIR", help="Artifact, its server/, or a key folder.")
@cloup.option("--signing-key", type=SigningKeyFile(), required=True, help="Private key from lcve keygen --signing.")
@as_json
def command(folder: Path, signing_key: SigningKey, as_json: bool) -> None:
    """Sign a model and its key folders, or one key folder.

    The files are first compared with their digests. The signatures are written to manifest.sig and key.sig. What this
    key has signed before is left as it is.
    """
    from lcve_deploy.verbs.sign import sign

    paths, fingerprint = sign(folder, signing_key=signing_key), signing_key.public_key.fingerprint
    if as_json:
        print_json({"signatures": [str(path) for path in paths], "sha256": fingerprint})
        return
    for path in paths:
        say(f"{path}: signed by the key with SHA-256 {fingerprint}")
