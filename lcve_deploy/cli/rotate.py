"""``lcve rotate``: the owner's side of a key rotation."""

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
from lcve_deploy.cli.show import carried_engines_json, print_carried_engines, print_json, print_note, say

if TYPE_CHECKING:
    from lcve_deploy.keys.signing import SigningKey

__all__ = ["command"]


@lcve_command(
    "lcve rotate service --key key.bin --new-key new.bin",
    "lcve rotate service --key key.bin --delta -o rotation",
)
@cloup.argument("artifact", type=PATH, help="Folder with server/ and client/.")
@key_option
@cloup.option("--new-key", "new_key_file", type=PATH, metavar="FILE", help="New key file.  [default: the same key]")
@cloup.option("--delta", is_flag=True, help="Write only what changes, for the operator's lcve apply.")
@cloup.option(
    "-o", "--output", type=PATH, metavar="DIR", help="Folder to create.  [default: ARTIFACT-rotated, or ARTIFACT-delta]"
)
@salt_option
@signing_key_option
@as_json
def command(
    artifact: Path,
    key_file: Path,
    new_key_file: Path | None,
    delta: bool,
    output: Path | None,
    salt: bytes | None,
    signing_key: SigningKey | None,
    as_json: bool,
) -> None:
    """Rotate the key of an artifact: always a new salt, and with --new-key a new key.

    Writes a whole new artifact or, with --delta, a folder with rotation.safetensors for the operator and a new
    client/. The rotated artifact refuses clips that were encrypted before. A rotation does not help against an
    operator who kept the old artifact.
    """
    from lcve_deploy.artifact.delta import DELTA
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.rotate import RotateOptions, rotate, rotate_delta

    key = SecurityKey.read(key_file)
    options = RotateOptions(
        new_key=SecurityKey.read(new_key_file) if new_key_file else None, salt=salt, signing_key=signing_key
    )
    write, suffix = (rotate_delta, "delta") if delta else (rotate, "rotated")
    folder = output or Path(f"{os.path.abspath(artifact)}-{suffix}")  # noqa: PTH100 (keeps links)
    result = write(artifact, folder, key=key, options=options, progress=StageProgress())
    binding = result.manifest.binding
    if as_json:
        kind, engines = "delta" if delta else "artifact", carried_engines_json(result.engines)
        ids = {"key_id": binding.key_id, "salt": binding.salt}
        print_json({kind: str(result.folder), **ids, "notes": list(result.notes), "engines": engines})
        return
    for note in result.notes:
        print_note(note)
    print_carried_engines(result.engines)
    say(f"key id {binding.key_id}, salt {binding.salt}")
    if delta:
        say(f"delta: {result.folder}  ({DELTA} for the operator, client/ for the key holder)")
    else:
        say(f"artifact: {result.folder}  (server/ for the operator, client/ for the key holder)")
