"""``lcve enroll``: keys for cameras and clients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, key_option, salt_option
from lcve_deploy.cli.options.signing import signing_key_option
from lcve_deploy.cli.options.types import PATH
from lcve_deploy.cli.progress import StageProgress
from lcve_deploy.cli.show import print_json, print_note, say
from lcve_deploy.errors import KeyFileError
from lcve_deploy.files.reading import read_bounded

if TYPE_CHECKING:
    from lcve_deploy.keys.signing import SigningKey
    from lcve_deploy.verbs.enroll import Enrollment

__all__ = ["command"]


@lcve_command(
    "lcve enroll service --key key.bin --name camera-7 -o camera-7",
    "lcve enroll service --key key.bin --names cameras.txt -o cameras",
    "lcve enroll service --key key.bin --name camera-7 --new-salt -o renewed",
)
@cloup.argument("artifact", type=PATH, help="Folder with server/ and client/.")
@key_option
@cloup.option("--name", metavar="NAME", help="Name of a camera or client.")
@cloup.option("--names", type=PATH, metavar="FILE", help="Names of many, one on each line.")
@cloup.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    metavar="DIR",
    help="Folder to create. With --names, the folder for a folder of each; those that are there are skipped.",
)
@cloup.option(
    "--new-salt", is_flag=True, help="Renew keys that cameras have: the same key with a new salt, no key.bin."
)
@salt_option
@signing_key_option
@as_json
def command(
    artifact: Path,
    key_file: Path,
    name: str | None,
    names: Path | None,
    output: Path,
    new_salt: bool,
    salt: bytes | None,
    signing_key: SigningKey | None,
    as_json: bool,
) -> None:
    """Make the key of a camera or client, or of many: derived from the artifact's key by its name, with its own salt.

    Each folder has key.bin and client/ for the camera, and server/, a key folder, for the operator's lcve apply.
    The model does not change and nothing is run, so one key takes less than half a second.
    """
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.enroll import EnrollOptions, enroll, enroll_all

    if (name is None) == (names is None):
        raise click.UsageError("expected --name or --names, and not both")
    if names is not None and salt is not None:
        raise click.UsageError("--salt is for one --name; every camera needs a salt of its own")
    if new_salt and salt is not None:
        raise click.UsageError("--new-salt draws a salt: pass it or --salt")
    key = SecurityKey.read(key_file)
    options = EnrollOptions(salt=salt, new_salt=new_salt, signing_key=signing_key)
    if name is not None:
        result = enroll(artifact, name, output, key=key, options=options, progress=StageProgress(quiet=True))
        _show_one(result, as_json=as_json)
    elif names is not None:
        wanted = _read_names(names)
        result = enroll_all(artifact, wanted, output, key=key, options=options, progress=StageProgress())
        _show_all(result, output, as_json=as_json)


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        lines = read_bounded(path, "a list of names", KeyFileError).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:  # its message would quote a byte, and the file may be a key
        raise click.BadParameter(f"{path} is not text in UTF-8", param_hint="--names") from None
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be read: {error}", param_hint="--names") from None
    if not (names := tuple(line.strip() for line in lines if line.strip())):
        raise click.BadParameter(f"{path} has no names; expected one on each line", param_hint="--names")
    return names


def _show_one(result: Enrollment, *, as_json: bool) -> None:
    (enrolled,) = result.enrolled
    if as_json:
        print_json({**enrolled.to_json(), "notes": list(result.notes)})
        return
    for note in result.notes:
        print_note(note)
    say(f"{enrolled.name}: key id {enrolled.key.key_id}, salt {enrolled.key.salt}")
    camera = "key.bin and client/" if (enrolled.folder / "key.bin").is_file() else "client/"
    say(f"key: {enrolled.folder}  ({camera} for the camera, server/ for the operator's lcve apply)")


def _show_all(result: Enrollment, output: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "folder": str(output),
                "enrolled": [enrolled.to_json() for enrolled in result.enrolled],
                "skipped": result.skipped,
                "notes": list(result.notes),
            }
        )
        return
    for note in result.notes:
        print_note(note)
    skipped = f", {result.skipped} were there before" if result.skipped else ""
    say(f"{output}: {len(result.enrolled)} keys{skipped}")
