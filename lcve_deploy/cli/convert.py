"""``lcve convert``: an artifact of an older format in that of today."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, key_name_option, key_option
from lcve_deploy.cli.options.signing import signing_key_option
from lcve_deploy.cli.options.types import PATH
from lcve_deploy.cli.progress import StageProgress
from lcve_deploy.cli.show import print_json, print_note, say

if TYPE_CHECKING:
    from lcve_deploy.keys.signing import SigningKey

__all__ = ["command"]


@lcve_command("lcve convert old-service --key key.bin -o service")
@cloup.argument("artifact", type=PATH, help="Folder with server/ and client/ of format 1.")
@key_option
@cloup.option("-o", "--output", type=PATH, metavar="DIR", help="Folder to create.  [default: ARTIFACT-converted]")
@key_name_option
@signing_key_option
@as_json
def command(
    artifact: Path,
    key_file: Path,
    output: Path | None,
    key_name: str,
    signing_key: SigningKey | None,
    as_json: bool,
) -> None:
    """Convert an artifact that an older version wrote, with one key inside the model, to a model and a key folder.

    No number changes, and clips that were encrypted for the old artifact can still be used. Needs no checkpoint.
    Engines are not carried over.
    """
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.convert import convert

    folder = output or Path(f"{os.path.abspath(artifact)}-converted")  # noqa: PTH100 (keeps links)
    result = convert(
        artifact,
        folder,
        key=SecurityKey.read(key_file),
        key_name=key_name,
        signing_key=signing_key,
        progress=StageProgress(),
    )
    if as_json:
        print_json({"artifact": str(result.folder), "notes": list(result.notes)})
        return
    for note in result.notes:
        print_note(note)
    say(f"artifact: {result.folder}  (server/ for the operator, client/ for the key holder)")
