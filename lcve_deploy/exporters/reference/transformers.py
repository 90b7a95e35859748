"""Use the original implementation as the reference, if it is installed.

A Hugging Face folder is run by transformers itself, which shares no code with this package. A past version of its
loader silently replaced VideoMAE's biases by zeros, so the loaded tensors are compared with the file before the model
is used as a reference.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.exporters.checkpoints import Checkpoint
from lcve_deploy.exporters.checkpoints.folders import Input, Output
from lcve_deploy.exporters.checkpoints.huggingface import FolderModel, is_unused, model_of
from lcve_deploy.exporters.checkpoints.reading import read_folder_weights
from lcve_deploy.exporters.checkpoints.timm import is_timm
from lcve_deploy.exporters.reference.builtin import (
    BuiltinReference,
    Reference,
    ReferencePrecision,
    normalised,
)
from lcve_deploy.exporters.reference.class_vectors import ClassVectorReference
from lcve_deploy.model.transformer import FinalNorm, Readout, VideoTransformer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ReferenceWarning", "reference_for"]


Inputs = Mapping[str, Any]
Read = Callable[[Any, Inputs], Any]


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
    if checkpoint.altered_from is not None:
        return _of_altered(checkpoint, checkpoint.altered_from, precision)
    loaded = _loaded(checkpoint)
    if loaded is None:
        return BuiltinReference(checkpoint.model, precision)
    model, folder = loaded
    return _TransformersReference(model, folder, checkpoint.model, precision, _OUTPUTS[folder.architecture.output])


def _loaded(checkpoint: Checkpoint) -> tuple[Any, FolderModel] | None:
    """Load the folder of a checkpoint with transformers; return None if that is not possible."""
    path, installed = checkpoint.path, importlib.util.find_spec("transformers") is not None
    if not installed or not path.is_dir() or is_timm(path):
        return None
    try:
        folder = model_of(path)
        model = _load(path, folder.name)
    except Exception as error:  # any error of another library: the built-in reference is used instead
        _warn_unused(f"it cannot load the folder ({type(error).__name__}: {error})")
        return None
    if _loaded_all(model, path):
        return model, folder
    _warn_unused("it did not load every tensor of the folder")
    return None


def _of_altered(checkpoint: Checkpoint, before: Checkpoint, precision: ReferencePrecision) -> Reference:
    """Return the reference of a checkpoint whose answer was changed.

    It is that of the vector if only classes were added, and the tokens of transformers if they are the same.
    """
    config, vectors = checkpoint.model.config, checkpoint.class_vectors
    adds_classes = not before.model.config.head and config.readout is before.model.config.readout
    if vectors is not None and adds_classes and not before.model.config.unit:
        return ClassVectorReference(reference_for(before, precision), vectors)
    loaded = _loaded(before) if vectors is None and config.readout is Readout.TOKENS and not config.projection else None
    if loaded is None or (loaded[1].family.raw_tokens and config.final_norm is not FinalNorm.NONE):
        return BuiltinReference(checkpoint.model, precision)
    read = _tokens_of_classifier if before.model.config.head else _tokens
    return _TransformersReference(*loaded, checkpoint.model, precision, read)


def _warn_unused(reason: str) -> None:
    text = f"the built-in reference is used instead of transformers: {reason}"
    warnings.warn(text.splitlines()[0][:300], ReferenceWarning, stacklevel=3)


class _TransformersReference:
    """A transformers model, run one clip at a time."""

    def __init__(
        self, model: Any, folder: FolderModel, plain: VideoTransformer, precision: ReferencePrecision, read: Read
    ) -> None:
        self._model, self._plain, self._precision = model.to(precision.dtype), plain, precision
        self._inputs, self._read = _INPUTS[folder.family.input], read

    @property
    def name(self) -> str:
        """Name of the implementation, for reports."""
        import transformers

        return f"transformers {transformers.__version__}, {self._precision}"

    def logits(self, clips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Compute outputs ``[batch, classes]`` of plain clips, uint8 RGB ``[batch, T, H, W, C]``."""
        import torch

        with torch.inference_mode():
            rows = [self._read(self._model, self._inputs(self._normalised(clip), self._plain)) for clip in clips]
        return np.concatenate([row.double().numpy() for row in rows])

    def _normalised(self, clip: npt.NDArray[np.uint8]) -> Tensor:
        return normalised(clip, self._plain.normalisation, self._precision)


def _clip(clip: Tensor, plain: VideoTransformer) -> Inputs:
    return {"pixel_values": clip}


def _video(clip: Tensor, plain: VideoTransformer) -> Inputs:
    return {"pixel_values_videos": clip}


def _image(clip: Tensor, plain: VideoTransformer) -> Inputs:
    return {"pixel_values": clip[:, 0]}


def _patches(clip: Tensor, plain: VideoTransformer) -> Inputs:
    """Return an image as SigLIP 2 takes it: rows of patches without padding, and the shape of their grid."""
    import torch

    (_, rows, columns), (_, height, width) = plain.config.geometry.grid, plain.config.geometry.cube
    split = clip[0, 0].reshape(-1, rows, height, columns, width).permute(1, 3, 2, 4, 0)
    return {
        "pixel_values": split.reshape(1, rows * columns, -1),
        "pixel_attention_mask": torch.ones((1, rows * columns), dtype=torch.int32),
        "spatial_shapes": torch.tensor([[rows, columns]]),
    }


def _tokens(encoder: Any, inputs: Inputs) -> Any:
    """Return the tokens of an encoder, or of the image tower of a larger model."""
    tower = getattr(encoder, "vision_model", encoder)
    options = {"skip_predictor": True} if "pixel_values_videos" in inputs else {}
    return tower(**inputs, **options).last_hidden_state


def _tokens_of_classifier(model: Any, inputs: Inputs) -> Any:
    return _tokens(model.base_model, inputs)


_INPUTS: Final[Mapping[Input, Callable[[Any, VideoTransformer], Inputs]]] = {
    Input.CLIP: _clip,
    Input.VIDEO: _video,
    Input.IMAGE: _image,
    Input.PATCHES: _patches,
}
_OUTPUTS: Final[Mapping[Output, Read]] = {
    Output.LOGITS: lambda model, inputs: model(**inputs).logits,
    Output.POOLED: lambda model, inputs: model(**inputs).pooler_output,
    Output.EMBEDDING: lambda model, inputs: model(**inputs).image_embeds,
    Output.FIRST_TOKEN: lambda model, inputs: model(**inputs).last_hidden_state[:, 0],
    Output.ENCODER_MEAN: lambda model, inputs: model(**inputs, skip_predictor=True).last_hidden_state.mean(1),
    Output.MEAN: lambda model, inputs: model(**inputs).last_hidden_state.mean(1),
    Output.IMAGE_FEATURES: lambda model, inputs: model.get_image_features(**inputs).pooler_output,
}


def _load(folder: Path, architecture: str) -> Any:
    import transformers

    log: Any = transformers.logging
    verbosity = log.get_verbosity()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        model = getattr(transformers, architecture).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        return model.eval()
    finally:
        log.set_verbosity(verbosity)


def _loaded_all(model: Any, folder: Path) -> bool:
    """Tell whether the model has every tensor of the file that it uses, under any name, whole or in two halves."""
    loaded = {_fingerprint(tensor.double().numpy()) for tensor in model.state_dict().values()}
    used = read_folder_weights(folder, unused=is_unused(model_of(folder)))
    return all(
        _fingerprint(array) in loaded or all(_fingerprint(half) in loaded for half in np.array_split(array, 2))
        for array in used.values()
    )


def _fingerprint(array: npt.NDArray[Any]) -> tuple[tuple[int, ...], float, float]:
    exact = array.astype(np.float64)
    return exact.shape, float(exact.sum()), float(np.abs(exact).sum())
