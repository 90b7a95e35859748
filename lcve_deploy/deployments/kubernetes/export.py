"""Write manifests for Kubernetes, on the operator's side: without a key and without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from lcve_deploy.artifact import manifest_digest
from lcve_deploy.deployments.kubernetes.manifests import KubernetesOptions, manifests
from lcve_deploy.files.writing import new_folder, require_absent
from lcve_deploy.runtime.opening import checked_manifest
from lcve_deploy.serving.models.versions import require_model_name

__all__ = ["export_kubernetes"]


def export_kubernetes(
    servers: Mapping[str, str | os.PathLike[str]], output: str | os.PathLike[str], options: KubernetesOptions
) -> tuple[str, ...]:
    """Write manifests that serve artifacts with ``lcve serve``. They appear in one step.

    Args:
        servers: server folders by model name; their files are checked but not copied.
        output: folder to create; must not exist.
        options: settings of the cluster.

    Returns:
        The paths of the manifests within the folder.

    Raises:
        ArtifactError, SignatureError: a server folder is invalid.
        RequestError: a model name is invalid.
        ExistsError, WriteError: the output exists, or cannot be written.
    """
    require_absent(output)
    folders = {require_model_name(name, Path(server)): Path(server) for name, server in servers.items()}
    for folder in folders.values():
        checked_manifest(folder, options.signed_by)
    objects = manifests({name: manifest_digest(folder) for name, folder in folders.items()}, options)
    with new_folder(output) as stage:
        for path, value in objects.items():
            (stage / path).parent.mkdir(exist_ok=True)
            (stage / path).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return tuple(objects)
