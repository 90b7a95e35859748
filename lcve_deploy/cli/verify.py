"""``lcve verify``: check parity (for the owner), or digests and probe (for the operator)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from lcve_deploy.artifact import list_engines
from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.checkpoint import CheckpointFacts, checkpoint_options
from lcve_deploy.cli.options.common import (
    as_json,
    engine_secret_option,
    thorough_option,
    tolerance_option,
    verify_clip_option,
)
from lcve_deploy.cli.options.session import DEVICE_OPTION
from lcve_deploy.cli.options.signing import signed_by_option
from lcve_deploy.cli.options.types import PATH
from lcve_deploy.cli.progress import StageProgress
from lcve_deploy.cli.show import (
    print_json,
    print_note,
    print_parity,
    print_signature,
    printable,
    signature_state,
)
from lcve_deploy.errors import DeviceError, ForeignEngineError, LcveError, MissingDependencyError, SignatureError

if TYPE_CHECKING:
    from lcve_deploy.artifact import PublicKey
    from lcve_deploy.model.parity import ParityReport
    from lcve_deploy.runtime import ProbeReport, ServerReport

__all__ = ["command"]


@lcve_command(
    "lcve verify server",
    "lcve verify service --key key.bin --ckpt videomae.pth",
)
@cloup.argument("artifact", type=PATH, help="server/ alone, or with --key the folder with server/ and client/.")
@cloup.option(
    "--engine", metavar="NAME", help="Verify only this engine.  [default: the graph and, without --key, every engine]"
)
@DEVICE_OPTION
@signed_by_option
@engine_secret_option
@as_json
@cloup.option_group(
    "Owner's check",
    cloup.option("--key", "key_file", type=PATH, metavar="FILE", help="Key file."),
    cloup.option("--ckpt", type=PATH, metavar="FILE", help="Checkpoint of the artifact."),
    verify_clip_option,
    tolerance_option,
    thorough_option,
)
@checkpoint_options
def command(
    artifact: Path,
    engine: str | None,
    device: int | None,
    signed_by: PublicKey | None,
    engine_secret: Path | None,
    key_file: Path | None,
    ckpt: Path | None,
    verify_clips: tuple[Path, ...],
    tolerance: float | None,
    thorough: bool,
    checkpoint: CheckpointFacts,
    as_json: bool,
) -> None:
    """Verify an artifact. Exits with 1 if a check fails.

    With --key and --ckpt, this is the owner's check: parity with the plain model, including the controls. The
    checkpoint is read as at the export, so its options need not be repeated. Without --key and --ckpt, it is the
    operator's check: digests, and the logits of the graph and of every engine for the probe. An engine that passes is
    proven for this machine. An engine that this machine has not made fails without being opened: no signature covers
    it.
    """
    if (key_file is None) != (ckpt is None):
        raise click.UsageError("--key and --ckpt must be used together")
    if device is not None and (engine is None or key_file is not None):
        raise click.UsageError("--device is for the operator's check of one engine, with --engine")
    if key_file is not None and ckpt is not None:
        from lcve_deploy.keys.secret import SecurityKey
        from lcve_deploy.verbs.verify import verify

        notes: list[str] = []
        report = verify(
            artifact,
            key=SecurityKey.read(key_file),
            checkpoint=ckpt,
            options=checkpoint.options(),
            clips=verify_clips,
            tolerance=tolerance,
            thorough=thorough,
            engine=engine,
            signed_by=signed_by,
            engine_secret=engine_secret,
            progress=StageProgress(),
            note=notes.append if as_json else print_note,
        )
        ok = _show_parity(report, notes, signature_state(artifact / "server", signed_by), as_json=as_json)
    elif engine:
        from lcve_deploy.runtime import verify_engine

        proven = verify_engine(artifact, engine, signed_by=signed_by, engine_secret=engine_secret, device=device)
        ok = _show_engine(artifact, proven, signed_by, as_json=as_json)
    else:
        ok = _verify_server(artifact, signed_by, engine_secret, as_json=as_json)
    if not ok:
        raise SystemExit(1)


def _show_engine(server: Path, report: ProbeReport, signed_by: PublicKey | None, *, as_json: bool) -> bool:
    signature = signature_state(server, signed_by)
    if as_json:
        print_json({**report.to_json(), "signature": signature})
    else:
        print_signature(signature)
        click.echo(_line("probe", report.to_json()))
    return report.ok


def _verify_server(server: Path, signed_by: PublicKey | None, engine_secret: Path | None, *, as_json: bool) -> bool:
    from lcve_deploy.runtime import verify_engine, verify_server

    names = list_engines(server)
    check_graph = partial(verify_server, server, signed_by=signed_by)
    graph = _row(check_graph) if names else check_graph().to_json()
    check_engine = partial(verify_engine, server, signed_by=signed_by, engine_secret=engine_secret)
    engines = {name: _row(partial(check_engine, name)) for name in names}
    states = [graph["ok"], *(row["ok"] for row in engines.values())]
    ok = True in states and False not in states
    signature = signature_state(server, signed_by)
    if as_json:
        print_json({**graph, "ok": ok, "signature": signature, "engines": engines})
        return ok
    print_signature(signature)
    if "reason" not in graph:  # the graph was opened, so all digests match
        click.echo("digests: ok")
    click.echo(_line("probe", {**graph, "ok": graph.get("model_ok", graph["ok"])}))
    for name, key in graph.get("keys", {}).items():
        click.echo(_key_line(name, key))
    for name, row in engines.items():
        click.echo(_line(f"engine {name}", row))
    return ok


def _key_line(name: str, key: dict[str, Any]) -> str:
    if key["probe"] is None:
        return f"key {name}: REFUSED: {printable(key['problem'])}"
    return _line(f"key {name}", key["probe"])


def _row(check: Callable[[], ProbeReport | ServerReport]) -> dict[str, Any]:
    """Run a check and return its row. If it cannot run here, ``ok`` is None. An invalid signature fails all checks."""
    try:
        return check().to_json()
    except SignatureError:
        raise
    except (DeviceError, MissingDependencyError) as error:
        return {"ok": None, "reason": str(error)}
    except ForeignEngineError as error:
        return {"ok": False, "foreign": True, "reason": str(error), "hint": error.hint}
    except LcveError as error:
        return {"ok": False, "reason": str(error)}


def _line(name: str, row: dict[str, Any]) -> str:
    if "foreign" in row:
        return f"{name}: REFUSED: {printable(row['reason'])}. To {printable(row['hint'])}"
    if "reason" in row:
        return f"{name}: {'not run here' if row['ok'] is None else 'FAILED'}: {printable(row['reason'])}"
    state = "ok" if row["ok"] else "FAILED"
    return f"{name}: {state}, max |Δlogit| {row['max_difference']:.2e} (tolerance {row['tolerance']:.2e})"


def _show_parity(report: ParityReport, notes: list[str], signature: str, *, as_json: bool) -> bool:
    if as_json:
        print_json({**report.to_json(), "ok": report.ok, "signature": signature, "notes": notes})
    else:
        print_signature(signature)
        print_parity(report)
    return report.ok
