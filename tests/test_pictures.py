"""Still pictures and folders of them, made by Pillow, which also says what is right."""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lcve_deploy.errors import VideoError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.video import read_clips
from lcve_deploy.video.decode import VideoWarning
from lcve_deploy.video.exif import exif_orientation

DATA = Path(__file__).parent / "data/pictures"
GEOMETRY = ClipGeometry.parse("8x32x32x3/2x8x8")
PREPROCESS = Preprocess(frames=8, stride=1, short_side=32, crop=(32, 32))
FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".bmp": "bmp",
    ".webp": "webp",
    ".ppm": "ppm",
    ".tif": "tiff",
    ".tiff": "tiff",
}
EXACT = {"jpeg": {"quality": 100}, "webp": {"lossless": True, "method": 0, "quality": 0}}
ODD_NAMES = (
    "a{b}",
    "a*b",
    "a?b",
    "a%db",
    "a%03db",
    "a[1-3]b",
    "a{1,2}",
    "%",
    "a b",
    "ä:ö",
    "file:x",
    "-",
    "a#b",
    "a\\b",
)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture(autouse=True)
def _short_is_fine() -> Iterator[None]:
    """Most of these have fewer frames than a clip, on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VideoWarning)
        yield


def noise(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def corners(height: int = 64, width: int = 64) -> np.ndarray:
    """Red, green, blue and white, from the top left to the bottom right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    image[height // 2 :, width // 2 :] = WHITE
    return image


def encoded(image: np.ndarray, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **how)
    return file.getvalue()


def clip_of(path: Path) -> np.ndarray:
    return read_clips(path, PREPROCESS, GEOMETRY).clip.values[0]


def shown(path: Path) -> list[tuple[int, ...]]:
    """Pure colours of the four corners of the first frame."""
    frame = clip_of(path)[0]
    return [tuple(255 * int(v > 127) for v in frame[y, x]) for y, x in ((4, 4), (4, 27), (27, 4), (27, 27))]


def expected_corners(image: np.ndarray) -> list[tuple[int, ...]]:
    rows, columns = (int(size * share) for size, share in zip(image.shape[:2], (0.2, 0.2), strict=True))
    places = ((rows, columns), (rows, -columns), (-rows, columns), (-rows, -columns))
    return [tuple(255 * int(v > 127) for v in image[y, x]) for y, x in places]


# Sizes


@pytest.mark.parametrize(("side", "least"), [(260, 30_000), (1800, 3_000_000)])
@pytest.mark.parametrize(("suffix", "kind"), FORMATS.items(), ids=FORMATS)
def test_pictures_of_real_sizes_are_read(tmp_path: Path, suffix: str, kind: str, side: int, least: int) -> None:
    """Lossy formats hold what Pillow decodes of them; a mean of a block of pixels outlives resizing."""
    image = noise(side, (side, side))
    image[: side // 2, : side // 2] //= 8
    data = encoded(image, kind, quality=100, method=0) if kind in ("jpeg", "webp") else encoded(image, kind)
    assert len(data) >= least or (kind == "webp" and len(data) > least / 4)
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(data)
    right = np.asarray(Image.open(path).convert("RGB")).astype(float)
    frame = clip_of(path)[0].astype(float)
    assert abs(frame[:16, :16].mean() - right[: side // 2, : side // 2].mean()) < 3
    assert abs(frame[16:, 16:].mean() - right[side // 2 :, side // 2 :].mean()) < 3


@pytest.mark.parametrize(("suffix", "kind"), FORMATS.items(), ids=FORMATS)
def test_a_folder_of_300_frames_is_sampled(tmp_path: Path, suffix: str, kind: str) -> None:
    """As data sets of actions are laid out; every frame has some 30 kB of its own."""
    texture = noise(0, (110, 110)) // 16
    for i in range(300):
        image = texture + np.uint8(i * 235 // 300)
        (tmp_path / f"img_{i + 1:05}{suffix}").write_bytes(encoded(image, kind, **EXACT.get(kind, {})))
    stride = Preprocess(frames=8, stride=4, short_side=32, crop=(32, 32))
    video = read_clips(tmp_path, stride, GEOMETRY)
    means = video.clip.values[0].mean(axis=(1, 2, 3)) - texture.mean()
    right = [(135 + 4 * i) * 235 // 300 for i in range(8)]
    np.testing.assert_allclose(means, right, atol=0.35)
    assert video.notes == ()


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_path_is_a_path_and_never_a_pattern(tmp_path: Path, name: str, suffix: str) -> None:
    data = encoded(np.full((64, 64, 3), 200, np.uint8), FORMATS[suffix])
    decoy = encoded(np.zeros((64, 64, 3), np.uint8), FORMATS[suffix])
    for other in ("a1b", "a0b", "a001b", "axb", "a1", "1"):
        (tmp_path / f"{other}{suffix}").write_bytes(decoy)
    alone = tmp_path / f"{name}{suffix}"
    alone.write_bytes(data)
    folder = tmp_path / "folders" / name
    folder.mkdir(parents=True)
    for i in range(8):
        (folder / f"{name}{i}{suffix}").write_bytes(data)
    for path in (alone, folder):
        assert abs(clip_of(path).mean() - 200) < 3


def test_a_video_is_read_under_odd_names_too(tmp_path: Path) -> None:
    data = (DATA / "base.mp4").read_bytes()
    for name in ODD_NAMES:
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(data)
        assert shown(path)[0] == RED


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "png"), (".png", "jpeg"), (".bmp", "webp"), (".tif", "jpeg")])
def test_what_a_picture_is_stands_in_its_bytes(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"wrong{suffix}"
    path.write_bytes(encoded(corners(), kind))
    assert shown(path) == [RED, GREEN, BLUE, WHITE]


# Right way up


def with_orientation(image: np.ndarray, kind: str, number: int, order: str = "<") -> bytes:
    """A picture whose EXIF says how it lies, in either byte order."""
    if kind == "tiff":
        return encoded(image, kind, tiffinfo={274: number})
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 274, 3, 1, number, 0)
    exif = b"Exif\0\0" + mark + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)
    return encoded(image, kind, exif=exif, **({"quality": 95} if kind != "png" else {}))


@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_orientations_are_those_of_pillow(tmp_path: Path, kind: str, number: int) -> None:
    for order in "<>":
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(with_orientation(corners(48, 64), kind, number, order))
        right = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        assert shown(path) == expected_corners(right), order


def test_the_long_side_stands_where_it_is_shown(tmp_path: Path) -> None:
    """A phone's portrait photo, stored on its side: the crop is taken of the upright picture."""
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :20] = 255  # at the top once it is turned, and outside the crop
    (tmp_path / "a.jpg").write_bytes(with_orientation(image, "jpeg", 6))
    assert clip_of(tmp_path / "a.jpg").mean() < 3


def test_pillows_own_thumbnail_is_not_the_picture(tmp_path: Path) -> None:
    """EXIF often holds a small JPEG of its own."""
    exif = Image.Exif()
    exif[274] = 2
    thumbnail = encoded(np.zeros((16, 16, 3), np.uint8), "jpeg")
    data = encoded(corners(), "jpeg", exif=exif.tobytes() + thumbnail, quality=95)
    (tmp_path / "a.jpg").write_bytes(data)
    assert shown(tmp_path / "a.jpg") == [GREEN, RED, WHITE, BLUE]


@pytest.mark.parametrize(
    ("name", "first"), [("frame.jpg", RED), ("exif2.jpg", GREEN), ("base.mp4", RED), ("hflip.mp4", GREEN)]
)
def test_mirrored_files_are_shown_as_they_should_be(name: str, first: tuple[int, ...]) -> None:
    assert shown(DATA / name)[0] == first


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe1\xff\xff",
        b"\xff\xd8\xff\xe1\x00\x00Exif\0\0",
        b"\xff\xd8" + b"\xff" * 1000,
        b"\xff\xd8\xff\xe1\x00\x20Exif\0\0II*\0\xff\xff\xff\xff",
        b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffeXIf",
        b"RIFF\xff\xff\xff\xffWEBPEXIF\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff" + bytes(100),
        b"MM\0*" + b"\xff" * 4,
    ],
)
def test_broken_exif_says_nothing(data: bytes) -> None:
    assert exif_orientation(data) == 1


# Folders


def test_hidden_files_and_what_systems_leave_are_no_frames(tmp_path: Path) -> None:
    for i in range(8):
        (tmp_path / f"{i:05}.png").write_bytes(encoded(np.full((32, 32, 3), 20 * i, np.uint8), "png"))
        (tmp_path / f"._{i:05}.png").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / ".thumb.png").write_bytes(encoded(noise(0, (16, 16)), "png"))
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "labels.txt"):
        (tmp_path / name).write_bytes(b"\0" * 64)
    (tmp_path / "__MACOSX").mkdir()
    assert [round(frame.mean()) for frame in clip_of(tmp_path)] == [20 * i for i in range(8)]


def test_numbers_in_names_count_as_numbers(tmp_path: Path) -> None:
    for i in (1, 2, 3, 9, 10, 11, 20, 100):
        (tmp_path / f"{i}.png").write_bytes(encoded(np.full((32, 32, 3), i, np.uint8), "png"))
    assert [int(frame[0, 0, 0]) for frame in clip_of(tmp_path)] == [1, 2, 3, 9, 10, 11, 20, 100]


def test_names_with_the_same_number_have_an_order_too(tmp_path: Path) -> None:
    for value, name in enumerate(("1.png", "01.png", "001.png")):
        (tmp_path / name).write_bytes(encoded(np.full((32, 32, 3), value, np.uint8), "png"))
    assert [int(frame[0, 0, 0]) for frame in clip_of(tmp_path)][:3] == [2, 1, 0]


@pytest.mark.parametrize("odd", [(48, 32), (64, 64)], ids=["other shape", "same shape"])
def test_frames_of_mixed_sizes_are_one_error_with_the_file_and_both_sizes(tmp_path: Path, odd: tuple[int, int]) -> None:
    for i in range(8):
        size = odd if i == 5 else (32, 32)
        (tmp_path / f"{i}.jpg").write_bytes(encoded(noise(i, size), "jpeg"))
    with pytest.raises(VideoError) as caught:
        clip_of(tmp_path)
    said = str(caught.value)
    assert f"{tmp_path / '0.jpg'} has 32 x 32" in said
    assert f"{tmp_path / '5.jpg'} has {odd[1]} x {odd[0]}" in said


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "cannot be read as an image"), (b"hello", "cannot be read"), (b"\xff\xd8\xff\xe0" + bytes(99), "damaged")],
)
def test_a_broken_frame_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "1.jpg").write_bytes(encoded(noise(0, (32, 32)), "jpeg"))
    (tmp_path / "2.jpg").write_bytes(content)
    with pytest.raises(VideoError, match=f"2.jpg {reason}|2.jpg.*{reason}"):
        clip_of(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_frame(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(VideoError, match="a pipe"):
        clip_of(tmp_path)


# Pictures that move, or have more to them


def moving(path: Path) -> Path:
    images = [Image.fromarray(np.full((48, 64, 3), 20 * i, np.uint8)) for i in range(8)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=40)
    return path


@pytest.mark.parametrize("name", ["a.avif", "a.gif", "a.png", "a.apng"])
def test_pictures_that_move_are_videos(tmp_path: Path, name: str) -> None:
    video = read_clips(moving(tmp_path / name), PREPROCESS, GEOMETRY)
    means = video.clip.values[0].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, np.arange(8) * 20, atol=3)
    assert video.notes == ()


def test_what_moves_but_cannot_be_played_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="animated"):
        clip_of(moving(tmp_path / "a.webp"))


def test_what_moves_is_no_frame(tmp_path: Path) -> None:
    moving(tmp_path / "1.png")
    with pytest.raises(VideoError, match=r"1\.png is animated"):
        clip_of(tmp_path)


def test_several_pages_are_noted(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((32, 32, 3), value, np.uint8)) for value in (10, 90)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    video = read_clips(tmp_path / "a.tif", PREPROCESS, GEOMETRY)
    assert video.clip.values.mean() == 10
    assert any("several pages" in note for note in video.notes)


def test_one_picture_is_repeated_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(noise(0, (64, 64)), "jpeg"))
    with pytest.warns(VideoWarning, match=r"a\.jpg: the video has 1 frame, too few"):
        video = read_clips(tmp_path / "a.jpg", PREPROCESS, GEOMETRY)
    assert video.notes == ("the video has 1 frame, too few for a clip of 8 with stride 1: frames were repeated",)


def test_pixels_that_are_not_square_are_noted(tmp_path: Path) -> None:
    data = bytearray(encoded(noise(0, (64, 64)), "jpeg"))
    data[13:18] = struct.pack(">BHH", 0, 4, 3)  # JFIF: the shape of a pixel
    (tmp_path / "a.jpg").write_bytes(data)
    assert any("not square" in note for note in read_clips(tmp_path / "a.jpg", PREPROCESS, GEOMETRY).notes)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    image = np.dstack([np.full((64, 64, 3), 150, np.uint8), np.zeros((64, 64), np.uint8)])
    (tmp_path / "a.png").write_bytes(encoded(image, "png"))
    assert abs(clip_of(tmp_path / "a.png").mean() - 150) < 2


# Damaged and unusual pictures


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "webp", "ppm", "tiff"])
def test_a_picture_that_is_cut_off_is_refused_and_never_filled_in(tmp_path: Path, kind: str, share: float) -> None:
    data = encoded(noise(0, (128, 128)), kind)
    path = tmp_path / f"a.{kind}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(VideoError, match=f"a.{kind} cannot be read as an image: it is damaged, truncated") as caught:
        clip_of(path)
    assert "file is complete" in caught.value.hint


def test_a_damaged_scan_of_a_jpeg_is_refused(tmp_path: Path) -> None:
    data = bytearray(encoded(noise(0, (128, 128)), "jpeg"))
    place = len(data) * 2 // 3
    data[place : place + 40] = bytes(b ^ 0x55 for b in data[place : place + 40])
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(VideoError, match="cannot be read as an image: it is damaged"):
        clip_of(tmp_path / "a.jpg")


@pytest.mark.parametrize("change", [lambda d: d[:-2], lambda d: d + bytes(999), lambda d: d[:2] + b"\xff" * 3 + d[2:]])
def test_a_jpeg_without_an_end_with_an_appendix_or_with_filling_is_whole(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    data = encoded(corners(), "jpeg", quality=95)
    (tmp_path / "a.jpg").write_bytes(change(data))
    assert shown(tmp_path / "a.jpg") == [RED, GREEN, BLUE, WHITE]


def test_a_tiff_of_jpeg_would_have_wrong_colours_and_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(encoded(corners(), "tiff", compression="jpeg"))
    with pytest.raises(VideoError, match=r"a\.tif is a TIFF with JPEG compression"):
        clip_of(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "raw"])
def test_other_compressions_of_tiff_are_exact(tmp_path: Path, compression: str) -> None:
    image = noise(0, (32, 32))
    (tmp_path / "a.tif").write_bytes(encoded(image, "tiff", compression=compression))
    np.testing.assert_array_equal(clip_of(tmp_path / "a.tif")[0], image)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("png", mode) for mode in ("L", "P", "1", "LA", "RGBA", "I;16")),
        *(("tiff", mode) for mode in ("L", "P", "1", "LA", "RGBA", "I;16", "CMYK")),
        *(("jpeg", mode) for mode in ("L", "1", "CMYK")),
    ],
)
def test_kinds_of_pixels_are_those_of_pillow(tmp_path: Path, kind: str, mode: str) -> None:
    image = np.repeat(np.repeat(noise(3, (4, 4)), 8, axis=0), 8, axis=1)
    if mode == "I;16":
        made = Image.fromarray(image[..., 0].astype(np.uint16) * 257)
        right = Image.fromarray(image[..., 0]).convert("RGB")
    else:
        made = Image.fromarray(image).convert(mode)
        right = made.convert("RGB")
    path = tmp_path / f"a.{kind}"
    made.save(path, kind, **({"quality": 100, "subsampling": 0} if kind == "jpeg" else {}))
    difference = clip_of(path)[0].astype(float) - np.asarray(right)
    assert np.abs(difference).max() <= 4


# What else is in a folder


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([f"{kind}_{i:05}.png" for i in range(4) for kind in ("img", "flow_x", "flow_y")], "3 patterns"),
        ([f"{i}{suffix}" for i in range(4) for suffix in (".png", ".bmp")], r"2 patterns \(#.bmp, #.png\)"),
        ([*(f"{i:03}.png" for i in range(8)), "cover.png"], r"\(#.png, cover.png\); all images are used as frames"),
        ([f"f_{i / 2:.2f}.png" for i in range(8)], None),
        ([f"IMG_{i}{suffix}" for i, suffix in enumerate((".png", ".PNG") * 4)], None),
        ([f"{letter}.png" for letter in "abcdefgh"], None),
        ([f"{chr(0x660 + i)}.png" for i in range(8)], None),
    ],
    ids=["optical flow", "twice", "a cover", "fractions", "upper case", "letters", "other digits"],
)
def test_images_of_more_than_one_series_are_noted(tmp_path: Path, names: list[str], said: str | None) -> None:
    for name in names:
        (tmp_path / name).write_bytes(encoded(np.zeros((32, 32, 3), np.uint8), Path(name).suffix[1:].lower()))
    notes = read_clips(tmp_path, PREPROCESS, GEOMETRY).notes
    if said is None:
        assert notes == ()
    else:
        with pytest.warns(VideoWarning, match=said):
            read_clips(tmp_path, PREPROCESS, GEOMETRY)


def test_other_digits_count_as_numbers(tmp_path: Path) -> None:
    for i in (2, 10, 9, 1):
        name = "".join(chr(0x660 + int(digit)) for digit in str(i))
        (tmp_path / f"{name}.PNG").write_bytes(encoded(np.full((32, 32, 3), i, np.uint8), "png"))
    assert [int(frame[0, 0, 0]) for frame in clip_of(tmp_path)][:4] == [1, 2, 9, 10]


def test_links_are_frames_under_their_own_names(tmp_path: Path) -> None:
    frames, links = tmp_path / "frames", tmp_path / "links"
    frames.mkdir()
    links.mkdir()
    for i in range(8):
        (frames / f"{i}.png").write_bytes(encoded(np.full((32, 32, 3), i, np.uint8), "png"))
        (links / f"{7 - i}.png").symlink_to(frames / f"{i}.png")
    assert [int(frame[0, 0, 0]) for frame in clip_of(links)] == list(range(7, -1, -1))


@pytest.mark.parametrize(("inside", "hint"), [("video1/1.png", "folders.*video1"), ("a.mp4", "files.*a.mp4")])
def test_a_folder_without_images_says_what_to_give_instead(tmp_path: Path, inside: str, hint: str) -> None:
    (tmp_path / inside).parent.mkdir(exist_ok=True)
    (tmp_path / inside).write_bytes(b"x")
    with pytest.raises(VideoError, match="has no images") as caught:
        clip_of(tmp_path)
    assert re.search(hint, caught.value.hint)
