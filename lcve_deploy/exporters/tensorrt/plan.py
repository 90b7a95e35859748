"""From a graph to a plan: the file of a TensorRT engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.artifact import TensorSpec
from lcve_deploy.artifact.graph_files import GraphSource
from lcve_deploy.errors import BuildError
from lcve_deploy.exporters.tensorrt.options import PlanOptions, set_options
from lcve_deploy.exporters.tensorrt.parse import ParsedGraph, parse_graph
from lcve_deploy.exporters.tensorrt.timing import read_timing_cache, write_timing_cache
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.libraries.tensorrt import TENSORRT, TensorRT, buildable_capabilities
from lcve_deploy.progress import Progress, silent, step

__all__ = ["BuiltPlan", "build_plan"]

_SMALLER: Final = "build with a smaller maximum batch, allow more workspace, or use a GPU with more free memory"


@dataclass(frozen=True, kw_only=True)
class BuiltPlan:
    """What was built, as its record says it.

    Args:
        builder: the library's kind → its version.
        target: what the plan can run on.
        options: how it was built, where that is not the default.
    """

    builder: Mapping[str, str]
    target: str
    options: Mapping[str, str]


def build_plan(
    model: GraphSource,
    target: Path,
    *,
    clips: TensorSpec,
    logits: TensorSpec,
    library: TensorRT,
    options: PlanOptions | None = None,
    progress: Progress = silent,
) -> BuiltPlan:
    """Build an engine and write its plan. No weight is read twice, and no key is needed.

    ``tensorrt`` builds for the GPU of the machine. ``tensorrt_rtx`` builds ahead of time and needs none,
    unless the engine is to be refittable or stripped.

    Args:
        model: a graph that has been read, or an ONNX file with its external data next to it; its types are the
            precision.
        target: file to write, in a folder that is being staged.
        clips: the graph's input, as the manifest says.
        logits: the graph's output, as the manifest says.
        library: that builds.
        options: how to build.
        progress: told of every step.

    Raises:
        BuildError: the graph does not pass the gate (``check_graph``), an option that the library
            lacks, no GPU where one is needed, or a build that fails; quotes the library. Nothing is written.
        MissingDependencyError: onnx-ir is not installed.
        WriteError: the timing cache cannot be written.
    """
    options = options or PlanOptions()
    _require_gpu(library, options)
    with step(progress, "parsing the graph"):
        parsed = parse_graph(model, clips=clips, logits=logits, library=library)
        config = parsed.builder.create_builder_config()
        set_options(config, options, library)
        _set_profile(parsed, config, clips, options, library)
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
    if gpu is not None and options.needs_weights_of_gpu and known and gpu.capability not in known:
        raise BuildError(
            f"{library} lays out the weights of refittable and stripped engines on a GPU that it has kernels for, "
            f"expected one of compute capability {', '.join(known)}, found {gpu}",
            hint="build it on such a GPU, use TensorRT, or build a plain engine, to be built again if weights change",
        )
    if gpu is not None:
        return
    if library.kind == TENSORRT:
        raise BuildError(
            f"{library} builds engines on the GPU that they are for, and no NVIDIA GPU with its driver was found here",
            hint="build on the machine that will run the engine; tensorrt-rtx builds ahead of time without a GPU",
        )
    if options.needs_weights_of_gpu:
        raise BuildError(
            f"{library} builds without a GPU, but not engines that are refittable or stripped, and no NVIDIA GPU with "
            f"its driver was found here",
            hint="build it on a machine with a GPU, or a plain one here, to be built again where weights change",
        )


def _set_profile(parsed: ParsedGraph, config: Any, clips: TensorSpec, options: PlanOptions, library: TensorRT) -> None:
    sizes = options.profile
    shapes = [(batch, *clips.shape[1:]) for batch in (sizes.minimum, sizes.optimum, sizes.maximum)]
    profile = parsed.builder.create_optimization_profile()
    profile.set_shape(clips.name, *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"{library} refuses batches of {sizes}: {library.log.quote()}")


def _build(parsed: ParsedGraph, config: Any, library: TensorRT) -> Any:
    library.log.clear()
    try:
        plan = parsed.builder.build_serialized_network(parsed.network, config)
    except MemoryError:
        raise BuildError(
            f"this machine has too little memory for {library} to build the engine", hint=_SMALLER
        ) from None
    if plan is None:
        raise BuildError(f"{library} could not build the engine: {library.log.quote()}", hint=_SMALLER)
    return plan


def _target(library: TensorRT, options: PlanOptions) -> str:
    if options.compute_capabilities:
        return f"compute capability {', '.join(options.compute_capabilities)}"
    if library.kind == TENSORRT:
        return str(find_gpu())
    return f"GPUs that {library} builds for by default"
