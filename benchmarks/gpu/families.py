"""Large models of other families on a GPU, from folders that transformers writes, with random weights:

    python -m benchmarks.gpu.families --models vit,vjepa2-64

Each is exported with its checks, built for ONNX Runtime's CUDA provider, and compared with transformers in float32 on
the same GPU. Figures are added to ``benchmarks/results/gpu.json``; the page is written again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.common.contestants import reason
from benchmarks.common.devices import median_seconds
from benchmarks.common.files import DOCS, RESULTS, ROOT
from benchmarks.common.processes import say
from benchmarks.gpu.backends import bound_run, engine_options
from benchmarks.gpu.case import agreement
from benchmarks.gpu.page import render
from lcve_deploy import Client, PlainClip, SecurityKey, SessionOptions, export, open_session
from lcve_deploy.artifact import EngineKind
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.model.precision import Precision
from lcve_deploy.model.transformer import Normalisation
from lcve_deploy.runtime.session import Provider
from lcve_deploy.samples import real_clips
from lcve_deploy.verbs.build import build

_LARGE: Final[dict[str, Any]] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
_TINY: Final[dict[str, Any]] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
_LABELS: Final[dict[str, Any]] = {"num_labels": 1000}
_STD: Final = 0.03
"""Of random weights: logits of some size, in float16 too."""
_COMPARED: Final = 4


def _wide(sizes: dict[str, Any]) -> dict[str, Any]:
    return {**sizes, "intermediate_size": 4 * sizes["hidden_size"]}


def _vit(sizes: dict[str, Any], tiny: bool) -> Any:
    import transformers

    pixels = 64 if tiny else 224
    return transformers.ViTForImageClassification(transformers.ViTConfig(**_wide(sizes), image_size=pixels, **_LABELS))


def _dinov2(sizes: dict[str, Any], tiny: bool) -> Any:
    import transformers

    pixels = 70 if tiny else 224
    return transformers.Dinov2ForImageClassification(
        transformers.Dinov2Config(**sizes, patch_size=14, image_size=pixels, **_LABELS)
    )


def _siglip(sizes: dict[str, Any], tiny: bool) -> Any:
    import transformers

    vision = {**_wide(sizes), "image_size": 64 if tiny else 256, "patch_size": 16}
    return transformers.SiglipForImageClassification(transformers.SiglipConfig(vision_config=vision, **_LABELS))


def _vjepa2(frames: int) -> Callable[[dict[str, Any], bool], Any]:
    def make(sizes: dict[str, Any], tiny: bool) -> Any:
        import transformers

        more: dict[str, Any] = {"frames_per_clip": frames, "crop_size": 64 if tiny else 256, "num_labels": 174}
        return transformers.VJEPA2ForVideoClassification(transformers.VJEPA2Config(**sizes, **more))

    return make


MODELS: Final = {
    "vit": ("ViT-L, 224 pixels", _vit, (1, 8)),
    "dinov2": ("DINOv2-L, 224 pixels", _dinov2, (1, 8)),
    "siglip": ("SigLIP-L, 256 pixels", _siglip, (1, 8)),
    "vjepa2-16": ("V-JEPA 2 ViT-L, 16 frames of 256 pixels", _vjepa2(16), (1, 8)),
    "vjepa2-64": ("V-JEPA 2 ViT-L, 64 frames of 256 pixels", _vjepa2(64), (1, 2)),
}
"""Label, how it is made, and sizes of batches."""


class Case:
    """A model in a folder of its own: its checkpoint, artifact and clips.

    Args:
        name: of ``MODELS``.
        work: folder that keeps what has been made.
        device: ``cuda`` or ``cpu``.
        tiny: a small model of the family.
    """

    def __init__(self, name: str, work: Path, device: str, *, tiny: bool) -> None:
        self._label, self._make, self._batches = MODELS[name]
        self._folder, self._device, self._tiny = work / name, device, tiny

    def figures(self, precision: Precision) -> dict[str, Any]:
        """Times and differences of an engine."""
        self._export()
        client = Client.open(self._folder / "artifact/client", SecurityKey.read(self._folder / "key.bin"))
        films = real_clips(client.settings.binding.geometry)
        clips = np.stack([np.roll(films[i % len(films)], 7 * i, axis=2) for i in range(max(self._batches))])
        server = self._folder / "artifact/server"
        more = {"provider": Provider.CUDA} if self._device == "cuda" else {}
        options = engine_options(EngineKind.ONNXRUNTIME, precision, self._batches, name=f"x-{precision}", **more)
        if not (server / "engines" / options.engine_name).exists():
            build(server, options)
        session = open_session(server, SessionOptions(engine=options.engine_name))
        few = clips[:_COMPARED]
        told = agreement(self._plain(few), client.plain_order(session.run(client.encrypt(PlainClip(values=few)))))
        times = {}
        for batch in self._batches:
            run = bound_run(session, client.encrypt(PlainClip(values=clips[:batch])), self._device)
            times[str(batch)] = 1e3 * median_seconds(run, self._device)
        return {"label": self._label, "precision": str(precision), **told, "milliseconds": times}

    def _export(self) -> None:
        if (self._folder / "artifact").exists():
            return
        import torch

        say(f"{self._label}: making and exporting it")
        self._folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        model = self._make(dict(_TINY if self._tiny else _LARGE), self._tiny)
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=_STD)
        model.save_pretrained(self._checkpoint)
        key = SecurityKey.create()
        key.write(self._folder / "key.bin")
        export(self._checkpoint, self._folder / "artifact", key=key)

    @property
    def _checkpoint(self) -> Path:
        return self._folder / "checkpoint"

    def _plain(self, clips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Logits of transformers in float32, without TF32, for plain clips."""
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        made = self._make(dict(_TINY if self._tiny else _LARGE), self._tiny)
        model = type(made).from_pretrained(self._checkpoint).eval().to(self._device)
        name = "pixel_values_videos" if "videos" in model.main_input_name else "pixel_values"
        normalisation: Normalisation = load_checkpoint(self._checkpoint).model.normalisation
        mean, std = (torch.tensor(x, device=self._device) for x in (normalisation.mean, normalisation.std))
        logits = []
        with torch.inference_mode():
            for clip in clips:
                frames = ((torch.from_numpy(clip).to(self._device).float() / 255 - mean) / std).permute(0, 3, 1, 2)
                values = frames[None] if name == "pixel_values_videos" else frames
                logits.append(model(**{name: values}).logits.double().cpu().numpy())
        return np.concatenate(logits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--precisions", default="fp16")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models, to try the script")
    parser.add_argument("--output", type=Path, help="folder for gpu.json and gpu.md, in place of the repository's own")
    parser.add_argument("--work", type=Path, default=ROOT / "build/gpu/families", help="folder that keeps the exports")
    given = parser.parse_args()
    if given.device == "cpu" and given.output is None:
        parser.error("--device cpu needs --output: the repository's page is for GPUs")
    results, page = (given.output or RESULTS) / "gpu.json", (given.output or DOCS) / "gpu.md"
    content: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    for name in given.models.split(","):
        for precision in given.precisions.split(","):
            case = Case(name, given.work, given.device, tiny=given.tiny)
            try:
                figures = case.figures(Precision(precision))
            except Exception as error:  # what a library says of one model ends no other
                figures = {"label": MODELS[name][0], "precision": precision, "reason": reason(error)}
            content.setdefault("families", {})[f"{name}-{precision}"] = figures
            results.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            page.write_text(render(content), encoding="utf-8")


if __name__ == "__main__":
    main()
