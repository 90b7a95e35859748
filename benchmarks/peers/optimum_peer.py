"""optimum-onnx: ``optimum_peer.py MODEL_FOLDER OUTPUT_FOLDER``, in .venv-optimum.

optimum-onnx 0.1 knows no VideoMAE, so its export takes the input and output from the configuration here.
"""

from __future__ import annotations

import sys

from optimum.exporters.onnx import main_export
from optimum.exporters.onnx.config import OnnxConfig
from optimum.utils import DummyVisionInputGenerator, NormalizedVisionConfig
from transformers import AutoConfig


class Clips(DummyVisionInputGenerator):  # type: ignore[misc]
    SUPPORTED_INPUT_NAMES = ("pixel_values",)

    def generate(self, input_name, framework="pt", int_dtype="int64", float_dtype="fp32"):  # type: ignore[no-untyped-def]
        config = self.normalized_config
        shape = [self.batch_size, config.num_frames, self.num_channels, config.image_size, config.image_size]
        return self.random_float_tensor(shape, framework=framework, dtype=float_dtype)


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
    model, output = sys.argv[1:]
    config = VideoMAE(AutoConfig.from_pretrained(model), task="image-classification")
    main_export(
        model, output, task="image-classification", library_name="transformers", custom_onnx_configs={"model": config}
    )


if __name__ == "__main__":
    main()
