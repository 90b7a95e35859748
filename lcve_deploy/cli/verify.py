"""``lcve verify``: parity for the owner, digests and probe for the operator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lcve_deploy.artifact import list_engines
from lcve_deploy.cli.options import (
    AnyPath,
    as_json,
    checkpoint_options,
    signed_by_option,
    to_checkpoint_options,
    tolerance_option,
    verify_clip_option,
)
from lcve_deploy.cli.show import (
    StageProgress,
    print_json,
    print_parity,
    print_signature,
    printable,
    signature_state,
)
from lcve_deploy.errors import DeviceError, LcveError, MissingDependencyError, SignatureError

if TYPE_CHECKING:
    from lcve_deploy.artifact import PublicKey
    from lcve_deploy.runtime import ProbeReport

__all__ = ["command"]


@click.command()
@click.argument("artifact", type=AnyPath)
@click.option("--key", "key_file", type=AnyPath, help="Key file, for the owner's check.")
@click.option("--ckpt", "checkpoint", type=AnyPath, help="Checkpoint, for the owner's check.")
@checkpoint_options
@verify_clip_option
@tolerance_option
@click.option("--engine", help="Only this engine.  [default: the graph, and without a key every engine]")
@signed_by_option
@as_json
def command(artifact: Path, as_json: bool, **given: Any) -> None:
    """Verify ARTIFACT; exits with 1 where it does not hold.

    With --key and --ckpt, the owner's check: parity with the plain model, controls included. Without,
    the operator's: ARTIFACT is server/; its digests, and the answers of its graph and engines to the probe. An
    engine that answers rightly is proven for this machine.
    """
    if (given["key_file"] is None) != (given["checkpoint"] is None):
        raise click.UsageError("--key and --ckpt are given together, or not at all")
    if given["key_file"] is not None:
        ok = _verify_pair(artifact, as_json, given)
    elif given["engine"]:
        ok = _verify_engine(artifact, given["engine"], given["signed_by"], as_json)
    else:
        ok = _verify_server(artifact, given["signed_by"], as_json)
    if not ok:
        raise SystemExit(1)


def _verify_engine(server: Path, name: str, signed_by: PublicKey | None, as_json: bool) -> bool:
    from lcve_deploy.runtime import verify_engine

    report = verify_engine(server, name, signed_by=signed_by)
    signature = signature_state(server, signed_by)
    if as_json:
        print_json({**report.to_json(), "signature": signature})
    else:
        print_signature(signature)
        click.echo(_line("probe", report.to_json()))
    return report.ok


def _verify_server(server: Path, signed_by: PublicKey | None, as_json: bool) -> bool:
    from lcve_deploy.runtime import verify_engine, verify_server

    names = list_engines(server)
    ask_graph = partial(verify_server, server, signed_by=signed_by)
    graph = _row(ask_graph) if names else ask_graph().to_json()
    engines = {name: _row(partial(verify_engine, server, name, signed_by=signed_by)) for name in names}
    states = [graph["ok"], *(row["ok"] for row in engines.values())]
    ok = True in states and False not in states
    signature = signature_state(server, signed_by)
    if as_json:
        print_json({**graph, "ok": ok, "signature": signature, "engines": engines})
        return ok
    print_signature(signature)
    if "reason" not in graph:  # it was opened, and so its files have their digests
        click.echo("digests: ok")
    click.echo(_line("probe", graph))
    for name, row in engines.items():
        click.echo(_line(f"engine {name}", row))
    return ok


def _row(check: Callable[[], ProbeReport]) -> dict[str, Any]:
    """The row of a check; what has no place here is neither right nor wrong. A signature holds for all rows or none."""
    try:
        return check().to_json()
    except SignatureError:
        raise
    except (DeviceError, MissingDependencyError) as error:
        return {"ok": None, "reason": str(error)}
    except LcveError as error:
        return {"ok": False, "reason": str(error)}


def _line(name: str, row: dict[str, Any]) -> str:
    if "reason" in row:
        return f"{name}: {'not run here' if row['ok'] is None else 'FAILED'}: {printable(row['reason'])}"
    state = "ok" if row["ok"] else "FAILED"
    return f"{name}: {state}, max |Δlogit| {row['max_difference']:.2e} (tolerance {row['tolerance']:.2e})"


def _verify_pair(artifact: Path, as_json: bool, given: dict[str, Any]) -> bool:
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.verify import verify

    report = verify(
        artifact,
        key=SecurityKey.read(given["key_file"]),
        checkpoint=given["checkpoint"],
        options=to_checkpoint_options(given),
        clips=given["verify_clips"],
        tolerance=given["tolerance"],
        engine=given["engine"],
        signed_by=given["signed_by"],
        progress=StageProgress(),
    )
    signature = signature_state(artifact / "server", given["signed_by"])
    if as_json:
        print_json({**report.to_json(), "ok": report.ok, "signature": signature})
    else:
        print_signature(signature)
        print_parity(report)
    return report.ok
