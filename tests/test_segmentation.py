"""Dense prediction on encrypted clips: the moving digits, segmented as the plain model does it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.moving_digits.segmentation import HEAD, NAMES, OPTIONS, intersection_over_union, labelled_clips
from examples.moving_digits.show_segmentation import (
    classes_of,
    export_segmentation,
    plain_logits,
    run,
)
from lcve_deploy import Client, SecurityKey
from lcve_deploy.exporters.checkpoints.class_vectors import read_class_vectors

CLIPS = 8


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the operator has for some held-out clips, what the key holder has, and what the plain model answers."""
    key = SecurityKey(bytes(range(32)))
    service = export_segmentation(tmp_path_factory.mktemp("segmentation"), key)
    clips, _ = labelled_clips(CLIPS, held_out=True, seed=21)
    theirs, ours = run(service, Client.open(service / "client", key), clips)
    return theirs, ours, plain_logits(clips)


def test_the_key_holder_has_the_answers_of_the_plain_model(
    answers: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    _, ours, plain = answers
    np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-4 * np.abs(plain).max())
    assert (classes_of(ours) == classes_of(plain)).mean() > 0.999


def test_encrypted_clips_are_segmented_well_and_the_operator_sees_noise(
    answers: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    theirs, ours, _ = answers
    _, labels = labelled_clips(CLIPS, held_out=True, seed=21)
    assert intersection_over_union(classes_of(ours), labels).mean() > 0.6
    assert intersection_over_union(classes_of(theirs), labels).mean() < 0.2


def test_the_head_is_small_and_names_its_classes() -> None:
    vectors = read_class_vectors(HEAD)
    assert (vectors.names, vectors.unit, vectors.weight.shape) == (NAMES, False, (9, 128))
    assert HEAD.stat().st_size < 10_000
    assert replace(OPTIONS, class_vectors=HEAD).output is OPTIONS.output
    assert Path(HEAD).with_suffix(".log").is_file()
