"""A backend for Triton named ``onnxruntime``, in Python: it stands in for the one that containers bring.

It runs in Triton's own Python process. What it logs is what tests ask of it: the batches that reached the model.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """One instance of one model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph."""
        config = json.loads(args["model_config"])
        (clips,), (logits,) = config["input"], config["output"]
        self.clips, self.logits = clips["name"], logits["name"]
        self.model = f"{args['model_name']}/{args['model_version']}"
        self.wait = float(config["parameters"].get("tests_wait", {}).get("string_value", "0"))
        path = Path(args["model_repository"]) / args["model_version"] / config["default_model_filename"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run all requests as one batch."""
        clips = [triton.get_input_tensor_by_name(request, self.clips).as_numpy() for request in requests]
        sizes = [len(clip) for clip in clips]
        triton.Logger.log_info(f"{self.model} runs batches of {sizes}")
        time.sleep(self.wait)
        (logits,) = self.session.run([self.logits], {self.clips: np.concatenate(clips)})
        parts = np.split(logits, np.cumsum(sizes)[:-1])
        return [triton.InferenceResponse([triton.Tensor(self.logits, part)]) for part in parts]
