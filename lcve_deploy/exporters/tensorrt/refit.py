"""Replace the weights of a plan that was built refittable or stripped, without a new build.

The code follows the documentation of both libraries; no refit has run on hardware yet. A refitted plan must pass the
probe again: according to its documentation, TensorRT 11.3 can lose biases of refittable engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lcve_deploy.artifact.digests import FileRecord, hold_checked
from lcve_deploy.artifact.graph_files import GraphSource, read_graph
from lcve_deploy.errors import BuildError
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.libraries.tensorrt import TensorRT, refit_engine

__all__ = ["refit_plan"]


def refit_plan(
    plan: Path, model: GraphSource, target: Path, *, library: TensorRT, files: Mapping[str, FileRecord] | None = None
) -> None:
    """Write a plan with the weights of a graph that has the same nodes, shapes and names.

    Args:
        plan: plan built with ``refittable``, for any weights, or with ``stripped`` alone, for the weights of the graph
            that it was built from.
        model: graph that has been read, or ONNX file with its external data next to it: the weights.
        target: file to write, in a folder that is being staged.
        library: library of the version that built the plan.
        files: records of the files in the plan's folder, whose digests are checked as they are read. None for a plan
            that this process has just written.

    Raises:
        ArtifactError: the plan differs from its record; the library has not read it.
        BuildError: there is no GPU, the library cannot open the plan, the plan is not refittable, or the weights do
            not fit. Nothing is written.
    """
    if find_gpu() is None:
        raise BuildError(
            f"{library} needs a GPU to refit engines, and no NVIDIA GPU with its driver was found",
            hint="refit on the machine that will run the engine",
        )
    content = bytes(hold_checked(plan.parent, plan.name, files, mapped=False).data)
    library.log.clear()
    runtime = library.module.Runtime(library.log.logger)
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise BuildError(f"{library} cannot open {plan}: {library.log.quote()}", hint="build the engine again")
    if not engine.refittable:
        raise BuildError(f"{plan} was not built refittable", hint="build the engine again with the option refittable")
    graph = read_graph(model)
    with graph.on_disk() as path:
        problem = refit_engine(library, engine, path)
    if problem:
        raise BuildError(f"the weights of {graph.path} do not fit {plan}: {problem}", hint="build the engine again")
    with target.open("wb") as file:
        file.write(_serialize(engine, library))


def _serialize(engine: Any, library: TensorRT) -> Any:
    """Serialise an engine with its weights, and keep it refittable if the library supports this."""
    config = engine.create_serialization_config()
    config.clear_flag(library.module.SerializationFlag.EXCLUDE_WEIGHTS)
    keep = library.member("SerializationFlag", "INCLUDE_REFIT")
    if keep is not None:
        config.set_flag(keep)
    return engine.serialize_with_config(config)
