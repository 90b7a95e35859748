"""A backend for Triton in Python, lean: the graph in ONNX Runtime, one run for all requests of a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

THREADS = 1


class TritonPythonModel:
    """One instance of one model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph."""
        config = json.loads(args["model_config"])
        (clips,), (logits,) = config["input"], config["output"]
        self.clips, self.logits = clips["name"], logits["name"]
        path = Path(args["model_repository"]) / args["model_version"] / config["default_model_filename"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run all requests as one batch."""
        clips = [triton.get_input_tensor_by_name(request, self.clips).as_numpy() for request in requests]
        values = clips[0] if len(clips) == 1 else np.concatenate(clips)
        (logits,) = self.session.run([self.logits], {self.clips: values})
        parts = np.split(logits, np.cumsum([len(clip) for clip in clips])[:-1])
        return [triton.InferenceResponse([triton.Tensor(self.logits, part)]) for part in parts]
