"""The other side of comparisons: models without a key, as this package writes them and as PyTorch exports them."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.common.models import Size
from lcve_deploy import Client
from lcve_deploy.artifact import Probe, read_manifest, read_probe, record_files, write_manifest, write_probe
from lcve_deploy.artifact.names import MODEL
from lcve_deploy.cipher.weights import unscrambled
from lcve_deploy.clips import EncryptedClip, Layout
from lcve_deploy.exporters.onnx import write_onnx
from lcve_deploy.model.transformer import IMAGENET, VideoTransformer

_NO_KEY = "0" * 32


def normalised(clips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """uint8 ``[batch, T, H, W, C]`` as the float32 ``[batch, C, T, H, W]`` that plain models take."""
    values = (clips / 255 - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)
    return np.ascontiguousarray(values.transpose(0, 4, 1, 2, 3), dtype=np.float32)


def export_plain(module: torch.nn.Module, size: Size, path: Path) -> None:
    """``torch.onnx.export`` with a dynamic batch."""
    clip = torch.zeros(1, 3, size.frames, size.pixels, size.pixels)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that nothing here needs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (clip,), path, dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
        )


def write_plain_server(folder: Path, model: VideoTransformer, server: Path, client: Client) -> None:
    """A server folder with the graph of the same model and no key, for building the same engines from it.

    The probe is the artifact's own, decrypted: the plain model answers it alike.
    """
    manifest = read_manifest(server)
    probe, binding = read_probe(server, manifest), manifest.binding
    folder.mkdir()
    write_onnx(unscrambled(model), folder / MODEL, layout=Layout.CUBES)
    cubes = binding.geometry.to_cubes(client.decrypt(EncryptedClip(values=probe.clip, binding=binding)).values, np)
    write_probe(folder, Probe(clip=cubes, logits=np.ascontiguousarray(client.plain_order(probe.logits))))
    binding = dataclasses.replace(binding, key_id=_NO_KEY, salt=_NO_KEY)
    write_manifest(
        folder, dataclasses.replace(manifest.with_binding(binding), labels="shown", files=record_files(folder))
    )


def plain_cubes(clips: npt.NDArray[np.uint8], server: Path) -> EncryptedClip:
    """Clips as a server without a key takes them: divided into cubes, and not encrypted."""
    binding = read_manifest(server).binding
    return EncryptedClip(values=np.ascontiguousarray(binding.geometry.to_cubes(clips, np)), binding=binding)
