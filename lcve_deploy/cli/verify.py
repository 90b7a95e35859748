"""``lcve verify``: parity for the owner, digests and probe for the operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lcve_deploy.cli.options import (
    AnyPath,
    as_json,
    checkpoint_options,
    to_checkpoint_options,
    tolerance_option,
    verify_clip_option,
)
from lcve_deploy.cli.show import StageProgress, print_json, print_parity

__all__ = ["command"]


@click.command()
@click.argument("artifact", type=AnyPath)
@click.option("--key", "key_file", type=AnyPath, help="Key file, for the owner's check.")
@click.option("--ckpt", "checkpoint", type=AnyPath, help="Checkpoint, for the owner's check.")
@checkpoint_options
@verify_clip_option
@tolerance_option
@as_json
def command(artifact: Path, as_json: bool, **given: Any) -> None:
    """Verify ARTIFACT; exits with 1 where it does not hold.

    With --key and --ckpt, the owner's check: parity with the plain model, controls included. Without,
    the operator's: ARTIFACT is server/; its digests, and its answers to the probe.
    """
    if (given["key_file"] is None) != (given["checkpoint"] is None):
        raise click.UsageError("--key and --ckpt are given together, or not at all")
    ok = _verify_server(artifact, as_json) if given["key_file"] is None else _verify_pair(artifact, as_json, given)
    if not ok:
        raise SystemExit(1)


def _verify_server(server: Path, as_json: bool) -> bool:
    from lcve_deploy.runtime import verify_server

    report = verify_server(server)
    if as_json:
        print_json(report.to_json())
    else:
        click.echo("digests: ok")
        state = "ok" if report.ok else "FAILED"
        click.echo(f"probe: {state}, max |Δlogit| {report.max_difference:.2e} (tolerance {report.tolerance:.2e})")
    return report.ok


def _verify_pair(artifact: Path, as_json: bool, given: dict[str, Any]) -> bool:
    from lcve_deploy.key import SecurityKey
    from lcve_deploy.verbs.verify import verify

    report = verify(
        artifact,
        key=SecurityKey.read(given["key_file"]),
        checkpoint=given["checkpoint"],
        options=to_checkpoint_options(*(given[n] for n in ("num_heads", "frames", "size", "mean", "std"))),
        clips=given["verify_clips"],
        tolerance=given["tolerance"],
        progress=StageProgress(),
    )
    if as_json:
        print_json({**report.to_json(), "ok": report.ok})
    else:
        print_parity(report)
    return report.ok
