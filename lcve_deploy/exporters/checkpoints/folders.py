"""What a row of a family of Hugging Face folders states. The rows are in ``video_families`` and ``image_families``.

A family is a ``model_type``, and an architecture is a class of transformers: the same encoder with another readout. A
row says what differs; everything else is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.exporters.checkpoints.layouts import Rule
from lcve_deploy.exporters.checkpoints.settings import Settings
from lcve_deploy.model.transformer import Normalisation, TransformerConfig

__all__ = ["Architecture", "Family", "Fields", "Input", "Output", "Source", "Weights"]

Fields = Mapping[str, Any]
"""Fields of ``TransformerConfig`` by name."""

Source = dict[str, npt.NDArray[np.floating]]
"""Weights by their names in the checkpoint."""

Weights = dict[str, npt.NDArray[Any]]
"""Weights by their names in ``weight_shapes``."""

Configure = Callable[[Settings], Fields]
Prepare = Callable[[Source, TransformerConfig], Source]
Finish = Callable[[Weights, TransformerConfig, Settings], Weights]


class Input(StrEnum):
    """How transformers takes a clip."""

    CLIP = "clip"
    VIDEO = "video"
    """A clip under the name that newer classes have."""
    IMAGE = "image"
    PATCHES = "patches"
    """An image as rows of patches, with the shape of their grid."""


class Output(StrEnum):
    """What of the output of transformers is the model's output."""

    LOGITS = "logits"
    POOLED = "pooler_output"
    EMBEDDING = "image_embeds"
    FIRST_TOKEN = "first token of last_hidden_state"
    MEAN = "mean of last_hidden_state"
    ENCODER_MEAN = "mean of last_hidden_state, without the predictor"
    IMAGE_FEATURES = "get_image_features"


def _nothing(settings: Settings) -> Fields:
    return {}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Facts about one class of transformers.

    Args:
        fields: fields of the configuration that differ from those of the family.
        output: what of transformers' output the model gives.
        unused: patterns of names of weights that the class has and does not use.
        rules: rules in addition to those of the family.
        prepare: changes the checkpoint's weights, before they are assembled.
    """

    fields: Configure = _nothing
    output: Output = Output.LOGITS
    unused: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    prepare: tuple[Prepare, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Family:
    """Facts about one model type.

    Args:
        architectures: classes that are read; the first is assumed if ``config.json`` names none.
        rules: names of the weights.
        processor: default class of the processor.
        defaults: default configuration, for settings that ``config.json`` omits.
        normalisation: default input normalisation; None if it must be stated.
        fields: fields of the configuration, apart from those that all families share.
        fixed: settings that the model type implies, whatever ``config.json`` says.
        implied: settings that follow from others, whatever ``config.json`` says.
        section: name of the part of ``config.json`` that configures the encoder; empty if it is the whole.
        sectionless: whether the whole file configures the encoder if it has no such part.
        override: name of a part that old files may also have, and that then counts; empty if none.
        switches: names of source weights that do not exist if a setting is false.
        prepare: changes the checkpoint's weights, before they are assembled.
        finish: adds weights that follow from the configuration.
        unused: patterns of names of weights that no architecture uses.
        resizable: whether the model takes clips of other sizes than the one in ``config.json``.
        any_length: whether the model takes clips of other lengths than the one in ``config.json``.
        input: how transformers takes a clip.
        raw_tokens: whether tokens of transformers are those before the final norm.
    """

    architectures: Mapping[str, Architecture]
    rules: tuple[Rule, ...]
    processor: str
    defaults: Mapping[str, Any]
    normalisation: Normalisation | None
    fields: Configure = _nothing
    fixed: Mapping[str, Any] = field(default_factory=dict)
    implied: Mapping[str, Callable[[Settings], Any]] = field(default_factory=dict)
    section: str = ""
    sectionless: bool = False
    override: str = ""
    switches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prepare: tuple[Prepare, ...] = ()
    finish: tuple[Finish, ...] = ()
    unused: tuple[str, ...] = ()
    resizable: bool = False
    any_length: bool = False
    input: Input = Input.CLIP
    raw_tokens: bool = False
