"""Use the original implementation as the reference, if it is installed.

A Hugging Face folder is run by transformers itself, which shares no code with this package. A past version of its
loader silently replaced VideoMAE's biases by zeros, so the loaded tensors are compared with the file before the model
is used as a reference.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.exporters.checkpoints import Checkpoint
from lcve_deploy.exporters.checkpoints.reading import read_folder_weights
from lcve_deploy.exporters.reference.builtin import (
    BuiltinReference,
    Reference,
    ReferencePrecision,
    normalised,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lcve_deploy.model.transformer import Normalisation

__all__ = ["ReferenceWarning", "reference_for"]


class ReferenceWarning(UserWarning):
    """The original implementation is installed but cannot be used."""


def reference_for(checkpoint: Checkpoint, precision: ReferencePrecision = ReferencePrecision.FLOAT64) -> Reference:
    """Return the most independent reference available: transformers for Hugging Face folders, or the built-in model.

    Args:
        checkpoint: the plain model.
        precision: what the reference computes in.

    Warns:
        ReferenceWarning: transformers is installed, but cannot load the folder or did not load every tensor.
    """
    if checkpoint.path.is_dir() and importlib.util.find_spec("transformers") is not None:
        try:
            model = _load(checkpoint.path)
        except Exception as error:  # any error of another library: the built-in reference is used instead
            _warn_unused(f"it cannot load the folder ({type(error).__name__}: {error})")
        else:
            if _loaded_all(model, checkpoint.path):
                return _TransformersReference(model, checkpoint.model.normalisation, precision)
            _warn_unused("it did not load every tensor of the folder")
    return BuiltinReference(checkpoint.model, precision)


def _warn_unused(reason: str) -> None:
    text = f"the built-in reference is used instead of transformers: {reason}"
    warnings.warn(text.splitlines()[0][:300], ReferenceWarning, stacklevel=3)


class _TransformersReference:
    """A transformers model, run one clip at a time."""

    def __init__(self, model: Any, normalisation: Normalisation, precision: ReferencePrecision) -> None:
        self._model, self._normalisation, self._precision = model.to(precision.dtype), normalisation, precision

    @property
    def name(self) -> str:
        """Name of the implementation, for reports."""
        import transformers

        return f"transformers {transformers.__version__}, {self._precision}"

    def logits(self, clips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Compute logits ``[batch, classes]`` of plain clips, uint8 RGB ``[batch, T, H, W, C]``."""
        import torch

        with torch.inference_mode():
            rows = [self._model(pixel_values=self._normalised(clip)).logits for clip in clips]
        return np.concatenate([row.double().numpy() for row in rows])

    def _normalised(self, clip: npt.NDArray[np.uint8]) -> Tensor:
        return normalised(clip, self._normalisation, self._precision)


def _load(folder: Path) -> Any:
    import transformers

    log: Any = transformers.logging
    verbosity = log.get_verbosity()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        model = transformers.AutoModelForVideoClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        return model.eval()
    finally:
        log.set_verbosity(verbosity)


def _loaded_all(model: Any, folder: Path) -> bool:
    """Tell whether the model has every tensor of the file, under any name."""
    loaded = {_fingerprint(tensor.double().numpy()) for tensor in model.state_dict().values()}
    return all(_fingerprint(array) in loaded for array in read_folder_weights(folder).values())


def _fingerprint(array: npt.NDArray[Any]) -> tuple[tuple[int, ...], float, float]:
    exact = array.astype(np.float64)
    return exact.shape, float(exact.sum()), float(np.abs(exact).sum())
