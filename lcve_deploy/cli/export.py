"""``lcve export``: export a checkpoint as an artifact."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.checkpoint import CheckpointFacts, checkpoint_options
from lcve_deploy.cli.options.common import (
    as_json,
    key_name_option,
    key_option,
    salt_option,
    thorough_option,
    tolerance_option,
    verify_clip_option,
)
from lcve_deploy.cli.options.engine import EngineRequest, engine_options
from lcve_deploy.cli.options.frames import FrameOptions, sampling_options
from lcve_deploy.cli.options.groups import as_usage_error, value_from_options
from lcve_deploy.cli.options.signing import signing_key_option
from lcve_deploy.cli.options.types import PATH, EnumChoice
from lcve_deploy.cli.progress import StageProgress
from lcve_deploy.cli.show import print_json, print_note, print_parity, say, show_selection
from lcve_deploy.clips import Layout, Scheme
from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.labels import NAMED_LABELS, class_names
from lcve_deploy.files.reading import parse_json, read_bounded
from lcve_deploy.model.predictions import ProblemType

if TYPE_CHECKING:
    from lcve_deploy.keys.signing import SigningKey
    from lcve_deploy.verbs.export import ExportResult
    from lcve_deploy.verbs.fastest import EngineChoice

__all__ = ["command"]


@dataclass(frozen=True, kw_only=True)
class _LabelOptions:
    """Class names, the meaning of the logits, and whether the operator sees the labels."""

    class_names: tuple[str, ...] | None
    problem_type: ProblemType | None
    show_labels: bool


@dataclass(frozen=True, kw_only=True)
class _GraphOptions:
    """Options of the exported graph."""

    layout: Layout
    scheme: Scheme
    opset: int
    salt: bytes | None


def _make_labels(*, labels: Path | None, problem_type: ProblemType | None, show_labels: bool) -> _LabelOptions:
    names = _read_labels(labels) if labels else None
    return _LabelOptions(class_names=names, problem_type=problem_type, show_labels=show_labels)


class _Wire(StrEnum):
    """How clips travel."""

    RAW = "raw"
    DCT = "dct"


_SCHEMES: Final = {_Wire.RAW: Scheme.LCVE, _Wire.DCT: Scheme.DCT}


def _make_graph(*, layout: Layout, wire: _Wire, opset: int | None, salt: bytes | None) -> _GraphOptions:
    from lcve_deploy.exporters.onnx import DEFAULT_OPSET, OPSETS

    opset = opset or DEFAULT_OPSET
    if opset not in OPSETS:
        raise click.BadParameter(
            f"expected {OPSETS.start} to {OPSETS.stop - 1}, received {opset}", param_hint="--opset"
        )
    if wire is _Wire.DCT and layout is not Layout.CUBES:
        raise click.BadParameter(f"--wire dct has the layout {Layout.CUBES}, received {layout}", param_hint="--layout")
    return _GraphOptions(layout=layout, scheme=_SCHEMES[wire], opset=opset, salt=salt)


_LABELS: Final = cloup.option_group(
    "Labels",
    cloup.option(
        "--labels",
        type=PATH,
        metavar="FILE",
        help=f"Class names: a file with one name on each line, a JSON list, or {' or '.join(NAMED_LABELS)}.",
    ),
    cloup.option(
        "--problem-type",
        type=EnumChoice(ProblemType),
        metavar="TYPE",
        help=f"Meaning of the logits: {', '.join(ProblemType)}.",
    ),
    cloup.option(
        "--show-labels",
        is_flag=True,
        help="Keep the logits in the plain class order, so that the operator can read them.",
    ),
)
_GRAPH: Final = cloup.option_group(
    "Graph",
    cloup.option(
        "--layout",
        type=EnumChoice(Layout),
        default=Layout.CUBES.value,
        show_default=True,
        help="Layout of encrypted clips.",
    ),
    cloup.option(
        "--wire",
        type=EnumChoice(_Wire),
        default=_Wire.RAW.value,
        show_default=True,
        help="How clips travel: raw, every value as it is; or dct, ten to a hundred times smaller, with losses. "
        "This is compression, and not protection.",
    ),
    cloup.option("--opset", type=int, metavar="N", help="Version of the ONNX operator set."),
    salt_option,
)
_COMPARISON: Final = cloup.option_group("Comparison", verify_clip_option, tolerance_option, thorough_option)


@lcve_command(
    "lcve export --key key.bin --ckpt videomae.pth -o service --labels kinetics-400",
    "lcve export --key key.bin --ckpt MCG-NJU/videomae-base-finetuned-kinetics",
)
@key_option
@cloup.option(
    "--ckpt",
    type=PATH,
    required=True,
    metavar="FILE",
    help="Official .pth file, Hugging Face folder, or org/name[@revision] on the hub.",
)
@cloup.option("-o", "--output", type=PATH, metavar="DIR", help="Folder to create.  [default: <checkpoint stem>-lcve]")
@key_name_option
@cloup.option(
    "--embed-key",
    type=PATH,
    metavar="FILE",
    help="Also write a graph with the key's tensors inside, which runs by itself, to this .onnx outside of DIR.",
)
@signing_key_option
@as_json
@checkpoint_options
@value_from_options("labels", _make_labels, _LABELS)
@sampling_options
@value_from_options("graph", _make_graph, _GRAPH)
@_COMPARISON
@engine_options
def command(
    key_file: Path,
    ckpt: Path,
    output: Path | None,
    checkpoint: CheckpointFacts,
    labels: _LabelOptions,
    frames: FrameOptions,
    graph: _GraphOptions,
    verify_clips: tuple[Path, ...],
    tolerance: float | None,
    thorough: bool,
    engine: EngineRequest,
    key_name: str,
    embed_key: Path | None,
    signing_key: SigningKey | None,
    as_json: bool,
) -> None:
    """Export a checkpoint as an encrypted service, if its logits equal those of the plain model.

    The new folder contains server/ for the cloud operator, with the model and a key folder, and client/ for the key
    holder. Further keys are made with lcve enroll.
    """
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.export import ExportOptions, export

    key = SecurityKey.read(key_file)
    options = ExportOptions(
        checkpoint=checkpoint.options(),
        class_names=labels.class_names,
        problem_type=labels.problem_type,
        show_labels=labels.show_labels,
        layout=graph.layout,
        scheme=graph.scheme,
        opset=graph.opset,
        salt=graph.salt,
        sampling=frames.sampling,
        stride=frames.stride,
        verify_clips=verify_clips,
        tolerance=tolerance,
        thorough=thorough,
        engine=_choice(engine),
        key_name=key_name,
        embed_key=embed_key,
        signing_key=signing_key,
    )
    folder = output or Path(f"{_stem(ckpt)}-lcve")
    result = export(ckpt, folder, key=key, options=options, progress=StageProgress())
    if as_json:
        _print_json(result)
    else:
        _print(result)


def _print_json(result: ExportResult) -> None:
    assumed = [assumption.to_json() for assumption in result.assumptions]
    print_json(
        {
            "artifact": str(result.folder),
            "notes": list(result.notes),
            "assumptions": assumed,
            "parity": result.parity.to_json(),
            "engines": result.selection.to_json() if result.selection else None,
            "engine_parity": result.engine_parity.to_json() if result.engine_parity else None,
        }
    )


def _print(result: ExportResult) -> None:
    for note in result.notes:
        print_note(f"assumed {note}")
    print_parity(result.parity)
    if result.selection:
        show_selection(result.selection)
    if result.engine_parity:
        click.echo("the engine, compared with the plain model:")
        print_parity(result.engine_parity)
    say(f"artifact: {result.folder}  (server/ for the operator, client/ for the key holder)")


def _choice(engine: EngineRequest) -> EngineChoice | None:
    from lcve_deploy.verbs.build import BuildOptions

    if not engine.is_requested:
        if engine.budget is not None:
            raise click.UsageError("--budget is for an engine and needs --runtime; for the graph, use --tolerance")
        return None
    with as_usage_error():
        return engine.choice(BuildOptions(budget=engine.budget))


def _stem(checkpoint: Path) -> str:
    from lcve_deploy.exporters.checkpoints.hub import HubId

    hub_id = None if checkpoint.exists() else HubId.parse(str(checkpoint))
    if hub_id:
        return hub_id.name.partition("/")[2]
    return Path(os.path.abspath(checkpoint)).name if checkpoint.is_dir() else checkpoint.stem  # noqa: PTH100 (keeps links)


def _read_labels(path: Path) -> tuple[str, ...]:
    """Read class names from a file, or take those of a data set if there is no such file."""
    if str(path) in NAMED_LABELS and not path.exists():
        return class_names(str(path))
    try:
        data = read_bounded(path, "class names", CheckpointError)
        names = parse_json(data) if path.suffix == ".json" else data.decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError:  # its message would quote a byte, and the file may be a key
        raise click.BadParameter(f"{path} is not text in UTF-8", param_hint="--labels") from None
    except (OSError, ValueError) as error:
        known = f"; built-in names: {', '.join(NAMED_LABELS)}" if isinstance(error, FileNotFoundError) else ""
        raise click.BadParameter(f"{path} cannot be read: {error}{known}", param_hint="--labels") from None
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise click.BadParameter(f"{path}: expected one name a line, or a JSON list of names", param_hint="--labels")
    return tuple(name.strip() for name in names)
