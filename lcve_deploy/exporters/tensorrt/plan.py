"""Build a plan, the file of a TensorRT engine, from a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.artifact import ModelSpec, TensorSpec
from lcve_deploy.artifact.graph_files import GraphSource
from lcve_deploy.errors import BuildError
from lcve_deploy.exporters.bank import first_axis, input_specs
from lcve_deploy.exporters.tensorrt.options import PlanOptions, set_options
from lcve_deploy.exporters.tensorrt.parse import ParsedGraph, parse_graph
from lcve_deploy.exporters.tensorrt.timing import read_timing_cache, write_timing_cache
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.libraries.tensorrt import TENSORRT, TensorRT, buildable_capabilities
from lcve_deploy.progress import Progress, silent, step

__all__ = ["BuiltPlan", "build_plan"]

_MEMORY_HINT: Final = "use a smaller maximum batch, a larger workspace, or a GPU with more free memory"


@dataclass(frozen=True, kw_only=True)
class BuiltPlan:
    """Facts about a plan for its record.

    Args:
        builder: version of the library, by its kind.
        target: hardware that the plan can run on.
        options: options that are not at their default, as text.
    """

    builder: Mapping[str, str]
    target: str
    options: Mapping[str, str]


def build_plan(
    model: GraphSource,
    target: Path,
    *,
    spec: ModelSpec,
    library: TensorRT,
    options: PlanOptions | None = None,
    progress: Progress = silent,
) -> BuiltPlan:
    """Build an engine and write its plan, without a key.

    ``tensorrt`` builds for the GPU of the machine. ``tensorrt_rtx`` builds ahead of time and needs no GPU, unless the
    engine is stripped.

    Args:
        model: graph that has been read, or ONNX file with its external data next to it; its types determine the
            precision.
        target: file to write, in a folder that is being staged.
        spec: inputs and output of the graph, as stated in the manifest.
        library: library that builds the engine.
        options: options of the build.
        progress: called for every step.

    Raises:
        BuildError: the graph is invalid (see ``check_graph``), the library does not support an option, a required GPU
            is missing, the timing cache is invalid, or the build fails. No plan is written.
        MissingDependencyError: onnx-ir is not installed.
        WriteError: the timing cache cannot be written.
    """
    options = options or PlanOptions()
    _require_gpu(library, options)
    with step(progress, "parsing the graph"):
        parsed = parse_graph(model, spec=spec, library=library)
        config = parsed.builder.create_builder_config()
        set_options(config, options, library)
        _set_profile(parsed, config, spec, options, library)
        cache = read_timing_cache(config, options.timing_cache, library)
    with step(progress, "building the engine"):
        plan = _build(parsed, config, library)
        if options.timing_cache and cache is not None:
            write_timing_cache(cache, options.timing_cache)
        with target.open("wb") as file:
            file.write(plan)
    return BuiltPlan(
        builder={library.kind: library.version}, target=_target(library, options), options=options.to_text()
    )


def _require_gpu(library: TensorRT, options: PlanOptions) -> None:
    gpu, known = find_gpu(), buildable_capabilities(library)
    if gpu is not None and options.needs_gpu and known and gpu.capability not in known:
        raise BuildError(
            f"{library} needs a GPU that it has kernels for to build stripped engines, expected one of "
            f"compute capability {', '.join(known)}, found {gpu}",
            hint="build on such a GPU, use TensorRT, or build an engine with its weights",
        )
    if gpu is not None:
        return
    if library.kind == TENSORRT:
        raise BuildError(
            f"{library} builds engines only for the GPU of the machine, and no NVIDIA GPU with its driver was found",
            hint="build on the machine that will run the engine; tensorrt-rtx builds ahead of time without a GPU",
        )
    if options.needs_gpu:
        raise BuildError(
            f"{library} needs a GPU to build stripped engines, and no NVIDIA GPU with its driver was found",
            hint="build on a machine with a GPU, or build an engine with its weights here",
        )


def _set_profile(parsed: ParsedGraph, config: Any, spec: ModelSpec, options: PlanOptions, library: TensorRT) -> None:
    profile = parsed.builder.create_optimization_profile()
    for tensor in input_specs(spec):
        profile.set_shape(tensor.name, *_shapes(tensor, options))
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(
            f"{library} refuses batches of {options.profile} and 1 to {options.max_keys} keys: {library.log.quote()}"
        )


def _shapes(tensor: TensorSpec, options: PlanOptions) -> list[tuple[int | None, ...]]:
    """Return the minimum, optimum and maximum shape of an input."""
    sizes = options.profile
    batches = (sizes.minimum, sizes.optimum, sizes.maximum)
    keys = (1, min(sizes.optimum, options.max_keys), options.max_keys)
    return [(size, *tensor.shape[1:]) for size in (keys if first_axis(tensor) == "keys" else batches)]


def _build(parsed: ParsedGraph, config: Any, library: TensorRT) -> Any:
    library.log.clear()
    try:
        plan = parsed.builder.build_serialized_network(parsed.network, config)
    except MemoryError:
        raise BuildError(
            f"this machine has too little memory for {library} to build the engine", hint=_MEMORY_HINT
        ) from None
    if plan is None:
        raise BuildError(f"{library} could not build the engine: {library.log.quote()}", hint=_MEMORY_HINT)
    return plan


def _target(library: TensorRT, options: PlanOptions) -> str:
    if options.compute_capabilities:
        return f"compute capability {', '.join(options.compute_capabilities)}"
    if library.kind == TENSORRT:
        return str(find_gpu())
    return f"GPUs that {library} builds for by default"
