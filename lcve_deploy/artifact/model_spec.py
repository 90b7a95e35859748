"""Clips, keyed tensors and output of a model, as a graph has them and as a manifest states them.

Source: format of scheme ``lcve-1``, sections 4.1 and 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lcve_deploy.artifact.names import BANK_PREFIX, INPUT, PACKED_INPUT, STEP_INPUT
from lcve_deploy.artifact.record import Record
from lcve_deploy.clips import Binding, KeyRef, Layout, Scheme
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.keyed import BY_TOKEN, KEYED_TENSORS
from lcve_deploy.model.output import ModelOutput, OutputKind

__all__ = [
    "MAX_PREFIX",
    "ModelSpec",
    "TensorSpec",
    "bank_problems",
    "clip_specs",
    "output_problems",
    "output_spec",
    "read_tensor",
    "request_spec",
    "result_of",
]

MAX_PREFIX: Final = 2**12
"""Maximum tokens before the cubes in an output with a row for each token."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """Input or output of a graph.

    Args:
        name: name in the graph.
        dtype: NumPy name of the dtype, such as ``uint8``.
        shape: sizes of the axes; None stands for the batch or, in the bank, for the number of keys.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Clips, keyed tensors and output of a model: all that a session needs to know about it.

    Args:
        scheme: id of the encryption scheme.
        geometry: clip and cube size.
        layout: layout of encrypted clips.
        input: encrypted clips, uint8 ``[batch, N, L]`` or ``[batch, T, H, W, C]``; of ``lcve-dct-1``, integers in
            float16 ``[batch, N, L]``.
        bank: inputs with the keyed tensors of all keys, ``[keys, ...]``.
        output: float32 ``[batch, ...]``, named and shaped as in ``ModelOutput``.
    """

    scheme: str
    geometry: ClipGeometry
    layout: Layout
    input: TensorSpec
    bank: tuple[TensorSpec, ...]
    output: TensorSpec

    def binding_of(self, key: KeyRef) -> Binding:
        """Return the binding of this model's clips under a key."""
        return Binding(scheme=self.scheme, key_id=key.key_id, salt=key.salt, geometry=self.geometry, layout=self.layout)

    def require(self, binding: Binding, *, here: str, there: str) -> None:
        """Check that clips or a key are made for models like this one, under whatever key.

        Args:
            binding: of the clips or of the key.
            here: what this model is called in the message.
            there: what has the binding, for the message.

        Raises:
            MismatchError: scheme, geometry or layout differ; the message lists all differences.
        """
        self.binding_of(binding.key).require(binding, here=here, there=there)

    @property
    def packed(self) -> bool:
        """Whether clips are records, and travel packed."""
        return self.scheme == Scheme.DCT

    @property
    def clip_inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs that differ from clip to clip: the clips, and in the scheme ``lcve-dct-1`` their steps."""
        return (self.input, *clip_specs(self.scheme, self.geometry, self.layout)[1:])

    @property
    def request_input(self) -> TensorSpec:
        """Input of a request to a server: the clips, or packed clips, uint8 ``[bytes]``."""
        return request_spec(self.scheme, self.geometry, self.layout)

    @property
    def result(self) -> ModelOutput:
        """What the model answers for a clip."""
        return result_of(self.output)

    @property
    def classes(self) -> int:
        """Length of the last axis of the output: the number of classes if there are labels."""
        return int(self.output.shape[-1] or 0)


def clip_specs(scheme: str, geometry: ClipGeometry, layout: Layout) -> tuple[TensorSpec, ...]:
    """Return the graph's inputs of encrypted clips: the clips, and in the scheme ``lcve-dct-1`` their steps."""
    shape = (None, *layout.shape(geometry))
    if scheme != Scheme.DCT:
        return (TensorSpec(name=INPUT, dtype="uint8", shape=shape),)
    step = TensorSpec(name=STEP_INPUT, dtype="float32", shape=(None,))
    return TensorSpec(name=INPUT, dtype="float16", shape=shape), step


def request_spec(scheme: str, geometry: ClipGeometry, layout: Layout) -> TensorSpec:
    """Return the input of a request to a server."""
    if scheme == Scheme.DCT:
        return TensorSpec(name=PACKED_INPUT, dtype="uint8", shape=(None,))
    return clip_specs(scheme, geometry, layout)[0]


def output_spec(output: ModelOutput) -> TensorSpec:
    """Return the output of a graph for any number of clips."""
    return TensorSpec(name=output.kind.value, dtype="float32", shape=(None, *output.shape))


def result_of(spec: TensorSpec) -> ModelOutput:
    """Return what the output of a graph is for one clip; the inverse of ``output_spec``.

    Raises:
        ValueError: the output is not one of a model.
    """
    kind = OutputKind.parse(spec.name)
    sizes = tuple(size for size in spec.shape[1:] if size is not None)
    fits = spec.shape[:1] == (None,) and len(sizes) == len(spec.shape) - 1 == 1 + kind.has_tokens
    if not fits or spec.dtype != "float32":
        raise ValueError(f"expected float32 [null, {kind.axes}], received {spec.dtype} {list(spec.shape)}")
    return ModelOutput(kind=kind, shape=sizes)


def read_tensor(record: Record) -> TensorSpec:
    """Read an input or output of a graph."""
    shape = record.items("shape")
    sizes = tuple(size if type(size) is int and size > 0 else None for size in shape)
    if sizes != tuple(shape):
        record.note("shape", "sizes, and null for the batch", shape)
    return TensorSpec(name=record.text("name"), dtype=record.text("dtype"), shape=sizes)


def output_problems(spec: TensorSpec, geometry: ClipGeometry) -> list[str]:
    """Explain what is wrong with the output of a graph."""
    try:
        output = result_of(spec)
    except ValueError as error:
        return [str(error)]
    prefix = output.shape[0] - geometry.cubes
    if output.kind.has_tokens and not 0 <= prefix <= MAX_PREFIX:
        return [f"expected {geometry.cubes} to {geometry.cubes + MAX_PREFIX} tokens, received {output.shape[0]}"]
    return []


def bank_problems(bank: tuple[TensorSpec, ...]) -> list[str]:
    """Explain what is wrong with the list of keyed tensors."""
    names = [spec.name for spec in bank]
    known = {f"{BANK_PREFIX}{keyed.name}": keyed for keyed in KEYED_TENSORS}
    needed = [name for name, keyed in known.items() if keyed.required]
    needed += [f"{BANK_PREFIX}{keyed.needs}" for name, keyed in known.items() if keyed.needs and name in names]
    problems = [f"{name} is missing" for name in needed if name not in names]
    if not any(keyed.by in BY_TOKEN for name, keyed in known.items() if name in names):
        positions = [name for name, keyed in known.items() if keyed.by in BY_TOKEN]
        problems.append(f"positions are missing: expected one of {', '.join(positions)}")
    if names != [name for name in known if name in names]:
        problems.append(f"expected names from {', '.join(known)}, in this order, received {', '.join(names)[:200]}")
    for spec in bank:
        dtype = known[spec.name].dtype if spec.name in known else "float32"
        if spec.dtype != dtype or not spec.shape or spec.shape[0] is not None or None in spec.shape[1:]:
            problems.append(
                f"{spec.name}: expected {dtype} with null for the keys and sizes for all other axes, received "
                f"{spec.dtype} {list(spec.shape)}"
            )
    return problems
