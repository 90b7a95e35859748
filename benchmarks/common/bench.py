"""What the parts share: one checkpoint, its artifact, the plain export and one clip, each made when first asked for."""

from __future__ import annotations

import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.models import BASE, Size, save_checkpoint, videomae
from benchmarks.common.plain import export_plain, normalised, plain_cubes, write_plain_server
from benchmarks.common.processes import say
from lcve_deploy import Client, PlainClip, SecurityKey, export
from lcve_deploy.artifact import EngineKind, list_engines
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.model.precision import Precision
from lcve_deploy.model.transformer import VideoTransformer
from lcve_deploy.samples import real_clips
from lcve_deploy.verbs.build import BuildOptions, build
from lcve_deploy.verbs.export import ExportOptions

THREADS = 2


class Bench:
    """A folder of models for one run; parts are processes of their own, and meet in it.

    Args:
        work: the folder.
        size: of the model.
    """

    def __init__(self, work: Path, *, size: Size = BASE) -> None:
        self.work, self.size = work, size

    @cached_property
    def checkpoint(self) -> Path:
        path = self.work / "videomae.pth"
        if not path.exists():
            say(f"  making a {self.size.name} with random weights")
            part = path.with_name("checkpoint.part")  # a run that is interrupted leaves no half of it
            save_checkpoint(self.size, part)
            part.rename(path)
        return path

    @cached_property
    def key_file(self) -> Path:
        path = self.work / "key.bin"
        if not path.exists():
            SecurityKey.create().write(path)
        return path

    @cached_property
    def key(self) -> SecurityKey:
        return SecurityKey.read(self.key_file)

    @cached_property
    def artifact(self) -> Path:
        """Exported with the default checks."""
        folder = self.work / "artifact"
        if not folder.exists():
            say("  exporting it, with parity")
            options = ExportOptions(checkpoint=self.size.options)
            export(self.checkpoint, folder, key=self.key, options=options)
        return folder

    @property
    def server(self) -> Path:
        return self.artifact / "server"

    @cached_property
    def plain_server(self) -> Path:
        folder = self.work / "plain"
        if not folder.exists():
            part = self.work / "plain.part"
            shutil.rmtree(part, ignore_errors=True)
            write_plain_server(part, self.transformer, self.server, self.client)
            part.rename(folder)
        return folder

    @cached_property
    def plain_export(self) -> Path:
        """The PyTorch model as torch.onnx.export writes it."""
        path = self.work / "traced/model.onnx"
        if not path.exists():
            say("  torch.onnx.export of the plain model")
            path.parent.mkdir()
            export_plain(videomae(self.size), self.size, path)
        return path

    @cached_property
    def client(self) -> Client:
        return Client.open(self.artifact / "client", self.key)

    @cached_property
    def transformer(self) -> VideoTransformer:
        return load_checkpoint(self.checkpoint, self.size.options).model

    @cached_property
    def clip(self) -> npt.NDArray[np.uint8]:
        """One clip of a real film, ``[1, T, H, W, C]``."""
        return real_clips(self.client.settings.binding.geometry)[:1]

    @cached_property
    def normalised(self) -> npt.NDArray[np.float32]:
        """The clip as plain models take it, ``[1, C, T, H, W]``."""
        return normalised(self.clip)

    @cached_property
    def encrypted(self) -> EncryptedClip:
        return self.client.encrypt(PlainClip(values=self.clip))

    def engine(self, kind: EngineKind, precision: Precision) -> str | None:
        """Name of an engine of the artifact, built here; None for the graph itself."""
        if (kind, precision) == (EngineKind.ONNXRUNTIME, Precision.FP32):
            return None
        clips = self.client.encrypt(PlainClip(values=real_clips(self.client.settings.binding.geometry)))
        return _built(self.server, BuildOptions(kind=kind, precision=precision), clips=clips)

    def plain_engine(self, kind: EngineKind, precision: Precision) -> str | None:
        """The same of the plain server, on the same clips; a permutation of them changes no range of int8."""
        if (kind, precision) == (EngineKind.ONNXRUNTIME, Precision.FP32):
            return None
        clips = plain_cubes(real_clips(self.client.settings.binding.geometry), self.plain_server)
        return _built(self.plain_server, BuildOptions(kind=kind, precision=precision), clips=clips)


def _built(server: Path, options: BuildOptions, **more: Any) -> str:
    name = options.engine_name
    if name not in list_engines(server):
        say(f"  building {name} in {server.name}")
        build(server, options, **more)
    return name
