"""The committed example: what the demo promises, checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from examples.moving_digits.data import digit_images, held_out_clips
from lcve_deploy import (
    CheckpointOptions,
    Client,
    ExportOptions,
    PlainClip,
    SecurityKey,
    export,
    open_session,
)
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference

EXAMPLE = Path(__file__).parents[1] / "examples/moving_digits"
OPTIONS = CheckpointOptions(heads=4, frames=16, size=64)
CLIPS = 96


@pytest.fixture(scope="module")
def example() -> tuple[np.ndarray, np.ndarray]:
    return held_out_clips(CLIPS)


def test_the_checkpoint_is_small() -> None:
    assert (EXAMPLE / "moving_digits.pth").stat().st_size <= 8_000_000


def test_no_digit_image_is_on_both_sides_of_the_split() -> None:
    training, held_out = digit_images(held_out=False), digit_images(held_out=True)
    assert len(training) + len(held_out) == 1797
    assert len(held_out) > 300
    seen = {image.tobytes() for image in training}
    assert not any(image.tobytes() in seen for image in held_out)


def test_encrypted_held_out_clips_are_recognised_as_plain_ones_are(
    example: tuple[np.ndarray, np.ndarray], tmp_path: Path, key: SecurityKey
) -> None:
    clips, actions = example
    export(EXAMPLE / "moving_digits.pth", tmp_path / "a", key=key, options=ExportOptions(checkpoint=OPTIONS))
    client, session = Client.open(tmp_path / "a/client", key), open_session(tmp_path / "a/server")
    encrypted = client.encrypt(PlainClip(values=clips))
    received = np.concatenate(
        [
            client.plain_order(session.run(type(encrypted)(values=part, binding=encrypted.binding)))
            for part in np.array_split(encrypted.values, 10)
        ]
    )
    assert (received.argmax(axis=1) == actions).mean() >= 0.95

    few = slice(0, 16)
    plain = BuiltinReference(load_checkpoint(EXAMPLE / "moving_digits.pth", OPTIONS).model).logits(clips[few])
    np.testing.assert_allclose(received[few], plain, atol=1e-4)
    np.testing.assert_array_equal(received[few].argmax(axis=1), plain.argmax(axis=1))


def test_the_trained_model_answers_as_the_code_that_trained_it(example: tuple[np.ndarray, np.ndarray]) -> None:
    import torch

    from examples.moving_digits.model import SmallVideoMAE
    from examples.moving_digits.train import normalise

    state = torch.load(EXAMPLE / "moving_digits.pth", weights_only=True)["model"]
    model = SmallVideoMAE(classes=8)
    model.load_state_dict(state)
    clips = example[0][:4]
    with torch.inference_mode():
        expected = model(normalise(clips)).numpy()
    reference = BuiltinReference(load_checkpoint(EXAMPLE / "moving_digits.pth", OPTIONS).model)
    np.testing.assert_allclose(reference.logits(clips), expected, atol=1e-4)
