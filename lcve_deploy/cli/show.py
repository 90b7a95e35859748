"""Output shared by commands: lines, notes, tables, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lcve_deploy.artifact import PublicKey, is_signed
from lcve_deploy.cli.verbosity import is_quiet
from lcve_deploy.model.parity import CONTROLS, ParityReport

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lcve_deploy.artifact import EngineRecord
    from lcve_deploy.clips import Views
    from lcve_deploy.verbs.classify import Classification
    from lcve_deploy.verbs.fastest import Selection

__all__ = [
    "print_classification",
    "print_json",
    "print_logits",
    "print_note",
    "print_parity",
    "print_signature",
    "printable",
    "say",
    "show_selection",
    "signature_state",
    "to_json_text",
    "warn",
]

_UNCHECKED: Final = "not checked"


def say(text: str) -> None:
    """Print a line about what was done; with ``--quiet``, print nothing."""
    if not is_quiet():
        click.echo(text)


def print_note(note: str) -> None:
    """Print something that the user should know about the result."""
    say(f"note: {printable(note)}")


def warn(message: str) -> None:
    """Print a warning on standard error; with ``--quiet``, print nothing."""
    if not is_quiet():
        click.echo(f"warning: {printable(message)}", err=True)


def printable(text: str) -> str:
    """Replace characters of an untrusted text that could move a terminal's cursor."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def print_json(value: Any) -> None:
    """Print a JSON value on standard output."""
    click.echo(to_json_text(value, indent=2))


def to_json_text(value: Any, *, indent: int | None = None) -> str:
    """Return JSON with letters of any script unescaped; characters that could move a terminal's cursor are escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def print_parity(report: ParityReport) -> None:
    """Print the figures of a comparison as a short table."""
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
        click.echo(f"  {name:<32}{printable(value)}")
    click.echo(f"controls, which must differ by more than {report.control_minimum:.2e}:")
    for name, gap in report.controls.items():
        state = "AGREES" if name in report.agreeing_controls else "differs"
        click.echo(f"  {printable(CONTROLS.get(name, name)):<32}{gap:.2e}  {state}")


def print_classification(classification: Classification, *, as_json: bool) -> None:
    """Print the predictions for a video. Only the JSON includes its notes, which were already shown as warnings."""
    if as_json:
        print_json(classification.to_json())
        return
    for prediction in classification.predictions:
        click.echo(f"{prediction.text(2):>7}  {printable(prediction.name)}")


def print_logits(logits: npt.NDArray[np.float32], *, views: Views, labels: str | None, top: int, as_json: bool) -> None:
    """Print logits ``[views, classes]`` in the artifact's own label order; ``labels`` is None for a server."""
    import numpy as np

    if as_json:
        print_json({"views": str(views), "labels": labels, "logits": logits.tolist()})
        return
    suffix = f", labels {labels}" if labels else ""
    click.echo(f"logits of {views} views{suffix}; the first of their mean:")
    mean = logits.mean(axis=0)
    for index in np.argsort(-mean, kind="stable")[:top]:
        click.echo(f"{mean[index]:10.4f}  position {index}")


def signature_state(server: Path, signed_by: PublicKey | None) -> str:
    """Return ``ok``, ``not checked`` or ``none`` for a server folder whose manifest was read under this pin."""
    if signed_by is not None:
        return "ok"
    return _UNCHECKED if is_signed(server) else "none"


def print_signature(state: str) -> None:
    """Print the state of the signature, if there is one."""
    if state != "none":
        hint = "; pass --signed-by to check it" if state == _UNCHECKED else ""
        click.echo(f"signature: {state}{hint}")


def show_selection(selection: Selection) -> None:
    """Print the engines that were tried, one on each line, and which one is kept."""
    for candidate in selection.candidates:
        mark = "*" if candidate.name == selection.fastest.name else " "
        result = _engine(candidate.record) if candidate.record else candidate.reason
        click.echo(f"{mark} {candidate.name}: {printable(result)}")
    if len(selection.candidates) > 1:
        click.echo(f"kept: {selection.fastest.name}")


def _engine(record: EngineRecord) -> str:
    if record.proof is None:
        return f"unproven, as it cannot run here; built for {record.target}"
    agreement = f", top-1 agreement {record.agreement.top1:.0%} of {record.agreement.clips}" if record.agreement else ""
    return (
        f"{record.proof.milliseconds:.1f} ms a clip, max |Δlogit| {record.proof.max_difference:.2e} "
        f"(budget {record.proof.budget:.2e}){agreement}"
    )
