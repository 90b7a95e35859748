"""``lcve apply``: the operator's side of a key rotation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lcve_deploy.cli.options import AnyPath, as_json, signed_by_option
from lcve_deploy.cli.show import (
    StageProgress,
    carried_engines_json,
    print_carried_engines,
    print_json,
    print_signature,
    signature_state,
)

if TYPE_CHECKING:
    from lcve_deploy.artifact import PublicKey

__all__ = ["command"]


@click.command()
@click.argument("server", type=AnyPath)
@click.argument("delta", type=AnyPath)
@click.option("-o", "--output", type=AnyPath, help="Folder to make.  [default: SERVER-rotated]")
@signed_by_option
@as_json
def command(server: Path, delta: Path, output: Path | None, signed_by: PublicKey | None, as_json: bool) -> None:
    """Apply the key rotation DELTA (rotation.safetensors) to the server folder SERVER. No key is needed.

    Writes a new server folder, once it has answered the probe; SERVER stays as it is. Engines are refitted or built
    again; one that cannot be is left out and named.
    """
    from lcve_deploy.verbs.apply import apply_delta

    output = output or Path(f"{os.path.abspath(server)}-rotated")  # noqa: PTH100 (keeps links)
    result = apply_delta(server, delta, output, signed_by=signed_by, progress=StageProgress())
    signature = signature_state(result.folder, signed_by)
    if as_json:
        engines = carried_engines_json(result.engines)
        about = {"server": str(result.folder), "signature": signature}
        print_json({**about, "probe": result.probe.to_json(), "engines": engines})
        return
    print_signature(signature)
    print_carried_engines(result.engines)
    report = result.probe
    click.echo(f"probe: ok, max |Δlogit| {report.max_difference:.2e} (tolerance {report.tolerance:.2e})")
    click.echo(f"server folder: {result.folder}")
