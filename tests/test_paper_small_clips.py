"""Clips of few bytes: block-preserving encryption, its scrambled model, the attack on it, and the recorded figures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.wire.codecs import h264, psnr
from benchmarks.wire.measuring import at
from lcve_deploy import ClipGeometry
from lcve_deploy.exporters.checkpoints import CheckpointOptions, load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.keys.keyspace import Level
from lcve_deploy.samples import real_clips
from paper.experiments.small_clips.attack import TRIED, open_clip
from paper.experiments.small_clips.measuring import BLOCKS, DCT, H264, LCVE, read
from paper.experiments.small_clips.scores import best_view, neighbours_right
from paper.experiments.small_clips.scrambled import scrambled_for
from paper.findings.keyspaces import THE_PAPERS, block_preserving_size, dct_size
from paper.findings.seeds import NOT_RUN, SEEDS, Findings
from paper.methods.block_preserving import block_preserving, turned
from paper.methods.shuffles import lcve
from paper.methods.table import experiment_key
from paper.page.sections import small_clips as small_clips_section

EXAMPLE = Path(__file__).parents[1] / "examples/moving_digits/moving_digits.pth"
FILM = ClipGeometry.parse("8x64x64x3/2x16x16")
NOISE = ClipGeometry.parse("4x16x24x3/2x8x8")

keys = pytest.mark.parametrize("number", range(3))


def noise(clips: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (clips, *NOISE.clip_shape), dtype=np.uint8)


# The encryption


@keys
def test_decryption_is_the_inverse(number: int) -> None:
    clips, key = noise(), block_preserving(experiment_key(number), NOISE)
    assert (key.encrypt(clips) != clips).any()
    np.testing.assert_array_equal(key.decrypt(key.encrypt(clips)), clips)


@keys
def test_every_sub_block_stays_a_picture(number: int) -> None:
    """Each of the encrypted clip is one of the plain clip, turned, negated and with other colours, in all frames."""
    clip, key = noise(1)[0], block_preserving(experiment_key(number), NOISE)
    plain, found = sub_blocks(clip), sub_blocks(key.encrypt(clip[None])[0])
    views = {
        (block[..., key.inner.colours] ^ mask).tobytes()
        for block in (turned(part, turn) for part in plain for turn in range(8))
        for mask in (np.uint8(0), np.uint8(255))
    }
    assert {part.tobytes() for part in found} <= views
    assert len({part.tobytes() for part in found}) == len(plain)


def sub_blocks(clip: np.ndarray) -> list[np.ndarray]:
    """Parts of 4x4 pixels over all frames."""
    return [clip[:, i : i + 4, j : j + 4] for i in range(0, NOISE.height, 4) for j in range(0, NOISE.width, 4)]


def test_all_frames_are_changed_alike() -> None:
    still = np.repeat(noise(1)[:, :1], NOISE.frames, axis=1)
    encrypted = block_preserving(experiment_key(1), NOISE).encrypt(still)
    assert (encrypted == encrypted[:, :1]).all()


@pytest.mark.parametrize("geometry", ["4x16x24x3/2x8x4", "4x14x14x3/2x7x7"])
def test_cubes_that_cannot_be_divided_are_refused(geometry: str) -> None:
    with pytest.raises(ValueError, match="square cubes with sides that can be halved"):
        block_preserving(experiment_key(0), ClipGeometry.parse(geometry))


def test_key_spaces_are_the_products_of_all_choices() -> None:
    blocks = math.factorial(196) * math.factorial(4) * 8**4 * 2**4 * math.factorial(3)
    coefficients = math.factorial(1536) * math.factorial(1568) << 1536
    for product, size in ((blocks, block_preserving_size(THE_PAPERS)), (coefficients, dct_size(THE_PAPERS))):
        exponent = int(math.log10(product))
        assert size == f"{product // 10 ** (exponent - 5) / 1e5:.1f}×10^{exponent}"


# The scrambled model


def test_scrambled_weights_are_exact_on_what_is_decoded() -> None:
    model = load_checkpoint(EXAMPLE, CheckpointOptions(heads=4, size=64)).model
    key = block_preserving(experiment_key(2), model.config.geometry)
    assert key.negated.any()
    decoded = np.stack([h264(cipher, 28)[1] for cipher in key.encrypt(real_clips(model.config.geometry)[:1])])
    expected = BuiltinReference(model).logits(key.decrypt(decoded))
    got = BuiltinReference(scrambled_for(model, key)).logits(decoded)
    assert np.abs(got - expected).max() < 1e-12 * np.abs(expected).max()
    assert np.abs(BuiltinReference(model).logits(decoded) - expected).max() > 1


# The attack


@pytest.mark.parametrize("number", range(2))
def test_a_planted_key_is_found_up_to_the_view(number: int) -> None:
    clip, key = real_clips(FILM)[0], block_preserving(experiment_key(number), FILM)
    opened = open_clip(key.encrypt(clip[None])[0], FILM)
    np.testing.assert_array_equal(best_view(clip, opened.clip), clip)
    assert neighbours_right(opened.blocks, key) == 1.0


def test_a_codec_does_not_stop_it() -> None:
    clip, key = real_clips(FILM)[1], block_preserving(experiment_key(3), FILM)
    decoded = h264(key.encrypt(clip[None])[0], 18)[1]
    opened = open_clip(decoded, FILM)
    assert neighbours_right(opened.blocks, key) > 0.9
    assert psnr(clip, best_view(clip, opened.clip)) > psnr(clip, key.decrypt(decoded[None])[0]) - 2


def test_the_attack_opens_no_lcve_clip() -> None:
    clip = real_clips(FILM)[:1]
    encrypted = lcve(experiment_key(0), FILM, Level.VIDEO).encrypt(clip)
    assert psnr(clip[0], best_view(clip[0], open_clip(encrypted[0], FILM).clip)) < 15


def test_frames_must_be_square() -> None:
    with pytest.raises(ValueError, match="square frames, received 16x24"):
        open_clip(noise(1)[0], NOISE)


def test_neighbours_of_another_key_are_not_right() -> None:
    key, other = (block_preserving(experiment_key(number), FILM) for number in (0, 1))
    layout, wrong = (np.argsort(each.blocks).reshape(4, 4) for each in (key, other))
    assert neighbours_right(layout, key) == neighbours_right(layout.T[::-1], key) == 1.0
    assert neighbours_right(np.roll(layout, 1, axis=0), key) == pytest.approx(20 / 24)
    assert neighbours_right(wrong, key) < 0.2


def test_all_combinations_are_counted() -> None:
    assert math.factorial(4) * 8**4 * 2**3 == TRIED


# The recorded figures


def test_recorded_figures_say_what_the_page_says() -> None:
    found = read()
    assert found is not None
    assert set(found["digits"]) == set(map(str, SEEDS))
    for seed in found["digits"].values():
        assert set(seed) == {"plain", H264, LCVE, BLOCKS, DCT}
        assert seed[LCVE]["agreement"] == 1.0
        assert all(abs(seed[name]["accuracy"] - seed["plain"]["accuracy"]) < 0.05 for name in (BLOCKS, DCT))
        assert min(seed[BLOCKS]["agreement"], seed[DCT]["agreement"]) > 0.95
        assert seed[BLOCKS]["difference"] < 1e-12
        assert max(seed[name]["difference"] for name in (DCT, LCVE)) < 1e-4
    for row in found["attacks"].values():
        assert row["psnr"] > row["with_key"] - 1
        assert row["control"] < 15
    for methods in found["rates"].values():
        sizes = [at(methods[name], 40) for name in (H264, DCT)]
        assert sizes == sorted(size for size in sizes if size is not None)
        assert at(methods[BLOCKS], 40) is not None


def test_the_section_shows_every_method_and_clip() -> None:
    text = small_clips_section.section(Findings({}, small_clips=read()))
    for shown in ("H.264", "LCVE + ViT Scrambling", "`lcve-dct-1`", "carphone", "bikes", "bigbuckbunny", f"{TRIED:,}"):
        assert shown in text
    assert NOT_RUN not in text
    assert small_clips_section.section(Findings({})) == NOT_RUN
