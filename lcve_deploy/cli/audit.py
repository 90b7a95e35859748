"""``lcve audit``: report what attacks recover from an artifact."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.options.signing import signed_by_option
from lcve_deploy.cli.options.types import PATH
from lcve_deploy.cli.progress import StageProgress
from lcve_deploy.cli.show import print_json, say

if TYPE_CHECKING:
    from lcve_deploy.artifact import PublicKey
    from lcve_deploy.attacks.report import AuditReport
    from lcve_deploy.attacks.running import AttackResult

__all__ = ["command"]


@lcve_command(
    "lcve audit server --key key.bin --reference videomae.pth \\\n    --ciphertext clip.lcve",
)
@cloup.argument("server", type=PATH, metavar="DIR", help="Model folder: server/ of the artifact.")
@cloup.option("--key-name", metavar="NAME", help="Key folder in keys/ to attack.  [default: the only one]")
@cloup.option("-o", "--output", type=PATH, metavar="FILE", help="HTML page to write.  [default: DIR-audit.html]")
@signed_by_option
@as_json
@cloup.option_group(
    "Attacker",
    cloup.option(
        "--reference", type=PATH, metavar="FILE", help="Checkpoint: the public, the pre-trained or the plain model."
    ),
    cloup.option(
        "--ciphertext",
        "ciphertexts",
        type=PATH,
        multiple=True,
        metavar="FILE",
        help="Encrypted clip; may be repeated.",
    ),
    cloup.option(
        "--known-clip",
        "known_clips",
        type=PATH,
        multiple=True,
        metavar="FILE",
        help="Plain clip whose encryption is also known; may be repeated.",
    ),
    cloup.option(
        "--known-class",
        "known_classes",
        type=(PATH, int),
        multiple=True,
        metavar="FILE N",
        help="Encrypted clip that shows class N, from 0, in the plain order; may be repeated.",
    ),
    cloup.option(
        "--other",
        type=PATH,
        metavar="DIR",
        help="Another key folder of the model.  [default with --key: this one with a new salt]",
    ),
    help="What the attacker has, in addition to the model folder and the key folder.",
)
@cloup.option_group(
    "Scoring",
    cloup.option(
        "--key",
        "key_file",
        type=PATH,
        metavar="FILE",
        help="Key file, to score the attacks and to encrypt the known clips.",
    ),
    cloup.option(
        "--other-key",
        "other_key_file",
        type=PATH,
        metavar="FILE",
        help="Key file of --other.  [default: the same key]",
    ),
)
def command(
    server: Path,
    key_name: str | None,
    output: Path | None,
    reference: Path | None,
    ciphertexts: tuple[Path, ...],
    known_clips: tuple[Path, ...],
    known_classes: tuple[tuple[Path, int], ...],
    other: Path | None,
    key_file: Path | None,
    other_key_file: Path | None,
    signed_by: PublicKey | None,
    as_json: bool,
) -> None:
    """Run the attacks that an operator or a thief could run, and report what they recover.

    Each attack must first solve a planted case. An attack that does not is reported as not working, never as safety.
    A score that cannot be distinguished from a guess, as with few cubes or a flat clip, is reported as not meaningful.
    Exits with 1 if a control fails.
    """
    from lcve_deploy.attacks.page import render_page
    from lcve_deploy.files.writing import new_file, require_absent
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.audit import AuditInputs, audit

    _require_extra()
    if other_key_file and not (other and key_file):
        raise click.UsageError("--other-key needs --other and --key")
    output = output or Path(f"{os.path.abspath(server)}-audit.html")  # noqa: PTH100 (keeps links)
    require_absent(output)
    inputs = AuditInputs(
        name=key_name,
        key=SecurityKey.read(key_file) if key_file else None,
        other_key=SecurityKey.read(other_key_file) if other_key_file else None,
        reference=reference,
        ciphertexts=ciphertexts,
        known_clips=known_clips,
        known_classes=known_classes,
        other=other,
        signed_by=signed_by,
    )
    report = audit(server, inputs, progress=StageProgress())
    with new_file(output, private=True) as file:  # the page may show decrypted clips
        file.write(render_page(report).encode())
    if as_json:
        print_json({**report.to_json(), "page": str(output)})
    else:
        _print(report)
        say(f"page: {output}")
    if not report.ok:
        raise SystemExit(1)


def _require_extra() -> None:
    """Fail at once if a module is not installed, because the audit takes minutes."""
    for module in ("scipy", "skimage", "jinja2", "av"):
        importlib.import_module(module)


def _print(report: AuditReport) -> None:
    if "sealed clips" in report.subject:
        click.echo(f"sealed clips: {report.subject['sealed clips']}\n")
    for verdict in report.verdicts:
        click.secho(f"{verdict.attacker}:", bold=True)
        click.echo(f"  {verdict.sentence}")
    if not report.verdicts:
        click.echo("nothing was scored: pass --key to measure how much was recovered")
    titles = "".join(f"{order:>9}" for order in report.orders.values())
    click.echo(f"\n{'attack':<58}{'seconds':>8}{titles}  {'clip':<32}controls")
    for result in report.results:
        click.echo(_line(result, report.orders))
    _print_notes(report)


def _print_notes(report: AuditReport) -> None:
    """Print what the figures mean, which of them mean nothing, and what was assumed."""
    click.echo("shares of exactly correct positions; * up to flips, swaps of equal axes and the order of channels")
    if "signs" in report.orders:
        click.echo("of K2 and signs, shares of the energy of a clip, without its mean colours, in correct coefficients")
    if report.not_meaningful:
        click.echo("\n? not meaningful here, and not counted as a control that fails:")
        for note in report.not_meaningful:
            click.echo(f"  {note}")
    click.echo("\nassumed:")
    for name, text in report.assumed.items():
        click.echo(f"  {name}: {text}")


def _line(result: AttackResult, orders: Iterable[str]) -> str:
    title = f"{result.attack.title:<58}"
    if result.control is None:
        return f"{title}{result.state}: {result.reason}"
    marks = {name: f"{'*' * result.attack.symmetric}{'?' * (name in result.control.unclear)}" for name in orders}
    shares = [f"{result.recovered[n].share:.1%}{marks[n] or ' '}" if n in result.recovered else " " for n in orders]
    scores = f"{''.join(f'{share:>9}' for share in shares)}  {_clip(result):<32}"
    return f"{title}{result.seconds:>8.1f}{scores}{result.verdict}"


def _clip(result: AttackResult) -> str:
    if result.similarity is None:
        return "nothing found" if result.found_nothing else ""
    unclear = result.control is not None and "clip" in result.control.unclear
    return f"{result.similarity}{' ?' if unclear else ''}"
