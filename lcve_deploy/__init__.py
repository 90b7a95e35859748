"""Encrypted action recognition with ONNX Runtime and TensorRT.

The owner of a video transformer exports it with a secret key; whoever holds the key encrypts clips;
whoever runs the exported artifact sees neither::

    key = SecurityKey.read("key.bin")
    export("videomae.pth", "service", key=key)              # model owner
    client = Client.open("service/client", key)             # edge
    clip = client.encrypt(client.read_video("video.mp4").clip)
    logits = open_session("service/server").run(clip)       # cloud: no key
    client.predict(client.plain_order(logits))              # edge

Names are fetched from their rooms when they are first used. So importing the package, or a room of
the server, loads neither a heavy library nor a room that handles keys.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lcve_deploy.artifact import ClientSettings, EngineKind, EngineRecord, Manifest, PublicKey, check_signature
    from lcve_deploy.cipher.clips import decrypt, encrypt
    from lcve_deploy.client import Client, Prediction
    from lcve_deploy.clipfile import ClipFile, read_clip_file, write_clip_file
    from lcve_deploy.clips import Binding, EncryptedClip, Layout, PlainClip, Views
    from lcve_deploy.deployments.kubernetes.export import export_kubernetes
    from lcve_deploy.deployments.kubernetes.manifests import KubernetesOptions
    from lcve_deploy.deployments.triton.export import add_to_triton, export_triton
    from lcve_deploy.deployments.triton.model_folder import TritonOptions
    from lcve_deploy.errors import LcveError
    from lcve_deploy.exporters.checkpoints import CheckpointOptions
    from lcve_deploy.geometry import ClipGeometry
    from lcve_deploy.keys.keyspace import KeySpace, key_spaces
    from lcve_deploy.keys.orders import Orders, derive_label_order, derive_orders
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.keys.signing import SigningKey
    from lcve_deploy.model.parity import ParityReport
    from lcve_deploy.model.precision import Precision
    from lcve_deploy.model.predictions import ProblemType
    from lcve_deploy.model.transformer import Normalisation
    from lcve_deploy.remote import RemoteModel, RemoteOptions, RemoteSession
    from lcve_deploy.runtime import ProbeReport, Session, open_session, verify_engine, verify_server
    from lcve_deploy.verbs.apply import ApplyResult, apply_delta
    from lcve_deploy.verbs.audit import AuditInputs, audit
    from lcve_deploy.verbs.build import BuildOptions, build
    from lcve_deploy.verbs.export import ExportOptions, ExportResult, export
    from lcve_deploy.verbs.fastest import EngineChoice, build_fastest
    from lcve_deploy.verbs.rotate import RotateResult, rotate, rotate_delta
    from lcve_deploy.verbs.sign import sign
    from lcve_deploy.verbs.verify import verify

_ROOMS: Final = {
    "artifact": ("ClientSettings", "EngineKind", "EngineRecord", "Manifest", "PublicKey", "check_signature"),
    "cipher": ("decrypt", "encrypt"),
    "client": ("Client", "Prediction"),
    "clipfile": ("ClipFile", "read_clip_file", "write_clip_file"),
    "clips": ("Binding", "EncryptedClip", "Layout", "PlainClip", "Views"),
    "errors": ("LcveError",),
    "exporters.checkpoints": ("CheckpointOptions",),
    "exporters.kubernetes": ("KubernetesOptions",),
    "exporters.triton": ("TritonOptions",),
    "geometry": ("ClipGeometry",),
    "key": ("SecurityKey",),
    "keyspace": ("KeySpace", "key_spaces"),
    "parity": ("ParityReport",),
    "precision": ("Precision",),
    "predictions": ("ProblemType",),
    "remote": ("RemoteModel", "RemoteOptions", "RemoteSession"),
    "runtime": ("ProbeReport", "Session", "open_session", "verify_engine", "verify_server"),
    "schedule": ("Orders", "derive_label_order", "derive_orders"),
    "signing": ("SigningKey",),
    "transformer": ("Normalisation",),
    "verbs.apply": ("ApplyResult", "apply_delta"),
    "verbs.audit": ("AuditInputs", "audit"),
    "verbs.build": ("BuildOptions", "build"),
    "verbs.export": ("ExportOptions", "ExportResult", "export"),
    "verbs.fastest": ("EngineChoice", "build_fastest"),
    "verbs.kubernetes": ("export_kubernetes",),
    "verbs.rotate": ("RotateResult", "rotate", "rotate_delta"),
    "verbs.sign": ("sign",),
    "verbs.triton": ("add_to_triton", "export_triton"),
    "verbs.verify": ("verify",),
}
_HOME: Final = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
