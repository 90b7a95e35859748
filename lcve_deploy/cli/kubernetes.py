"""``lcve kubernetes``: write manifests that run ``lcve serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.options.groups import value_from_options
from lcve_deploy.cli.options.models import models_argument
from lcve_deploy.cli.options.signing import signed_by_option
from lcve_deploy.cli.options.types import COUNT, PATH, POSITIVE
from lcve_deploy.cli.show import print_json, say

if TYPE_CHECKING:
    from lcve_deploy.artifact import PublicKey
    from lcve_deploy.deployments.kubernetes.manifests import KubernetesOptions

__all__ = ["command"]


def _make_options(
    *,
    name: str,
    image: str,
    claim: str,
    keys_claim: str | None,
    max_keys: int | None,
    token_secret: str | None,
    tls_secret: str | None,
    cpus: int,
    memory: int,
    gpus: int,
    min_replicas: int,
    max_replicas: int,
    target_delay: float,
    signed_by: PublicKey | None,
) -> KubernetesOptions:
    from lcve_deploy.deployments.kubernetes.manifests import KubernetesOptions

    return KubernetesOptions(
        name=name,
        image=image,
        claim=claim,
        keys_claim=keys_claim,
        max_keys=max_keys,
        token_secret=token_secret,
        tls_secret=tls_secret,
        cpus=cpus,
        memory=memory,
        gpus=gpus,
        replicas=(min_replicas, max_replicas),
        target_delay=target_delay / 1000,
        signed_by=signed_by,
    )


_OBJECTS: Final = cloup.option_group(
    "Objects",
    cloup.option("--name", default="lcve", show_default=True, metavar="NAME", help="Name of all objects."),
    cloup.option(
        "--image",
        default="lcve-server",
        show_default=True,
        metavar="IMAGE",
        help="Container image with lcve and its extra serve.",
    ),
    cloup.option(
        "--claim",
        default="lcve-models",
        show_default=True,
        metavar="NAME",
        help="PersistentVolumeClaim with the models.",
    ),
    cloup.option(
        "--keys-claim",
        metavar="NAME",
        help="PersistentVolumeClaim with the key folders of each model.  [default: keys/ of the model folders]",
    ),
    cloup.option("--token-secret", metavar="NAME", help="Secret with tokens, in the format of lcve serve --tokens."),
    cloup.option("--tls-secret", metavar="NAME", help="Secret of type kubernetes.io/tls."),
    signed_by_option,
)
_PODS: Final = cloup.option_group(
    "Pods",
    cloup.option("--cpus", type=POSITIVE, default=2, show_default=True, metavar="N", help="CPUs per pod."),
    cloup.option("--memory", type=POSITIVE, default=2048, show_default=True, metavar="MIB", help="Memory per pod."),
    cloup.option(
        "--max-keys", type=POSITIVE, metavar="N", help="Keys in memory per pod.  [default: that of lcve serve]"
    ),
    cloup.option("--gpus", type=COUNT, default=0, show_default=True, metavar="N", help="GPUs per pod."),
    cloup.option(
        "--min-replicas", type=POSITIVE, default=1, show_default=True, metavar="N", help="Minimum number of pods."
    ),
    cloup.option(
        "--max-replicas", type=POSITIVE, default=4, show_default=True, metavar="N", help="Maximum number of pods."
    ),
    cloup.option(
        "--target-delay",
        type=cloup.FloatRange(min=1),
        default=100,
        show_default=True,
        metavar="MS",
        help="Mean time in the queue above which pods are added.",
    ),
)


@lcve_command("lcve kubernetes actions=service/server -o manifests --token-secret lcve-tokens")
@models_argument
@cloup.option("-o", "--output", type=PATH, required=True, metavar="DIR", help="Folder to create.")
@as_json
@value_from_options("options", _make_options, _OBJECTS, _PODS)
def command(models: tuple[str, ...], output: Path, options: KubernetesOptions, as_json: bool) -> None:
    """Write manifests for Kubernetes and KServe that serve model folders with lcve serve. Needs no key.

    The folders are checked but not copied: the claim must contain each of them under the name of its model. Servers
    look for key folders that come, change or go, and need no restart for them. Pods do
    not run as root and write only to /tmp. Tokens and TLS files come from existing Secrets.
    """
    from lcve_deploy.deployments.kubernetes.export import export_kubernetes
    from lcve_deploy.serving.models.versions import parse_source, require_distinct

    sources = require_distinct(map(parse_source, models))
    paths = export_kubernetes({source.name: source.folder for source in sources}, output, options)
    if as_json:
        print_json({"folder": str(output), "manifests": list(paths)})
        return
    for path in paths:
        say(str(output / path))
