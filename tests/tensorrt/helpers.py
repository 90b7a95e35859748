"""What the tests in this folder share."""

from __future__ import annotations

import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lcve_deploy import (
    EncryptedClip,
    Layout,
    PlainClip,
    SecurityKey,
    derive_orders,
    encrypt,
)
from lcve_deploy.artifact import EngineKind, EngineRecord, Manifest, ModelSpec, Profile, TensorSpec, read_manifest
from lcve_deploy.artifact.model_spec import output_spec
from lcve_deploy.cipher.weights import scramble
from lcve_deploy.clips import SCHEME
from lcve_deploy.exporters.bank import bank_specs, keyed_tensors
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.int8 import calibrate, write_quantised
from lcve_deploy.exporters.low_precision import write_low_precision
from lcve_deploy.exporters.onnx import write_onnx
from lcve_deploy.libraries.cuda import Gpu
from lcve_deploy.libraries.tensorrt import (
    TENSORRT,
    TensorRT,
)
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.model.precision import Precision
from lcve_deploy.model.transformer import VideoTransformer
from lcve_deploy.runtime.backends.tensorrt import TensorRTSession
from lcve_deploy.runtime.key_folders import KeyFolders
from lcve_deploy.runtime.session import SessionOptions
from tests.conftest import ORACLES, SALT, SECRET, Oracle
from tests.support.artifacts import KEY, binding_of

TINY = ORACLES["v1_model_args"]
GPU = Gpu(name="NVIDIA Nonesuch", capability="8.6")


@dataclass(frozen=True)
class Graph:
    """A scrambled model on disk, and what its manifest would say of it."""

    model: Path
    spec: ModelSpec
    tensors: dict[str, np.ndarray]


def write_graph(
    model: VideoTransformer, path: Path, *, layout: Layout = Layout.CUBES, opset: int = 20, salt: bytes = SALT
) -> Graph:
    config, key = model.config, SecurityKey(SECRET)
    scrambled = scramble(
        model,
        derive_orders(key, salt=salt, geometry=config.geometry, classes=config.classes if config.head else None),
    )
    write_onnx(scrambled, path, layout=layout, opset=opset)
    spec = ModelSpec(
        scheme=SCHEME,
        geometry=config.geometry,
        layout=layout,
        input=TensorSpec(name="clips", dtype="uint8", shape=(None, *layout.shape(config.geometry))),
        bank=bank_specs(config),
        output=output_spec(ModelOutput.of(config)),
    )
    return Graph(path, spec, keyed_tensors(scrambled))


def oracle_graph(oracle: Oracle, folder: Path, **options: Any) -> Graph:
    return write_graph(load_checkpoint(oracle.path, oracle.options).model, folder / "model.onnx", **options)


H200 = Gpu(name="NVIDIA H200", capability="9.0")


def library(module: types.ModuleType, kind: str = TENSORRT) -> TensorRT:
    return TensorRT(kind=kind, name="TensorRT", version=module.__version__, module=module)


@dataclass(frozen=True)
class Machine:
    """A server folder with a "plan", on a machine that seems to have a GPU."""

    plan: Path
    server: Path
    manifest: Manifest
    module: types.ModuleType

    def open(self, **changes: Any) -> TensorRTSession:
        weights, device = changes.pop("weights", None), changes.pop("device", None)
        options = SessionOptions(engine="x", device=device, max_keys=changes.pop("max_keys", 4))
        fields: dict[str, Any] = {
            "builder": {TENSORRT: self.module.__version__},
            "profile": Profile(minimum=1, optimum=2, maximum=3),
        }
        engine = engine_record(**{**fields, **changes})
        folders = KeyFolders(self.server, self.manifest)
        return TensorRTSession(self.plan, self.manifest.model, engine, options, weights=weights, folders=folders)


def engine_record(*, kind: EngineKind = EngineKind.TENSORRT, **fields: Any) -> EngineRecord:
    """A record in which only what a session reads is worth anything."""
    return EngineRecord(name="x", kind=kind, precision=Precision.FP32, target="", manifest_sha256="0" * 64, **fields)


def encrypted(server: Path, clip: np.ndarray, batch: int, name: str = KEY) -> EncryptedClip:
    """Shifted clips under the test's key, with the salt of a key folder."""
    shifted = np.stack([np.roll(clip, i, axis=1) for i in range(batch)])
    binding = binding_of(server, name)
    orders = derive_orders(SecurityKey(SECRET), salt=bytes.fromhex(binding.salt), geometry=binding.geometry)
    return encrypt(PlainClip(values=shifted), orders)


def open_real(plan: Path, server: Path, real: TensorRT, profile: Profile) -> TensorRTSession:
    engine = engine_record(kind=EngineKind(real.kind), builder={real.kind: real.version}, profile=profile)
    manifest = read_manifest(server)
    return TensorRTSession(plan, manifest.model, engine, folders=KeyFolders(server, manifest))


def typed(graph: Graph, precision: Precision, encrypted: np.ndarray, folder: Path) -> Path:
    """Write the graph in another precision."""
    target = folder / str(precision) / "model.onnx"
    target.parent.mkdir()
    if precision is Precision.INT8:
        write_quantised(graph.model, target, calibrate(graph.model, encrypted, graph.tensors))
    else:
        write_low_precision(graph.model, target, precision)
    return target
