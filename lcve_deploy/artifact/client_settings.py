"""Read and write ``client/client.json``: what the key holder needs in addition to the key.

Source: format of scheme ``lcve-1``, section "Artifact folder".
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.artifact.manifest import FORMAT, binding_to_json, check_format, read_binding
from lcve_deploy.artifact.model_spec import output_problems, output_spec, read_tensor, result_of
from lcve_deploy.artifact.record import Record, read_json
from lcve_deploy.clips import Binding
from lcve_deploy.errors import ArtifactError
from lcve_deploy.model.assumptions import Assumption, Fact
from lcve_deploy.model.checkpoint_record import CheckpointForm, CheckpointRecord
from lcve_deploy.model.output import ModelOutput, OutputKind
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.preprocess import Preprocess, Resample, Rounding, Sampling

__all__ = ["ClientFile", "ClientSettings", "parse_client", "read_client", "write_client"]

_NAME: Final = "client.json"
_SOURCE: Final = r"[\w.-]{1,96}/[\w.-]{1,96}@[0-9a-f]{40}"


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """Settings that the key holder needs to encrypt clips and to read logits.

    Args:
        binding: scheme, key, salt, geometry and layout that clips are encrypted for.
        classes: class names in the plain order of the logits; empty for features and tokens, which have no classes.
        problem_type: meaning of the logits.
        labels: ``hidden`` if the server's logits are in the secret order K3, ``shown`` if they are in the plain order.
        preprocess: how clips are made from a video.
        source: origin of the model as ``org/name@commit`` on a hub; None if it came from elsewhere.
        assumptions: facts that the export assumed because the checkpoint does not state them.
        output: what the model answers; None stands for the logits of the classes.
        checkpoint: how the export read the checkpoint; None if an older version made the artifact.

    Raises:
        ValueError: the output does not have one value for each class.
    """

    binding: Binding
    classes: tuple[str, ...]
    problem_type: ProblemType
    labels: str
    preprocess: Preprocess
    source: str | None = None
    assumptions: tuple[Assumption, ...] = ()
    output: ModelOutput | None = None
    checkpoint: CheckpointRecord | None = None

    def __post_init__(self) -> None:
        expected = self.answer.width if self.answer.kind.has_labels else 0
        if len(self.classes) != expected:
            raise ValueError(f"expected {expected} classes for {self.answer}, received {len(self.classes)}")

    @property
    def answer(self) -> ModelOutput:
        """What the model answers."""
        return self.output or ModelOutput.logits(len(self.classes))

    @property
    def hidden_classes(self) -> int | None:
        """Number of classes that K3 orders; None if the labels are shown, or if there are none."""
        return len(self.classes) if self.labels == "hidden" else None


@dataclass(frozen=True, kw_only=True)
class ClientFile:
    """Content of ``client.json``.

    Args:
        settings: all fields except the digest.
        manifest_sha256: SHA-256 of the model's manifest, 64 hex digits; the model may have any number of keys.
    """

    settings: ClientSettings
    manifest_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, in the order of the format."""
        settings = self.settings
        return {
            "format": FORMAT,
            **binding_to_json(settings.binding),
            "classes": list(settings.classes),
            "problem_type": settings.problem_type.value,
            "labels": settings.labels,
            "output": dataclasses.asdict(output_spec(settings.answer)),
            "preprocess": dataclasses.asdict(settings.preprocess),
            "manifest_sha256": self.manifest_sha256,
            "source": settings.source,
            "assumptions": [assumption.to_json() for assumption in settings.assumptions],
            "checkpoint": dataclasses.asdict(settings.checkpoint) if settings.checkpoint else None,
        }


def write_client(folder: Path, content: ClientFile) -> None:
    """Write ``client.json`` into a client folder that is being staged."""
    text = json.dumps(content.to_json(), indent=2, ensure_ascii=False) + "\n"
    (folder / _NAME).write_text(text, encoding="utf-8")


def read_client(folder: Path) -> ClientFile:
    """Read and check ``client.json``.

    Raises:
        ArtifactError: the file is missing or invalid. The message lists all problems.
    """
    return parse_client(read_json(folder / _NAME), folder / _NAME)


def parse_client(record: Record, path: Path, *, number: int = FORMAT) -> ClientFile:
    """Check the top-level object of ``client.json``.

    Args:
        record: the object.
        path: file that it was read from, for messages.
        number: version of the format, 1 or 2; the fields are the same.

    Raises:
        ArtifactError: a field is missing or invalid. The message lists all problems.
    """
    check_format(record, number=number)
    binding = read_binding(record)
    preprocess = _preprocess(record.record("preprocess"))
    classes = record.items("classes")
    output = _output(record, len(classes), binding)
    has_labels = output is None or output.kind.has_labels
    if bool(classes) != has_labels or not all(isinstance(name, str) for name in classes):
        record.note("classes", "a list of names" if has_labels else f"no names for {output}", classes)
    problem_type = _problem_type(record, len(classes) if has_labels else None)
    labels = record.text("labels", "hidden|shown" if has_labels else "shown")
    digest = record.text("manifest_sha256", "[0-9a-f]{64}")
    source = record.text("source", _SOURCE) if record.has("source") else None
    assumptions = _assumptions(record)
    checkpoint = _checkpoint(record.record("checkpoint")) if record.has("checkpoint") else None
    if binding and preprocess and (preprocess.frames, *preprocess.crop) != binding.geometry.clip_shape[:3]:
        record.problems.append(f"preprocess: does not produce clips of {binding.geometry}")
    record.finish(path)
    if binding is None or preprocess is None or problem_type is None:
        raise ArtifactError(f"{path} is invalid")
    settings = ClientSettings(
        binding=binding,
        classes=tuple(classes),
        problem_type=problem_type,
        labels=labels,
        preprocess=preprocess,
        source=source,
        assumptions=assumptions,
        output=None if output and output.kind is OutputKind.LOGITS else output,
        checkpoint=checkpoint,
    )
    return ClientFile(settings=settings, manifest_sha256=digest)


def _assumptions(record: Record) -> tuple[Assumption, ...]:
    assumptions = []
    for index, value in enumerate(record.items("assumptions")):
        entry = Record(value, f"assumptions[{index}]", record.problems)
        fact, text, option = entry.parsed("fact", Fact), entry.text("value"), entry.text("option")
        if fact is not None:
            assumptions.append(Assumption(fact=fact, value=text, option=option))
    return tuple(assumptions)


def _checkpoint(record: Record) -> CheckpointRecord | None:
    form, options = record.parsed("form", CheckpointForm), record.record("options")
    texts = {name: options.text(name) for name in options.names()}
    return CheckpointRecord(form=form, options=texts) if form else None


def _output(record: Record, classes: int, binding: Binding | None) -> ModelOutput | None:
    """Read what the model answers; None if the file does not state it, as format 1, or states something invalid."""
    if not record.has("output"):
        return None
    spec = read_tensor(record.record("output"))
    problems = output_problems(spec, binding.geometry) if binding else []
    record.problems.extend(f"output: {problem}" for problem in problems)
    if problems or binding is None:
        return None
    output = result_of(spec)
    if output.kind.has_labels and output.width != classes:
        record.problems.append(f"output: {classes} classes do not belong to {output}")
    return output


def _problem_type(record: Record, classes: int | None) -> ProblemType | None:
    """Read the problem type; ``classes`` is None if the output has none."""
    problem_type = record.parsed("problem_type", ProblemType)
    try:
        if problem_type is not None and classes is not None:
            problem_type.check_outputs(classes)
    except ValueError as error:
        record.problems.append(f"problem_type: {error}")
    return problem_type


def _preprocess(record: Record) -> Preprocess | None:
    frames, stride = record.integer("frames"), record.integer("stride")
    sampling, resample = record.parsed("sampling", Sampling), record.parsed("resample", Resample)
    rounding, order = record.parsed("crop_rounding", Rounding), record.text("channel_order")
    short_side = record.integer("short_side") if record.has("short_side") else None
    size = _sides(record, "size") if record.has("size") else None
    crop = _sides(record, "crop")
    if record.problems or crop is None or sampling is None or resample is None or rounding is None:
        return None
    try:
        return Preprocess(
            frames=frames,
            stride=stride,
            sampling=sampling,
            short_side=short_side,
            size=size,
            resample=resample,
            crop=crop,
            crop_rounding=rounding,
            channel_order=order,
        )
    except ValueError as error:
        record.problems.append(f"preprocess: {error}")
        return None


def _sides(record: Record, name: str) -> tuple[int, int] | None:
    sides = record.items(name)
    if len(sides) != 2 or not all(type(side) is int for side in sides):
        record.note(name, "[height, width]", sides)
        return None
    return sides[0], sides[1]
