"""``lcve triton``: write a model repository for Triton."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.options.groups import value_from_options
from lcve_deploy.cli.options.models import models_argument
from lcve_deploy.cli.options.signing import signed_by_option
from lcve_deploy.cli.options.types import ABOVE_ZERO, PATH, POSITIVE
from lcve_deploy.cli.show import print_json, say

if TYPE_CHECKING:
    from lcve_deploy.artifact import PublicKey
    from lcve_deploy.deployments.triton.model_folder import TritonModel, TritonOptions

__all__ = ["command"]

_ALL: Final = "all"


class _Versions(click.ParamType[int]):
    """A number of at least 1, or ``all``, which becomes 0."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number."""
        if isinstance(value, int):
            return value
        if value == _ALL:
            return 0
        if not value.isdecimal() or int(value) < 1:
            self.fail(f"expected a number of at least 1, or all, received {value!r}", param, ctx)
        return int(value)


def _make_options(
    *,
    keys: tuple[str, ...],
    gpu: bool,
    model_version: int,
    versions: int,
    instances: int,
    max_batch: int,
    preferred_batch: tuple[int, ...],
    queue_delay: float,
    max_queue: int | None,
    queue_timeout: float | None,
) -> TritonOptions:
    from lcve_deploy.deployments.triton.model_folder import TritonOptions

    return TritonOptions(
        keys=keys,
        version=model_version,
        max_batch=max_batch,
        queue_delay=queue_delay / 1000,
        preferred_batches=preferred_batch,
        max_queue=max_queue or 0,
        queue_timeout=(queue_timeout or 0) / 1000,
        instances=instances,
        gpu=gpu,
        versions=versions,
    )


_MODEL: Final = cloup.option_group(
    "Model",
    cloup.option(
        "--key-name",
        "keys",
        multiple=True,
        metavar="NAME",
        help="Key folder in keys/ to use; may be repeated.  [default: all]",
    ),
    cloup.option("--gpu", is_flag=True, help="Run the graphs on GPUs."),
    cloup.option(
        "--model-version", type=POSITIVE, default=1, show_default=True, metavar="N", help="Version of the model."
    ),
    cloup.option(
        "--versions",
        type=_Versions(),
        default="1",
        show_default=True,
        metavar="N|all",
        help="Number of newest versions to serve.",
    ),
    cloup.option(
        "--instances", type=POSITIVE, default=1, show_default=True, metavar="N", help="Instances on each device."
    ),
)
_BATCHING: Final = cloup.option_group(
    "Batching",
    cloup.option(
        "--max-batch",
        type=POSITIVE,
        default=8,
        show_default=True,
        metavar="N",
        help="Maximum clips per batch.",
    ),
    cloup.option(
        "--preferred-batch",
        type=POSITIVE,
        multiple=True,
        metavar="N",
        help="Batch size that runs without waiting; may be repeated.",
    ),
    cloup.option(
        "--queue-delay",
        type=cloup.FloatRange(min=0),
        default=2.0,
        show_default=True,
        metavar="MS",
        help="Maximum time that a clip waits for others to fill a batch.",
    ),
    cloup.option("--max-queue", type=POSITIVE, metavar="N", help="Maximum waiting requests.  [default: unlimited]"),
    cloup.option(
        "--queue-timeout",
        type=ABOVE_ZERO,
        metavar="MS",
        help="Maximum time that a request waits.  [default: unlimited]",
    ),
)


@lcve_command(
    "lcve triton actions=service/server -o models",
    "lcve triton actions=service/server -o models --add --key-name camera-7",
)
@models_argument
@cloup.option("-o", "--output", type=PATH, required=True, metavar="DIR", help="Model repository to create.")
@cloup.option("--add", is_flag=True, help="Add a model, or a version of one, to an existing repository.")
@signed_by_option
@as_json
@value_from_options("options", _make_options, _MODEL, _BATCHING)
def command(
    models: tuple[str, ...],
    output: Path,
    add: bool,
    options: TritonOptions,
    signed_by: PublicKey | None,
    as_json: bool,
) -> None:
    """Write a Triton model repository from model folders and their key folders. Needs no key.

    Each key folder becomes a model named MODEL-KEY, because Triton's own backends cannot hold several keys. Its graph
    runs by itself, and has answered the probe of the key. The binding is in the parameters of config.pbtxt.
    """
    from lcve_deploy.deployments.triton.export import add_to_triton, export_triton
    from lcve_deploy.serving.models.versions import parse_source, require_distinct

    sources = require_distinct(map(parse_source, models))
    folders = {source.name: source.folder for source in sources}
    write = add_to_triton if add else export_triton
    written = write(folders, output, options, signed_by=signed_by)
    if as_json:
        print_json({"repository": str(output), "models": [_json(model) for model in written]})
        return
    for model in written:
        config = model.config
        say(f"{config.name}/{model.version}: {config.platform}, batches of 1 to {config.max_batch_size}")
    say(f"model repository: {output}")


def _json(model: TritonModel) -> dict[str, Any]:
    return {
        "name": model.config.name,
        "version": model.version,
        "platform": model.config.platform,
        "max_batch": model.config.max_batch_size,
        "key_id": model.key.manifest.binding.key_id,
        "salt": model.key.manifest.binding.salt,
    }
