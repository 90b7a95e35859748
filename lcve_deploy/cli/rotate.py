"""``lcve rotate``: another key or salt for an artifact."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, key_option, salt_option
from lcve_deploy.cli.options.signing import signing_key_option
from lcve_deploy.cli.options.types import PATH
from lcve_deploy.cli.progress import StageProgress
from lcve_deploy.cli.show import print_json, print_note, say

if TYPE_CHECKING:
    from lcve_deploy.keys.signing import SigningKey

__all__ = ["command"]


@lcve_command(
    "lcve rotate service --key key.bin",
    "lcve rotate service --key key.bin --new-key new.bin -o rotated",
)
@cloup.argument("artifact", type=PATH, help="Folder with server/ and client/.")
@key_option
@cloup.option("--new-key", "new_key_file", type=PATH, metavar="FILE", help="New key file.  [default: the same key]")
@cloup.option("-o", "--output", type=PATH, metavar="DIR", help="Folder to create.  [default: ARTIFACT-rotated]")
@salt_option
@signing_key_option
@as_json
def command(
    artifact: Path,
    key_file: Path,
    new_key_file: Path | None,
    output: Path | None,
    salt: bytes | None,
    signing_key: SigningKey | None,
    as_json: bool,
) -> None:
    """Make a key folder with a new salt, and with --new-key for a new key.

    Writes server/, the key folder for the operator's lcve apply, and client/ for the key holder. Model and engines do
    not change. The old key works until the operator removes its folder. A rotation does not help against an operator
    who kept the old key folder.
    """
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.rotate import RotateOptions, rotate

    key = SecurityKey.read(key_file)
    options = RotateOptions(
        new_key=SecurityKey.read(new_key_file) if new_key_file else None, salt=salt, signing_key=signing_key
    )
    folder = output or Path(f"{os.path.abspath(artifact)}-rotated")  # noqa: PTH100 (keeps links)
    result = rotate(artifact, folder, key=key, options=options, progress=StageProgress())
    binding = result.manifest.binding
    if as_json:
        print_json(
            {
                "folder": str(result.folder),
                "key_id": binding.key_id,
                "salt": binding.salt,
                "notes": list(result.notes),
            }
        )
        return
    for note in result.notes:
        print_note(note)
    say(f"key id {binding.key_id}, salt {binding.salt}")
    say(f"key: {result.folder}  (server/ for the operator's lcve apply, client/ for the key holder)")
