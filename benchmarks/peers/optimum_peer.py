"""optimum-onnx: ``optimum_peer.py MODEL_FOLDER OUTPUT.onnx``, in .venv-optimum.

optimum-onnx 0.1 knows neither VideoMAE nor a task for clips, so the configuration is here, and its command
(``main_export``) cannot load the model: ``export`` gets it loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

from optimum.exporters.onnx import export
from optimum.exporters.onnx.config import OnnxConfig
from optimum.utils import DummyVisionInputGenerator, NormalizedVisionConfig
from transformers import VideoMAEForVideoClassification


class Clips(DummyVisionInputGenerator):  # type: ignore[misc]
    SUPPORTED_INPUT_NAMES = ("pixel_values",)

    def __init__(self, task, normalized_config, **options):  # type: ignore[no-untyped-def]
        super().__init__(task, normalized_config, **options)
        self._shape = [self.batch_size, normalized_config.config.num_frames, 3, self.height, self.width]

    def generate(self, input_name, framework="pt", int_dtype="int64", float_dtype="fp32"):  # type: ignore[no-untyped-def]
        return self.random_float_tensor(self._shape, framework=framework, dtype=float_dtype)


class VideoMAE(OnnxConfig):  # type: ignore[misc]
    NORMALIZED_CONFIG_CLASS = NormalizedVisionConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (Clips,)
    DEFAULT_ONNX_OPSET = 18

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {"pixel_values": {0: "batch"}}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {"logits": {0: "batch"}}


def main() -> None:
    folder, output = sys.argv[1:]
    model = VideoMAEForVideoClassification.from_pretrained(folder).eval()
    config = VideoMAE(model.config, task="image-classification")
    part = Path(output).with_name("part.onnx")
    export(model, config, part, opset=config.DEFAULT_ONNX_OPSET)
    part.rename(output)


if __name__ == "__main__":
    main()
