"""The other side of comparisons: models without a key, as this package writes them and as PyTorch exports them."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.common.models import Size
from lcve_deploy import Client
from lcve_deploy.artifact import (
    Manifest,
    ModelSpec,
    Probe,
    open_key,
    read_key_manifest,
    read_manifest,
    record_files,
    write_key_folder,
    write_manifest,
    write_probe,
)
from lcve_deploy.artifact.names import KEYS, MODEL
from lcve_deploy.cipher.weights import unscrambled
from lcve_deploy.clips import EncryptedClip, KeyRef, Layout
from lcve_deploy.exporters.bank import KEY_SPEC, graph_input, keyed_tensors
from lcve_deploy.exporters.embedding import embed_key
from lcve_deploy.exporters.onnx import write_onnx
from lcve_deploy.exporters.storage import load_graph, save_graph
from lcve_deploy.model.transformer import IMAGENET, ScrambledTransformer, VideoTransformer

if TYPE_CHECKING:
    import onnx_ir as ir

EXPORTED = "main"
"""Key folder that an export writes by default."""
_NO_KEY = KeyRef(key_id="0" * 32, salt="0" * 32)
_PLAIN = "plain"
_WITH_BANK, _EMBEDDED = "bank.onnx", "embedded.onnx"


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
    """A model folder of the same model without a key, for building the same engines from it.

    All weights are constants of its graph. It has the inputs of a bank, which sessions expect, and reads one number of
    each, so the comparison includes what the bank costs. The probe is the artifact's own, decrypted: the plain model
    answers it alike.
    """
    manifest = read_manifest(server)
    folder.mkdir()
    plain = unscrambled(model)
    _write_graph(folder, plain, manifest.model)
    tensors, probe = keyed_tensors(plain), _plain_probe(server, manifest, client)
    write_probe(folder, dataclasses.replace(probe, tensors=tensors))
    write_manifest(folder, dataclasses.replace(manifest, files=record_files(folder)))
    key = folder / KEYS / _PLAIN
    key.mkdir(parents=True)
    write_key_folder(
        key,
        binding=manifest.model.binding_of(_NO_KEY),
        labels="shown",
        model_sha256=read_manifest(folder).digest,
        tensors=tensors,
        probe=probe,
        made_by=manifest.made_by,
    )


def plain_cubes(clips: npt.NDArray[np.uint8], server: Path) -> EncryptedClip:
    """Clips as a server without a key takes them: divided into cubes, and not encrypted."""
    binding = read_key_manifest(server / KEYS / _PLAIN).binding
    return EncryptedClip(values=np.ascontiguousarray(binding.geometry.to_cubes(clips, np)), binding=binding)


def bank_of(tensors: dict[str, npt.NDArray[Any]], batch: int) -> dict[str, npt.NDArray[Any]]:
    """Inputs of a graph that give a batch of clips the keyed tensors of one key."""
    bank = {f"bank.{name}": tensor[None] for name, tensor in tensors.items()}
    return {KEY_SPEC.name: np.zeros(batch, np.int64), **bank}


def _write_graph(folder: Path, plain: ScrambledTransformer, spec: ModelSpec) -> None:
    """The graph with the plain tensors inside, and with inputs for a bank that change no answer."""
    work = folder / "work"
    work.mkdir()
    write_onnx(plain, work / _WITH_BANK, layout=Layout.CUBES)
    embed_key(work / _WITH_BANK, keyed_tensors(plain), work / _EMBEDDED)
    model = load_graph(work / _EMBEDDED)
    _add_bank(model.graph, spec)
    save_graph(model, folder / MODEL)
    for path in work.iterdir():
        path.unlink()
    work.rmdir()


def _add_bank(graph: ir.Graph, spec: ModelSpec) -> None:
    """Add inputs for a bank, and read one number of each.

    OpenVINO drops inputs that nothing reads, and ONNX Runtime copies them from a GPU to the host in every run. The sum
    of the numbers would be the answer if the row of a clip were far below zero, which no runtime can rule out.
    """
    import onnx_ir as ir
    from onnx_ir import tape

    key, bank = graph_input(KEY_SPEC), [graph_input(tensor) for tensor in spec.bank]
    nodes, (answer,) = tape.Tape(), graph.outputs

    def constant(name: str, value: int | list[int]) -> ir.Value:
        return nodes.initializer(ir.tensor(np.array(value, np.int64), name=name), name)

    flat, first, never = constant("bank_flat", [-1]), constant("bank_first", 0), constant("bank_never", -(2**40))
    numbers = [nodes.op("Gather", [nodes.op("Reshape", [value, flat]), first], {"axis": 0}) for value in bank]
    floats = [nodes.op("Cast", [number], {"to": ir.DataType.FLOAT}) for number in numbers]
    outside = nodes.op("Unsqueeze", [nodes.op("Less", [key, never]), constant("bank_axis", [-1])])
    result = nodes.op("Where", [outside, nodes.op("Sum", floats), answer])
    result.name, answer.name = answer.name, f"{answer.name}_alone"
    result.type, result.shape = answer.type, answer.shape
    graph.inputs.extend((key, *bank))
    graph.extend(nodes.nodes)
    for value in nodes.initializers:
        graph.register_initializer(value)
    graph.outputs[0] = result


def _plain_probe(server: Path, manifest: Manifest, client: Client) -> Probe:
    key = open_key(server / KEYS / EXPORTED, manifest)
    probe, binding = key.probe(), key.manifest.binding
    cubes = binding.geometry.to_cubes(client.decrypt(EncryptedClip(values=probe.clip, binding=binding)).values, np)
    return Probe(clip=cubes, logits=np.ascontiguousarray(client.plain_order(probe.logits)))
