"""``lcve audit``: what attacks recover from an artifact."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lcve_deploy.cli.options import AnyPath, as_json, signed_by_option
from lcve_deploy.cli.show import StageProgress, print_json

if TYPE_CHECKING:
    from lcve_deploy.attacks.report import AuditReport
    from lcve_deploy.attacks.running import AttackResult

__all__ = ["command"]


@click.command()
@click.argument("server", type=AnyPath)
@click.option(
    "--reference", type=AnyPath, help="Checkpoint that the attacker has: public, pre-trained, or the plain one."
)
@click.option(
    "--ciphertexts", type=AnyPath, multiple=True, help="Encrypted clip that the attacker has; may be repeated."
)
@click.option(
    "--known-clip",
    "known_clips",
    type=AnyPath,
    multiple=True,
    help="Plain clip that the attacker knows; may be repeated.",
)
@click.option("--other", type=AnyPath, help="server/ of another artifact of the model.  [with --key: this one rotated]")
@click.option("--key", "key_file", type=AnyPath, help="Key file: to score, and to encrypt the known clips.")
@click.option("--other-key", "other_key_file", type=AnyPath, help="Key file of --other.  [default: the same key]")
@click.option("-o", "--output", type=AnyPath, help="Page to write, HTML.  [default: SERVER-audit.html]")
@signed_by_option
@as_json
def command(server: Path, output: Path | None, as_json: bool, **given: Any) -> None:
    """Run the attacks on SERVER that an operator or a thief could run, and say what they recover.

    Every attack must solve a planted case first; one that does not is reported as not working, never as safety.
    Exits with 1 where a control does not hold.
    """
    from lcve_deploy.attacks.page import render_page
    from lcve_deploy.files.writing import new_file, require_absent
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.audit import AuditInputs, audit

    _require_extra()
    if given["other_key_file"] and not (given["other"] and given["key_file"]):
        raise click.UsageError("--other-key is the key of --other, and scores only beside --key")
    output = output or Path(f"{os.path.abspath(server)}-audit.html")  # noqa: PTH100 (keeps links)
    require_absent(output)
    key, other_key = (
        SecurityKey.read(path) if (path := given.pop(name)) else None for name in ("key_file", "other_key_file")
    )
    inputs = AuditInputs(key=key, other_key=other_key, **given)
    report = audit(server, inputs, progress=StageProgress())
    with new_file(output, private=True) as file:  # it may show the clip as the key decrypts it
        file.write(render_page(report).encode())
    if as_json:
        print_json({**report.to_json(), "page": str(output)})
    else:
        _print(report)
        click.echo(f"page: {output}")
    if not report.ok:
        raise SystemExit(1)


def _require_extra() -> None:
    """Find out what is not installed before the work, which takes minutes."""
    for module in ("scipy", "skimage", "jinja2", "av"):
        importlib.import_module(module)


def _print(report: AuditReport) -> None:
    for verdict in report.verdicts:
        click.secho(f"{verdict.attacker}:", bold=True)
        click.echo(f"  {verdict.sentence}")
    if not report.verdicts:
        click.echo("nothing was scored: without --key nobody can say how much was recovered")
    click.echo(f"\n{'attack':<58}{'seconds':>8}{'K1':>9}{'K2':>9}{'K3':>9}  {'clip':<32}controls")
    for result in report.results:
        click.echo(_line(result))
    click.echo("shares that are exactly right; * up to flips, exchanges of equal axes and the order of channels")


def _line(result: AttackResult) -> str:
    title = f"{result.attack.title:<58}"
    if result.control is None:
        return f"{title}{result.state}: {result.reason}"
    mark = "*" if result.attack.symmetric else " "
    shares = [
        f"{result.recovered[n].exact:.1%}{mark}" if n in result.recovered else " "
        for n in ("cubes", "values", "labels")
    ]
    likeness = str(result.similarity or "")
    state = "hold" if result.ok else ("NOT WORKING" if not result.control.solved else "ABOVE CHANCE")
    return f"{title}{result.seconds:>8.1f}{''.join(f'{share:>9}' for share in shares)}  {likeness:<32}{state}"
