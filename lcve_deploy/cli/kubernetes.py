"""``lcve kubernetes``: manifests for ``lcve serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from lcve_deploy.cli.options import AnyPath, as_json, signed_by_option
from lcve_deploy.cli.show import print_json

__all__ = ["command"]

_POSITIVE: Final = click.IntRange(min=1)


@click.command()
@click.argument("servers", nargs=-1, required=True, metavar="[NAME=]DIR...")
@click.option("-o", "--output", type=AnyPath, required=True, help="Folder to make.")
@click.option("--name", default="lcve", show_default=True, help="Of all objects.")
@click.option("--image", default="lcve-server", show_default=True, help="With lcve and its extra serve.")
@click.option("--claim", default="lcve-models", show_default=True, help="PersistentVolumeClaim with the models.")
@click.option("--token-secret", help="Secret with tokens, as lcve serve --token-file reads it.")
@click.option("--tls-secret", help="Secret of type kubernetes.io/tls.")
@click.option("--cpus", type=_POSITIVE, default=2, show_default=True, help="Of a pod.")
@click.option("--memory", type=_POSITIVE, default=2048, show_default=True, help="Of a pod, MiB.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, show_default=True, help="Of a pod.")
@click.option("--min-replicas", type=_POSITIVE, default=1, show_default=True, help="Least pods.")
@click.option("--max-replicas", type=_POSITIVE, default=4, show_default=True, help="Most pods.")
@click.option(
    "--queue", type=click.FloatRange(min=1), default=100, show_default=True, help="Mean wait that adds pods, ms."
)
@signed_by_option
@as_json
def command(servers: tuple[str, ...], output: Path, as_json: bool, **given: Any) -> None:
    """Write manifests for Kubernetes and KServe that serve server folders with lcve serve. No key is needed.

    The folders are checked, and not copied: the claim has each under the name of its model. A pod runs as no root, and
    writes nothing but /tmp. Tokens and TLS are files of Secrets that exist.
    """
    from lcve_deploy.deployments.kubernetes.export import export_kubernetes
    from lcve_deploy.deployments.kubernetes.manifests import KubernetesOptions
    from lcve_deploy.serving.models.versions import parse_source, require_distinct

    replicas = (given.pop("min_replicas"), given.pop("max_replicas"))
    options = KubernetesOptions(replicas=replicas, queue=given.pop("queue") / 1000, **given)
    sources = require_distinct(map(parse_source, servers))
    paths = export_kubernetes({source.name: source.folder for source in sources}, output, options)
    if as_json:
        print_json({"folder": str(output), "manifests": list(paths)})
        return
    for path in paths:
        click.echo(output / path)
