"""Record how a checkpoint was read, as options of the command line, and read it in the same way again."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lcve_deploy.artifact.digests import sha256_of
from lcve_deploy.errors import CheckpointError, MismatchError
from lcve_deploy.exporters.checkpoints.families import Family
from lcve_deploy.exporters.checkpoints.hub import HubId
from lcve_deploy.exporters.checkpoints.options import CheckpointOptions, ReadoutChoice, normalisation_arguments
from lcve_deploy.exporters.checkpoints.outputs import OutputChoice
from lcve_deploy.model.checkpoint_record import CheckpointForm, CheckpointRecord
from lcve_deploy.model.transformer import Normalisation

if TYPE_CHECKING:
    from lcve_deploy.exporters.checkpoints.load import Checkpoint

__all__ = ["CLASS_VECTORS", "arguments_of", "form_of", "record_of", "shown", "with_recorded"]

CLASS_VECTORS: Final = "--class-vectors"

_FIELDS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "--num-heads": ("heads", int),
    "--frames": ("frames", int),
    "--size": ("size", int),
    "--short-side": ("short_side", int),
    "--family": ("family", Family),
    "--readout": ("readout", ReadoutChoice),
    "--weights": ("weights", str),
    "--output-kind": ("output", OutputChoice),
}
"""Field of ``CheckpointOptions`` of each option, and how its value is read."""
_NORMALISATION: Final = ("--mean", "--std")
_KNOWN: Final = frozenset({*_FIELDS, *_NORMALISATION, CLASS_VECTORS})


def form_of(path: Path) -> CheckpointForm:
    """Return the form of a checkpoint; a model on a hub is a folder."""
    is_folder = path.is_dir() or (not path.exists() and HubId.parse(str(path)) is not None)
    return CheckpointForm.FOLDER if is_folder else CheckpointForm.FILE


def record_of(loaded: Checkpoint, options: CheckpointOptions) -> CheckpointRecord:
    """Return the record of a checkpoint that was read with these options: they, and what was assumed."""
    assumed: dict[str, str] = {}
    for assumption in loaded.assumptions:
        assumed |= assumption.arguments
    return CheckpointRecord(form=form_of(loaded.path), options={**assumed, **arguments_of(options)})


def arguments_of(options: CheckpointOptions) -> dict[str, str]:
    """Return options as they are written on the command line; of class vectors, the SHA-256 of the file."""
    values = {name: getattr(options, field) for name, (field, _) in _FIELDS.items()}
    arguments = {name: str(value) for name, value in values.items() if value is not None}
    if options.normalisation is not None:
        arguments |= normalisation_arguments(options.normalisation)
    if options.class_vectors is not None and options.class_vectors.is_file():
        arguments[CLASS_VECTORS] = sha256_of(options.class_vectors)
    return arguments


def shown(arguments: Mapping[str, str]) -> str:
    """Return options and values as they are typed."""
    return " ".join(f"{name} {shlex.quote(value)}" for name, value in arguments.items())


def with_recorded(options: CheckpointOptions, recorded: Mapping[str, str]) -> CheckpointOptions:
    """Return options with those of a record in addition.

    Args:
        options: options that were given.
        recorded: options and values of an export.

    Raises:
        MismatchError: a given option has another value than at the export.
        CheckpointError: class vectors were given at the export and are not given now; or the record is invalid.
    """
    given = arguments_of(options)
    differ = [name for name, value in given.items() if recorded.get(name, value) != value]
    if differ:
        raise MismatchError(
            f"expected the options of the export, {shown({name: recorded[name] for name in differ})}, received "
            f"{shown({name: given[name] for name in differ})}",
            hint=f"leave {', '.join(differ)} out, or pass the artifact of an export with these options",
        )
    if CLASS_VECTORS in recorded and options.class_vectors is None:
        raise CheckpointError(
            "expected the class vectors that the artifact was exported with, received none",
            hint=f"pass their file, which has the SHA-256 {recorded[CLASS_VECTORS]}: {CLASS_VECTORS} FILE",
        )
    return dataclasses.replace(options, **_parsed({**recorded, **given}))


def _parsed(arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of ``CheckpointOptions``, without the class vectors, that options state.

    Raises:
        CheckpointError: an option is unknown, or its value is invalid.
    """
    unknown = sorted(set(arguments) - _KNOWN)
    if unknown or len([name for name in _NORMALISATION if name in arguments]) == 1:
        raise CheckpointError(
            f"expected options of {', '.join(sorted(_KNOWN))}, with --mean and --std together, in the record of the "
            f"export, received {', '.join(arguments)[:200]}",
            hint="use the version of lcve-deploy that made the artifact, or a later one",
        )
    try:
        fields = {field: parse(arguments[name]) for name, (field, parse) in _FIELDS.items() if name in arguments}
        if "--mean" in arguments:
            mean, std = (tuple(map(float, arguments[name].split(","))) for name in _NORMALISATION)
            fields["normalisation"] = Normalisation(mean=mean, std=std)
    except ValueError as error:
        raise CheckpointError(f"the record of the export has an invalid option: {error}") from None
    return fields
