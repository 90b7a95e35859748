"""``lcve export``: checkpoint to artifact."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lcve_deploy.cli.options import (
    FASTEST,
    AnyPath,
    as_json,
    checkpoint_options,
    engine_options,
    key_option,
    salt_option,
    sampling_options,
    signing_key_option,
    to_checkpoint_options,
    to_engine_choice,
    tolerance_option,
    verify_clip_option,
)
from lcve_deploy.cli.show import StageProgress, print_json, print_parity, printable, show_selection
from lcve_deploy.clips import Layout
from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.labels import NAMED_LABELS, class_names
from lcve_deploy.files.reading import parse_json, read_bounded
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.preprocess import Sampling

if TYPE_CHECKING:
    from lcve_deploy.verbs.fastest import EngineChoice

__all__ = ["command"]

_CHECKPOINT: Final = "Official .pth file, Hugging Face folder, or org/name[@revision] on the hub."


@click.command()
@key_option
@click.option("--ckpt", "checkpoint", type=AnyPath, required=True, help=_CHECKPOINT)
@click.option("-o", "--output", type=AnyPath, help="Folder to make.  [default: <checkpoint stem>-lcve]")
@checkpoint_options
@click.option(
    "--labels",
    type=AnyPath,
    help=f"Class names: a file with one name on each line, a JSON list, or {' or '.join(NAMED_LABELS)}.",
)
@click.option("--problem-type", type=click.Choice([x.value for x in ProblemType]), help="What the logits are.")
@click.option("--show-labels", is_flag=True, help="Let the operator see which logit is which class.")
@click.option("--layout", type=click.Choice([x.value for x in Layout]), default="cubes", show_default=True)
@click.option("--opset", type=int, help="Version of the ONNX operators.")
@salt_option
@sampling_options
@verify_clip_option
@tolerance_option
@engine_options
@signing_key_option
@as_json
def command(**given: Any) -> None:
    """Export a checkpoint as an encrypted service, once its logits are proven equal.

    The folder gets two sides: server/ for the cloud operator, client/ for the holder of the key.
    """
    from lcve_deploy.keys.secret import SecurityKey

    key = SecurityKey.read(given["key_file"])
    checkpoint: Path = given["checkpoint"]
    output = given["output"] or Path(f"{_stem(checkpoint)}-lcve")
    result = _export(checkpoint, output, key, given)
    if given["as_json"]:
        engines = result.selection.to_json() if result.selection else None
        parity = result.parity.to_json()
        own = result.engine_parity.to_json() if result.engine_parity else None
        assumed = [asdict(assumption) for assumption in result.assumptions]
        about = {"artifact": str(result.folder), "notes": list(result.notes), "assumptions": assumed}
        print_json({**about, "parity": parity, "engines": engines, "engine_parity": own})
        return
    for note in result.notes:
        click.echo(f"note: assumed {printable(note)}")
    print_parity(result.parity)
    if result.selection:
        show_selection(result.selection)
    if result.engine_parity:
        click.echo("the engine against the plain model:")
        print_parity(result.engine_parity)
    click.echo(f"artifact: {result.folder}  (server/ for the operator, client/ for the key holder)")


def _export(checkpoint: Path, output: Path, key: Any, given: dict[str, Any]) -> Any:
    from lcve_deploy.exporters.onnx import DEFAULT_OPSET, OPSETS
    from lcve_deploy.verbs.export import ExportOptions, export

    opset = given["opset"] or DEFAULT_OPSET
    if opset not in OPSETS:
        raise click.BadParameter(
            f"expected {OPSETS.start} to {OPSETS.stop - 1}, received {opset}", param_hint="--opset"
        )
    options = ExportOptions(
        checkpoint=to_checkpoint_options(given),
        class_names=_read_labels(given["labels"]) if given["labels"] else None,
        problem_type=ProblemType(given["problem_type"]) if given["problem_type"] else None,
        show_labels=given["show_labels"],
        layout=Layout(given["layout"]),
        opset=opset,
        salt=given["salt"],
        sampling=Sampling(given["sampling"]) if given["sampling"] else None,
        stride=given["stride"],
        verify_clips=given["verify_clips"],
        tolerance=given["tolerance"],
        engine=_engine(given),
        signing_key=given["signing_key"],
    )
    return export(checkpoint, output, key=key, options=options, progress=StageProgress())


def _engine(given: dict[str, Any]) -> EngineChoice | None:
    from lcve_deploy.verbs.build import BuildOptions

    if given["engine"] is None and given["precision"] == "fp32":
        if given["budget"] is not None:
            raise click.UsageError("--budget is for an engine: give --engine as well; the graph has --tolerance")
        return None
    try:
        options = BuildOptions(budget=given["budget"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return to_engine_choice({**given, "engine": given["engine"] or FASTEST}, options)


def _stem(checkpoint: Path) -> str:
    from lcve_deploy.exporters.checkpoints.hub import HubId

    hub_id = None if checkpoint.exists() else HubId.parse(str(checkpoint))
    if hub_id:
        return hub_id.name.partition("/")[2]
    return Path(os.path.abspath(checkpoint)).name if checkpoint.is_dir() else checkpoint.stem  # noqa: PTH100 (keeps links)


def _read_labels(path: Path) -> tuple[str, ...]:
    """The names in a file, or those of a data set if there is no such file."""
    if str(path) in NAMED_LABELS and not path.exists():
        return class_names(str(path))
    try:
        data = read_bounded(path, "class names", CheckpointError)
        names = parse_json(data) if path.suffix == ".json" else data.decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError:  # which would quote a byte, and the file may be a key
        raise click.BadParameter(f"{path} is no text in UTF-8", param_hint="--labels") from None
    except (OSError, ValueError) as error:
        known = f"; built-in names: {', '.join(NAMED_LABELS)}" if isinstance(error, FileNotFoundError) else ""
        raise click.BadParameter(f"{path} cannot be read: {error}{known}", param_hint="--labels") from None
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise click.BadParameter(f"{path}: expected one name a line, or a JSON list of names", param_hint="--labels")
    return tuple(name.strip() for name in names)
