"""Write a graph that runs by itself: the model with the tensors of one key inside. Needs no key.

For runtimes that cannot hold the tensors of several keys. Such a file belongs to its key: it has no place in a model
folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import Manifest, Probe, PublicKey, open_key
from lcve_deploy.artifact.graph_files import read_graph
from lcve_deploy.artifact.names import MODEL
from lcve_deploy.errors import WriteError
from lcve_deploy.exporters.embedding import embed_key
from lcve_deploy.files.writing import new_files
from lcve_deploy.libraries.onnxruntime import give_files, load_onnxruntime
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.runtime.banked import clip_arrays
from lcve_deploy.runtime.opening import checked_manifest
from lcve_deploy.runtime.probing import check_answer

__all__ = ["embed"]


def embed(
    server: str | os.PathLike[str],
    key_folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    signed_by: PublicKey | None = None,
    progress: Progress = silent,
) -> Path:
    """Write an ONNX graph that runs clips of one key, and has no other input. It appears if it answers the key's probe.

    Args:
        server: model folder.
        key_folder: key folder of the model.
        output: file to create, outside of the model folder; the data of a large graph is written to ``<name>.data``
            next to it.
        signed_by: pinned public key of the owner, who must have signed both manifests.
        progress: receives every step.

    Returns:
        The file.

    Raises:
        ArtifactError: a manifest is invalid, or files do not match it.
        SignatureError: the pinned key has not signed a manifest.
        MismatchError: the key folder was made for another model.
        ParityError: the graph fails the probe; nothing is written.
        ExistsError, WriteError: the output already exists, or cannot be written there.
        MissingDependencyError: onnx-ir or ONNX Runtime is not installed.
    """
    folder, target = Path(server), Path(output)
    _require_outside(target, folder)
    manifest = checked_manifest(folder, signed_by)
    key = open_key(Path(key_folder), manifest, signed_by)
    key.verify()
    with new_files(target.with_name(f"{target.name}.data"), target) as stage:
        with step(progress, "writing the graph of one key") as steps:
            graph = read_graph(folder / MODEL, manifest.files)
            embed_key(graph, key.tensors(), stage / target.name, steps=steps)
        with step(progress, "running the probe"):
            _require_answer(stage / target.name, key.probe(), manifest)
    return target


def _require_outside(target: Path, server: Path) -> None:
    """Refuse a file in the model folder, whose files are those of its manifest."""
    if server.resolve() in target.resolve().parents:
        raise WriteError(
            f"expected a file outside of the model folder {server}, received {target}",
            hint="the file belongs to one key; choose another folder",
        )


def _require_answer(graph: Path, probe: Probe, manifest: Manifest) -> None:
    logits = _run(graph, clip_arrays(manifest.model, probe.clip))
    check_answer(probe, logits, manifest.parity).require()


def _run(path: Path, clips: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    onnxruntime, files = load_onnxruntime("running a graph"), read_graph(path)
    options = onnxruntime.SessionOptions()
    give_files(options, files.contents())
    session = onnxruntime.InferenceSession(bytes(files.graph.data), options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {name: np.ascontiguousarray(array) for name, array in clips.items()})
    return np.asarray(logits)
