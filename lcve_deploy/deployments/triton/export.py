"""Write a Triton model repository, on the operator's side: without a key and without torch.

Each key folder of a model becomes a model of its own, named ``MODEL-KEY``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lcve_deploy.artifact import PublicKey, find_keys, open_key
from lcve_deploy.artifact.names import KEYS
from lcve_deploy.clips import Scheme
from lcve_deploy.deployments.triton.model_folder import (
    TritonModel,
    TritonOptions,
    make_model,
    read_config,
    write_model,
    write_version,
)
from lcve_deploy.errors import ArtifactError, ExistsError, MismatchError
from lcve_deploy.files.writing import new_folder, require_absent
from lcve_deploy.runtime.opening import checked_manifest
from lcve_deploy.serving.models.versions import require_model_name

__all__ = ["add_to_triton", "export_triton"]

_MUST_AGREE: Final = ("platform", "max_batch_size", "input", "output", "parameters")
"""Fields of the configuration that all versions of a model share; the parameters contain the binding."""


def export_triton(
    servers: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: TritonOptions,
    *,
    signed_by: PublicKey | None = None,
) -> tuple[TritonModel, ...]:
    """Write a model repository. It appears in one step, when all of its models are complete.

    Args:
        servers: model folders by name.
        output: folder to create; must not exist.
        options: which keys, and how each is served.
        signed_by: the owner's public key, if pinned; it must have signed the model and the key folders.

    Raises:
        ArtifactError, SignatureError, MismatchError: a model folder or key folder is invalid, or there is none.
        ParityError: a graph fails the probe of its key.
        MissingDependencyError: tritonclient, onnx-ir or ONNX Runtime is not installed.
        RequestError: a model name is invalid.
        ExistsError, WriteError: the output exists, or cannot be written.
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
    """Add models to an existing repository, or versions to its models. Existing files are not changed.

    Each new folder appears in one step. It is staged next to the repository, where Triton does not look.

    Raises:
        MismatchError: a version does not match the configuration of its model.
        ExistsError: the version exists.
        ArtifactError, SignatureError, ParityError, MissingDependencyError, WriteError: as ``export_triton``.
    """
    root = Path(os.path.abspath(repository))  # noqa: PTH100 (keeps links)
    if not root.is_dir():
        raise ArtifactError(
            f"expected a model repository, found no folder {root}", hint="to create one, leave out --add"
        )
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
        model for name, server in servers.items() for model in _models_of(name, Path(server), options, signed_by)
    )


def _models_of(name: str, server: Path, options: TritonOptions, signed_by: PublicKey | None) -> Iterator[TritonModel]:
    require_model_name(name, server)
    manifest, folders = checked_manifest(server, signed_by), find_keys(server)
    if manifest.model.scheme != Scheme.LCVE:
        raise ArtifactError(
            f"{server} has the scheme {manifest.model.scheme}, whose packed clips no plain Triton can unpack",
            hint="serve it with lcve serve, or export an artifact for the other wire: --wire raw",
        )
    if missing := [key for key in options.keys or ("",) if key not in folders and (key or not folders)]:
        raise ArtifactError(
            f"{server / KEYS} has no key folder {' or '.join(filter(None, missing))}".rstrip(),
            hint="ask the owner for the key folder, and add it with lcve apply",
        )
    for key in options.keys or folders:
        folder = open_key(folders[key], manifest, signed_by)
        yield make_model(require_model_name(f"{name}-{key}", server), server, manifest, folder, options, signed_by)


def _check_addition(folder: Path, model: TritonModel) -> None:
    if not folder.is_dir():
        require_absent(folder)
        return
    version = folder / str(model.version)
    if os.path.lexists(version):
        raise ExistsError(
            f"{version} exists, and nothing is overwritten", hint="choose another number: --model-version N"
        )
    existing = read_config(folder)
    if differing := [field for field in _MUST_AGREE if not _agrees(existing, model.config, field)]:
        raise MismatchError(
            f"all versions of a model share one configuration, but version {model.version} differs from that of "
            f"{folder} in {' and '.join(differing)}",
            hint="serve it under another name: NAME=FOLDER",
        )


def _agrees(existing: Any, new: Any, field: str) -> bool:
    old, current = getattr(existing, field), getattr(new, field)
    if field == "parameters":
        return all(name in old and old[name] == value for name, value in current.items())
    return bool(old <= current if field == "max_batch_size" else old == current)
