"""Table of codebases whose ``.pth`` files share the same weight names, and how they differ.

Source: the training scripts and data sets of MCG-NJU/VideoMAE, OpenGVLab/VideoMAEv2,
ruiwang2021/mvd, OpenGVLab/unmasked_teacher (``single_modality``) and OpenGVLab/InternVideo
(``InternVideo1/Pretrain/VideoMAE``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from lcve_deploy.exporters.checkpoints.positions import (
    TableFunction,
    internvideo_table,
    mvd_table,
    umt_table,
    videomae_table,
)
from lcve_deploy.model.preprocess import Sampling

__all__ = ["DETECTOR_ARGUMENTS", "FAMILIES", "Family", "OfficialFamily"]


class Family(StrEnum):
    """Codebase that wrote an official file."""

    VIDEOMAE = "videomae"
    VIDEOMAE_V2 = "videomae-v2"
    MVD = "mvd"
    UMT = "umt"
    INTERNVIDEO = "internvideo"


@dataclass(frozen=True, kw_only=True)
class OfficialFamily:
    """Facts about a codebase that its weight names do not show.

    Args:
        title: name of the codebase.
        unique_arguments: arguments that only its training script has; any one of them identifies the codebase.
        positions: description of the positions that it computes if the file has none.
        table: function that computes these positions.
        learned: whether the file may have learned positions.
        cosine: whether the codebase supports cosine attention.
        class_token: whether the codebase supports a class token.
        frames: default number of frames in a clip.
        sampling: sampling by value of the argument ``data_set``.
        sparse: values of ``data_set`` for which the argument ``sparse_sample`` applies.
    """

    title: str
    unique_arguments: frozenset[str] = frozenset()
    positions: str
    table: TableFunction
    learned: bool = True
    cosine: bool = False
    class_token: bool = False
    frames: int = 16
    sampling: Mapping[str, Sampling]
    sparse: frozenset[str] = field(default_factory=frozenset)


def _sampling(kinetics: str, uniform: str) -> dict[str, Sampling]:
    return dict.fromkeys(kinetics.split(), Sampling.KINETICS) | dict.fromkeys(uniform.split(), Sampling.UNIFORM)


_SINUSOID: Final = "VideoMAE's sinusoid over the flattened index"
_KINETICS: Final = "Kinetics-400 Kinetics-600 Kinetics-700"

FAMILIES: Final = {
    Family.VIDEOMAE: OfficialFamily(
        title="VideoMAE",
        positions=_SINUSOID,
        table=videomae_table,
        sampling=_sampling("Kinetics-400 UCF101 HMDB51", "SSV2"),
    ),
    Family.VIDEOMAE_V2: OfficialFamily(
        title="VideoMAEv2",
        unique_arguments=frozenset({"fname_tmpl", "start_idx"}),
        positions=_SINUSOID,
        table=videomae_table,
        cosine=True,
        sampling=_sampling(f"{_KINETICS} Kinetics-710 MIT UCF101 HMDB51 Diving48", "SSV2"),
        sparse=frozenset({"Kinetics-400", "MIT"}),
    ),
    Family.MVD: OfficialFamily(
        title="MVD",
        unique_arguments=frozenset({"use_cls_token", "remove_pos_emb"}),
        positions="MVD's three-dimensional sines and cosines",
        table=mvd_table,
        learned=False,
        class_token=True,
        sampling=_sampling("Kinetics-400 UCF101 HMDB51", "SSV2"),
    ),
    Family.UMT: OfficialFamily(
        title="UMT",
        unique_arguments=frozenset({"checkpoint_num", "delete_head", "use_decord", "test_best"}),
        positions="UMT's sinusoid (VideoMAE's for 8 frames of 14x14 cubes)",
        table=umt_table,
        frames=8,
        sampling=_sampling("Kinetics UCF101 HMDB51", "Kinetics_sparse mitv1_sparse SSV2"),
    ),
    Family.INTERNVIDEO: OfficialFamily(
        title="InternVideo1",
        unique_arguments=frozenset({"num_segment", "extra_decay"}),
        positions="InternVideo1's sinusoid (interpolated from 16 frames of 224 pixels)",
        table=internvideo_table,
        sampling=_sampling(f"{_KINETICS} MixKinetics UCF101 HMDB51 Diving48", "SSV2"),
        sparse=frozenset({"Kinetics-400"}),
    ),
}

DETECTOR_ARGUMENTS: Final = frozenset({"val_freq", "close_amp"})
"""Arguments that only scripts for detection in AVA have, not those for classification."""
