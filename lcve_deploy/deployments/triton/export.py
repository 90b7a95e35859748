"""Write a Triton model repository: the operator's verb. No key, no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lcve_deploy.artifact import PublicKey
from lcve_deploy.deployments.triton.model_folder import (
    TritonModel,
    TritonOptions,
    read_config,
    read_model,
    write_model,
    write_version,
)
from lcve_deploy.errors import ArtifactError, ExistsError, MismatchError
from lcve_deploy.files.writing import new_folder, require_absent
from lcve_deploy.serving.models.versions import require_model_name

__all__ = ["add_to_triton", "export_triton"]

_MUST_AGREE: Final = ("platform", "max_batch_size", "input", "output", "parameters")
"""Of the configuration, which holds for all versions of a model: the binding is in its parameters."""


def export_triton(
    servers: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: TritonOptions,
    *,
    signed_by: PublicKey | None = None,
) -> tuple[TritonModel, ...]:
    """Write a model repository; it appears once every model of it is whole.

    Args:
        servers: server folders by the names of their models.
        output: folder to make; must not exist.
        options: how each is to be served.
        signed_by: the owner's public key, if it is pinned; the signature does not cover an engine.

    Raises:
        ArtifactError, SignatureError, SessionError, MissingDependencyError: as of
            ``lcve_deploy.deployments.triton.model_folder.read_model``.
        RequestError: a name that no model can have.
        ExistsError, WriteError: the output is there already, or cannot be written.
    """
    require_absent(output)
    models = _read(servers, options, signed_by)
    with new_folder(output) as stage:
        for model in models:
            folder = stage / model.config.name
            folder.mkdir()
            write_model(folder, model)
    return models


def add_to_triton(
    servers: Mapping[str, str | os.PathLike[str]],
    repository: str | os.PathLike[str],
    options: TritonOptions,
    *,
    signed_by: PublicKey | None = None,
) -> tuple[TritonModel, ...]:
    """Add models to a repository that exists, or a version to a model of it; nothing of it changes.

    Each new folder appears whole. A half-written one is next to the repository, where Triton does not look.

    Raises:
        MismatchError: a version that does not fit the configuration that its model has.
        ExistsError: that version is there already.
        ArtifactError, SignatureError, SessionError, MissingDependencyError, WriteError: as of ``export_triton``.
    """
    root = Path(os.path.abspath(repository))  # noqa: PTH100 (keeps links)
    if not root.is_dir():
        raise ArtifactError(f"expected a model repository, found no folder {root}", hint="make one: leave out --add")
    models = _read(servers, options, signed_by)
    for model in models:
        _check_addition(root / model.config.name, model)
    for model in models:
        folder = root / model.config.name
        new, write = (folder / str(model.version), write_version) if folder.is_dir() else (folder, write_model)
        with new_folder(new, staging=root.parent) as stage:
            write(stage, model)
    return models


def _read(
    servers: Mapping[str, str | os.PathLike[str]], options: TritonOptions, signed_by: PublicKey | None
) -> tuple[TritonModel, ...]:
    return tuple(
        read_model(require_model_name(name, Path(server)), Path(server), options, signed_by=signed_by)
        for name, server in servers.items()
    )


def _check_addition(folder: Path, model: TritonModel) -> None:
    if not folder.is_dir():
        require_absent(folder)
        return
    version = folder / str(model.version)
    if os.path.lexists(version):
        raise ExistsError(
            f"{version} exists, and nothing is overwritten", hint="choose another number: --model-version N"
        )
    there = read_config(folder)
    if differing := [field for field in _MUST_AGREE if not _agrees(there, model.config, field)]:
        raise MismatchError(
            f"one configuration holds for all versions of a model, and that of {folder} has another "
            f"{' and '.join(differing)} than version {model.version} needs",
            hint="serve it under a name of its own: NAME=FOLDER",
        )


def _agrees(there: Any, new: Any, field: str) -> bool:
    old, now = getattr(there, field), getattr(new, field)
    if field == "parameters":
        return all(name in old and old[name] == value for name, value in now.items())
    return bool(old <= now if field == "max_batch_size" else old == now)
