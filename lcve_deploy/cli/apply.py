"""``lcve apply``: the operator's side of a key rotation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.options.signing import signed_by_option
from lcve_deploy.cli.options.types import PATH
from lcve_deploy.cli.progress import StageProgress
from lcve_deploy.cli.show import (
    carried_engines_json,
    print_carried_engines,
    print_json,
    print_signature,
    say,
    signature_state,
)

if TYPE_CHECKING:
    from lcve_deploy.artifact import PublicKey

__all__ = ["command"]


@lcve_command("lcve apply server rotation.safetensors -o server-rotated")
@cloup.argument("server", type=PATH, metavar="DIR", help="server/ of the artifact; it is not changed.")
@cloup.argument("delta", type=PATH, help="Key rotation from the owner, rotation.safetensors.")
@cloup.option("-o", "--output", type=PATH, metavar="DIR", help="Folder to create.  [default: DIR-rotated]")
@signed_by_option
@as_json
def command(server: Path, delta: Path, output: Path | None, signed_by: PublicKey | None, as_json: bool) -> None:
    """Apply a key rotation to a server folder. Needs no key.

    The new server folder is written only if the model passes the probe. Engines are refitted or rebuilt; an engine
    for which neither works is left out and listed.
    """
    from lcve_deploy.verbs.apply import apply_delta

    output = output or Path(f"{os.path.abspath(server)}-rotated")  # noqa: PTH100 (keeps links)
    result = apply_delta(server, delta, output, signed_by=signed_by, progress=StageProgress())
    signature = signature_state(result.folder, signed_by)
    if as_json:
        engines = carried_engines_json(result.engines)
        summary = {"server": str(result.folder), "signature": signature}
        print_json({**summary, "probe": result.probe.to_json(), "engines": engines})
        return
    print_signature(signature)
    print_carried_engines(result.engines)
    report = result.probe
    say(f"probe: ok, max |Δlogit| {report.max_difference:.2e} (tolerance {report.tolerance:.2e})")
    say(f"server folder: {result.folder}")
