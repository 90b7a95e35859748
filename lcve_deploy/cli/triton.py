"""``lcve triton``: a model repository for Triton."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lcve_deploy.cli.options import AnyPath, as_json, signed_by_option
from lcve_deploy.cli.show import print_json

if TYPE_CHECKING:
    from lcve_deploy.artifact import EngineRecord
    from lcve_deploy.deployments.triton.model_folder import TritonModel, TritonOptions

__all__ = ["command"]

_ALL = "all"


class _Versions(click.ParamType):  # type: ignore[type-arg]
    """A number from 1, or ``all``, which is 0."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number."""
        if isinstance(value, int):
            return value
        if value == _ALL:
            return 0
        if not value.isdecimal() or int(value) < 1:
            self.fail(f"expected a number from 1, or all, received {value!r}", param, ctx)
        return int(value)


@click.command()
@click.argument("servers", nargs=-1, required=True, metavar="[NAME=]DIR...")
@click.option("-o", "--output", type=AnyPath, required=True, help="Model repository to make, or with --add to add to.")
@click.option("--add", is_flag=True, help="Add a model, or a version of one, to a repository that exists.")
@click.option("--engine", metavar="NAME", help="TensorRT engine of lcve build.  [default: the graph, in ONNX Runtime]")
@click.option("--version", type=click.IntRange(min=1), default=1, show_default=True, help="Of the model.")
@click.option("--versions", type=_Versions(), default="1", show_default=True, help="Newest versions to serve.")
@click.option("--max-batch", type=click.IntRange(min=1), help="Clips of one run.  [default: 8, or the engine's]")
@click.option(
    "--preferred-batch", type=click.IntRange(min=1), multiple=True, help="Batch to run at once; may be repeated."
)
@click.option(
    "--queue-delay", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Wait for other clips, ms."
)
@click.option("--max-queue", type=click.IntRange(min=1), help="Requests that may wait.  [default: any number]")
@click.option(
    "--queue-timeout", type=click.FloatRange(min=0, min_open=True), help="Longest wait, ms.  [default: any time]"
)
@click.option("--instances", type=click.IntRange(min=1), default=1, show_default=True, help="On each device.")
@click.option("--gpu", is_flag=True, help="Run the graph on GPUs; an engine always does.")
@signed_by_option
@as_json
def command(servers: tuple[str, ...], output: Path, add: bool, as_json: bool, **given: Any) -> None:
    """Write a Triton model repository with server folders as its models. No key is needed.

    DIR is the server/ of an artifact. Without NAME, the model has the name of the folder, or of its parent where it is
    called server. A model warms up with the probe of its artifact. The binding is in the parameters of config.pbtxt.
    """
    from lcve_deploy.deployments.triton.export import add_to_triton, export_triton
    from lcve_deploy.serving.models.versions import parse_source, require_distinct

    sources = require_distinct(map(parse_source, servers))
    folders = {source.name: source.folder for source in sources}
    write = add_to_triton if add else export_triton
    models = write(folders, output, _options(given), signed_by=given["signed_by"])
    if as_json:
        print_json({"repository": str(output), "models": [_json(model) for model in models]})
        return
    for model in models:
        config = model.config
        click.echo(f"{config.name}/{model.version}: {config.platform}, batches of 1 to {config.max_batch_size}")
        if model.engine:
            click.echo(f"  {_about_plan(model.engine)}")
    click.echo(f"model repository: {output}")


def _options(given: dict[str, Any]) -> TritonOptions:
    from lcve_deploy.deployments.triton.model_folder import TritonOptions

    return TritonOptions(
        engine=given["engine"],
        version=given["version"],
        largest_batch=given["max_batch"],
        delay=given["queue_delay"] / 1000,
        preferred=given["preferred_batch"],
        waiting=given["max_queue"] or 0,
        timeout=(given["queue_timeout"] or 0) / 1000,
        instances=given["instances"],
        gpu=given["gpu"],
        versions=given["versions"],
    )


def _json(model: TritonModel) -> dict[str, Any]:
    return {
        "name": model.config.name,
        "version": model.version,
        "platform": model.config.platform,
        "max_batch": model.config.max_batch_size,
        "engine": model.engine.name if model.engine else None,
        "proven": None if model.engine is None else model.engine.proof is not None,
    }


def _about_plan(engine: EngineRecord) -> str:
    """What Triton must be, to open the plan; nothing here can ask it."""
    proof = f"proven on {engine.proof.device}" if engine.proof else "unproven: compare its answer to the probe"
    compatible = "version_compatible" in engine.options
    more = " or later, with --backend-config=tensorrt,version-compatible=true" if compatible else ""
    return f"plan of TensorRT {engine.builder.get(engine.kind, '?')}: needs this version{more}; {proof}"
