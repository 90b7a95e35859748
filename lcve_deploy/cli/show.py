"""What commands share in showing: progress, tables, JSON."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from lcve_deploy.parity import CONTROL_MARGIN, CONTROLS, ParityReport

__all__ = ["StageProgress", "print_json", "print_parity", "printable"]


class StageProgress:
    """One line a stage on standard error; on a terminal it counts as the stage goes on."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet, self._live, self._started = quiet, sys.stderr.isatty(), 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show a step; see :class:`lcve_deploy.progress.Progress`."""
        if self._quiet:
            return
        if done == 0:
            self._started = time.monotonic()
        if done >= total > 0:
            click.echo(f"{self._lead()}{stage}: {time.monotonic() - self._started:.1f} s", err=True)
            self._started = time.monotonic()
        elif self._live:
            click.echo(f"{self._lead()}{stage} ... {done}/{total}", err=True, nl=False)

    def _lead(self) -> str:
        return "\r\x1b[K" if self._live else ""


def printable(text: str) -> str:
    """A name from outside, without characters that could move a terminal's cursor."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def print_json(value: Any) -> None:
    """One JSON value on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_parity(report: ParityReport) -> None:
    """The figures of a comparison as a short table."""
    rows = [
        ("reference", report.reference),
        ("clips compared", str(report.clips)),
        ("max |Δlogit|", f"{report.max_difference:.2e}  (tolerance {report.tolerance:.2e})"),
        ("mean |Δlogit|", f"{report.mean_difference:.2e}"),
        ("logit scale", f"{report.logit_scale:.3g}"),
        ("top-1 agreement", f"{report.top1_agreement:.0%}"),
        ("top-5 agreement", f"{report.top5_agreement:.0%}"),
    ]
    click.echo(f"parity: {'ok' if report.ok else 'FAILED'}")
    for name, value in rows:
        click.echo(f"  {name:<32}{value}")
    click.echo(f"controls, which must differ by more than {CONTROL_MARGIN * report.tolerance:.2e}:")
    for name, gap in report.controls.items():
        state = "AGREES" if name in report.agreeing_controls else "differs"
        click.echo(f"  {CONTROLS.get(name, name):<32}{gap:.2e}  {state}")
