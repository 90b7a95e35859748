"""Output shared by commands: lines, notes, tables, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lcve_deploy.artifact import PublicKey, is_signed
from lcve_deploy.cli.pipes import write_to
from lcve_deploy.cli.verbosity import is_quiet
from lcve_deploy.model.output import OutputKind
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
    "write_output",
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
    value = "value" if report.min_cosine is not None else "logit"
    rows = [
        ("reference", report.reference),
        ("clips compared", str(report.clips)),
        (f"max |Δ{value}|", f"{report.max_difference:.2e}  (tolerance {report.tolerance:.2e})"),
        (f"mean |Δ{value}|", f"{report.mean_difference:.2e}"),
        (f"{value} scale", f"{report.logit_scale:.3g}"),
        *((name, f"{share:.0%}") for name, share in _top_agreements(report) if share is not None),
    ]
    if report.min_cosine is not None:
        rows.append(("min cosine similarity", f"{report.min_cosine:.9f}"))
    click.echo(f"parity: {'ok' if report.ok else 'FAILED'}")
    for name, value in rows:
        click.echo(f"  {name:<32}{printable(value)}")
    click.echo(f"controls, which must differ by more than {report.control_minimum:.2e}:")
    for name, gap in report.controls.items():
        state = "AGREES" if name in report.agreeing_controls else "differs"
        click.echo(f"  {printable(CONTROLS.get(name, name)):<32}{gap:.2e}  {state}")


def _top_agreements(report: ParityReport) -> tuple[tuple[str, float | None], ...]:
    return ("top-1 agreement", report.top1_agreement), ("top-5 agreement", report.top5_agreement)


def print_classification(classification: Classification, *, as_json: bool) -> None:
    """Print the predictions for a video. Only the JSON includes its notes, which were already shown as warnings."""
    if as_json:
        print_json(classification.to_json())
        return
    for prediction in classification.predictions:
        click.echo(f"{prediction.text(2):>7}  {printable(prediction.name)}")
    for line in _LINES.get(classification.output, _no_lines)(classification):
        click.echo(line)


def _no_lines(classification: Classification) -> Iterable[str]:
    return ()


def _feature_lines(classification: Classification) -> Iterable[str]:
    """Describe the vector of each view."""
    width = classification.logits.shape[-1]
    for view, norm in enumerate(classification.norms()):
        yield f"features of view {view}: {width} values, length {norm:.6g}"


def _token_lines(classification: Classification) -> Iterable[str]:
    """Describe the tokens of the views."""
    views, tokens, width = classification.logits.shape
    grid = classification.token_grid().shape[1:-1]
    prefix = tokens - math.prod(grid)
    cubes = " x ".join(map(str, grid))
    rows = f"{tokens} rows of {width} values, for {prefix} prefix tokens and {cubes} cubes"
    yield f"{classification.output} of {views} views: {rows}"


def _token_class_lines(classification: Classification) -> Iterable[str]:
    """Describe the tokens of the views, and the share of each class that has any."""
    yield from _token_lines(classification)
    for name, share in classification.class_shares().items():
        if share:
            yield f"{share:7.2%}  of the cubes: {printable(name)}"


_LINES: Final[Mapping[str, Callable[[Classification], Iterable[str]]]] = {
    OutputKind.FEATURES: _feature_lines,
    OutputKind.TOKENS: _token_lines,
    OutputKind.TOKEN_LOGITS: _token_class_lines,
}
"""What is printed of an output that has no predictions."""


def print_logits(logits: npt.NDArray[np.float32], *, views: Views, labels: str | None, top: int, as_json: bool) -> None:
    """Print logits ``[views, classes]`` in the artifact's own label order; ``labels`` is None for a server."""
    import numpy as np

    if as_json:
        print_json({"views": str(views), "labels": labels, "logits": logits.tolist()})
        return
    if logits.ndim > 2:
        click.echo(f"rows of tokens, in the order of the key: {' x '.join(map(str, logits.shape))} values")
        return
    suffix = f", labels {labels}" if labels else ""
    click.echo(f"logits of {views} views{suffix}; the first of their mean:")
    mean = logits.mean(axis=0)
    for index in np.argsort(-mean, kind="stable")[:top]:
        click.echo(f"{mean[index]:10.4f}  position {index}")


def write_output(path: Path | None, values: npt.NDArray[np.floating]) -> None:
    """Write an output as float32: ``[classes]`` for one view, ``[views, classes]`` otherwise, or the other's axes."""
    import numpy as np

    if path is not None:
        output = np.asarray(values[0] if len(values) == 1 else values, dtype=np.float32)
        write_to(path, lambda file: np.save(file, output, allow_pickle=False))


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
    found = record.agreement
    agreement = f", top-1 agreement {found.top1:.0%} of {found.clips}" if found and found.top1 is not None else ""
    return (
        f"{record.proof.milliseconds:.1f} ms a clip, max |Δlogit| {record.proof.max_difference:.2e} "
        f"(budget {record.proof.budget:.2e}){agreement}"
    )
