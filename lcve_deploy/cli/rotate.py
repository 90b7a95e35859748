"""``lcve rotate``: the owner's key rotation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from lcve_deploy.cli.options import AnyPath, as_json, key_option, salt_option, signing_key_option
from lcve_deploy.cli.show import StageProgress, carried_engines_json, print_carried_engines, print_json, printable

__all__ = ["command"]


@click.command()
@click.argument("artifact", type=AnyPath)
@key_option
@click.option("--new-key", "new_key_file", type=AnyPath, help="Key file to go over to.  [default: the same key]")
@click.option("--delta", is_flag=True, help="Write only what changes, for the operator to apply.")
@click.option("-o", "--output", type=AnyPath, help="Folder to make.  [default: ARTIFACT-rotated, or ARTIFACT-delta]")
@salt_option
@signing_key_option
@as_json
def command(artifact: Path, key_file: Path, new_key_file: Path | None, delta: bool, **given: Any) -> None:
    """Rotate the key of ARTIFACT: a new salt in any case, and a new key with --new-key.

    Writes a whole new artifact; or, with --delta, a folder with rotation.safetensors for the operator (lcve apply)
    and a new client/. Clips that were encrypted before are refused by the rotated artifact. A rotation does not
    help against an operator who kept the old artifact.
    """
    from lcve_deploy.artifact.delta import DELTA
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.rotate import rotate, rotate_delta

    key = SecurityKey.read(key_file)
    new_key = SecurityKey.read(new_key_file) if new_key_file else None
    work, suffix = (rotate_delta, "delta") if delta else (rotate, "rotated")
    output = given["output"] or Path(f"{os.path.abspath(artifact)}-{suffix}")  # noqa: PTH100 (keeps links)
    options = {name: given[name] for name in ("salt", "signing_key")}
    result = work(artifact, output, key=key, new_key=new_key, progress=StageProgress(), **options)
    binding = result.manifest.binding
    if given["as_json"]:
        kind = "delta" if delta else "artifact"
        ids = {"key_id": binding.key_id, "salt": binding.salt}
        engines = carried_engines_json(result.engines)
        print_json({kind: str(result.folder), **ids, "notes": list(result.notes), "engines": engines})
        return
    for note in result.notes:
        click.echo(f"note: {printable(note)}")
    print_carried_engines(result.engines)
    click.echo(f"key id {binding.key_id}, salt {binding.salt}")
    if delta:
        click.echo(f"delta: {result.folder}  ({DELTA} for the operator, client/ for the key holder)")
    else:
        click.echo(f"artifact: {result.folder}  (server/ for the operator, client/ for the key holder)")
