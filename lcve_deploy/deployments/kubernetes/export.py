"""Write manifests for Kubernetes: the operator's verb. No key, no torch."""

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
    """Write manifests that serve artifacts with ``lcve serve``; they appear once all are there.

    Args:
        servers: server folders by the names of their models; their files are checked, and not copied.
        output: folder to make; must not exist.
        options: of the cluster.

    Returns:
        The paths of the manifests within the folder.

    Raises:
        ArtifactError, SignatureError: an invalid server folder.
        RequestError: a name that no model can have.
        ExistsError, WriteError: the output is there already, or cannot be written.
    """
    require_absent(output)
    folders = {require_model_name(name, Path(server)): Path(server) for name, server in servers.items()}
    for folder in folders.values():
        checked_manifest(folder, options.signed_by)
    made = manifests({name: manifest_digest(folder) for name, folder in folders.items()}, options)
    with new_folder(output) as stage:
        for path, value in made.items():
            (stage / path).parent.mkdir(exist_ok=True)
            (stage / path).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return tuple(made)
