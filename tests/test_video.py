from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest

from lcve_deploy.clips import Views
from lcve_deploy.errors import ExistsError, VideoError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.video import read_clips, write_contact_sheet, write_video
from lcve_deploy.video.decode import VideoWarning
from lcve_deploy.video.sampling import crop_offsets, frame_indices

GEOMETRY = ClipGeometry.parse("8x32x32x3/2x8x8")
PREPROCESS = Preprocess(frames=8, stride=2, short_side=32, crop=(32, 32))


def counting_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose grey value says their number: 8 · index."""
    return np.stack([np.full((height, width, 3), min(8 * i, 255), np.uint8) for i in range(count)])


def make_video(path: Path, frames: np.ndarray, *, times: list[int] | None = None, codec: str = "mpeg4") -> Path:
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=24, options={"qscale": "1"}))
        stream.height, stream.width = frames.shape[1], frames.shape[2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = times[i] if times else i * 40
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbers(clip: np.ndarray) -> list[int]:
    """Which frames of :func:`counting_frames` a clip shows."""
    return [round(float(frame.mean()) / 8) for frame in clip]


def read(path: Path, preprocess: Preprocess = PREPROCESS, views: str = "1x1") -> np.ndarray:
    clips = read_clips(path, preprocess, GEOMETRY, Views.parse(views)).clip.values
    assert clips.shape == (Views.parse(views).count, *GEOMETRY.clip_shape)
    assert clips.dtype == np.uint8
    return clips


# Which frames and crops


def test_a_single_view_is_the_centre_with_the_stride() -> None:
    assert frame_indices(25, PREPROCESS, 1) == [[5, 7, 9, 11, 13, 15, 17, 19]]


def test_temporal_views_spread_from_the_first_frame_to_the_last() -> None:
    first, middle, last = frame_indices(25, PREPROCESS, 3)
    assert (first[0], middle[0], last[-1]) == (0, 5, 24)


def test_a_short_video_repeats_its_last_frame() -> None:
    assert frame_indices(5, PREPROCESS, 1) == [[0, 2, 4, 4, 4, 4, 4, 4]]


def test_uniform_sampling_covers_the_whole_video() -> None:
    uniform = Preprocess(frames=4, sampling=Sampling.UNIFORM, short_side=32, crop=(32, 32))
    assert frame_indices(100, uniform, 1) == [[12, 37, 62, 87]]
    assert frame_indices(100, uniform, 2) == [[6, 31, 56, 81], [18, 43, 68, 93]]


def test_spatial_views_run_along_the_longer_side() -> None:
    assert crop_offsets(32, 64, (32, 32), 3) == [(0, 0), (0, 16), (0, 32)]
    assert crop_offsets(64, 32, (32, 32), 3) == [(0, 0), (16, 0), (32, 0)]
    assert crop_offsets(40, 64, (32, 32), 1) == [(4, 16)]


# Real files


def test_a_video_is_sampled_resized_and_cropped(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", counting_frames(25))
    assert numbers(read(path)[0]) == [5, 7, 9, 11, 13, 15, 17, 19]


def test_views_are_temporal_major(tmp_path: Path) -> None:
    frames = counting_frames(25)
    frames[:, :, :12] = 0
    clips = read(make_video(tmp_path / "a.mp4", frames), views="2x3")
    assert clips[0, 0].mean() <= clips[2, 0].mean()
    assert clips[0, -1, :, :4].mean() < 4  # the leftmost crop sees the dark edge
    assert clips[2, -1, :, :4].mean() > 100  # the rightmost does not
    assert numbers(clips[2])[0] == 0
    assert numbers(clips[5])[0] == 10


@pytest.mark.parametrize("size", [(33, 47), (17, 90), (200, 34)])
def test_odd_sizes_are_resized(tmp_path: Path, size: tuple[int, int]) -> None:
    even = tuple(n + n % 2 for n in size)
    images = [np.full((*size, 3), 8 * i, np.uint8) for i in range(20)]
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, image in enumerate(images):
        write_image(folder / f"{i:03}.png", image)
    assert numbers(read(folder)[0])[0] == 2
    read(make_video(tmp_path / "even.mp4", counting_frames(20, *even)))


def write_image(path: Path, image: np.ndarray) -> None:
    from lcve_deploy.video.write import encode_png

    path.write_bytes(encode_png(image))


def test_a_folder_of_frames_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for i, image in enumerate(counting_frames(15)):
        write_image(tmp_path / f"frame{i}.png", image)
    (tmp_path / "notes.txt").write_text("not a frame")
    assert numbers(read(tmp_path)[0]) == [0, 2, 4, 6, 8, 10, 12, 14]


def test_frames_of_different_sizes_are_one_clear_error(tmp_path: Path) -> None:
    for i in range(15):
        write_image(tmp_path / f"{i:02}.png", np.zeros((32, 32 + 8 * i, 3), np.uint8))
    with pytest.raises(VideoError, match="different sizes"):
        read_clips(tmp_path, PREPROCESS, GEOMETRY, Views.parse("1x3"))


def test_a_variable_rate_is_read_by_frames_and_not_by_time(tmp_path: Path) -> None:
    times = [0]
    for i in range(14):
        times.append(times[-1] + (40 if i % 3 else 900))
    path = make_video(tmp_path / "variable.mp4", counting_frames(15), times=times)
    assert numbers(read(path)[0]) == [0, 2, 4, 6, 8, 10, 12, 14]


def test_a_rotated_video_is_turned_upright(tmp_path: Path) -> None:
    """A phone held upright: the display matrix turns the stored picture a quarter to the right."""
    frames = np.zeros((15, 32, 48, 3), np.uint8)
    frames[:, :, 24:] = 255  # the stored right half becomes the shown bottom half
    path = make_video(tmp_path / "phone.mp4", frames)
    data = path.read_bytes()
    matrix = data.index(b"tkhd") + 44
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30)
    assert struct.unpack(">9i", data[matrix : matrix + 36])[0] == 1 << 16
    path.write_bytes(data[:matrix] + turned + data[matrix + 36 :])
    clip = read(path)[0]
    assert clip[:, :12].mean() < 20
    assert clip[:, -12:].mean() > 235


def test_a_truncated_video_gives_what_it_has(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 8, (31, 48, 64, 3), dtype=np.uint8) + counting_frames(31) // 2
    path = make_video(tmp_path / "whole.ts", frames, codec="libx264")
    data = path.read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(data[: len(data) // 188 * 2 // 3 * 188])
    clip = read(cut)[0]
    brightness = [float(frame.mean()) for frame in clip]
    assert np.all(np.diff(brightness) > 0)  # eight different frames, in order
    assert brightness[-1] < 31 * 4


def damaged_video(path: Path, packets: range) -> Path:
    """An mp4 whose packets of some frames are nothing but zeros."""
    make_video(path, counting_frames(30), codec="mpeg4")
    with av.open(str(path)) as container:
        places = [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for index in packets:
        start, size = places[index]
        data[start : start + size] = bytes(size)
    path.write_bytes(data)
    return path


def test_damage_in_the_middle_does_not_move_the_clip(tmp_path: Path) -> None:
    long = Preprocess(frames=8, stride=3, short_side=32, crop=(32, 32))
    whole = numbers(read(make_video(tmp_path / "whole.mp4", counting_frames(30)), long)[0])
    with pytest.warns(VideoWarning, match="damaged frames"):
        damaged = numbers(read(damaged_video(tmp_path / "damaged.mp4", range(10, 13)), long)[0])
    assert whole == [4, 7, 10, 13, 16, 19, 22, 25]
    assert damaged[:2] == [4, 7]
    assert all(abs(a - b) <= 4 for a, b in zip(whole, damaged, strict=True))
    assert damaged == sorted(damaged)


def test_damage_at_the_end_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = damaged_video(tmp_path / "damaged.mp4", range(16, 30))
    with pytest.warns(VideoWarning, match="ends after 16 of 30 frames"):
        assert numbers(read(path)[0]) == [0, 2, 4, 6, 8, 10, 12, 14]


def make_audio(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        for i in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, i * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_audio_alone_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no video stream, only: audio"):
        read(make_audio(tmp_path / "song.m4a"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"this is not a video\n" * 50, "cannot be read as a video"),
        ("text.txt", b"hello\n" * 500, "cannot be read as a video"),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n", "cannot be read"),
        ("concat.txt", b"ffconcat version 1.0\nfile other.mp4\n", "cannot be read as a video"),
        ("noise.mp4", bytes(range(256)) * 64, "cannot be read as a video"),
    ],
)
def test_what_is_no_video_is_one_clear_error(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    make_video(tmp_path / "other.mp4", counting_frames(15))
    make_video(tmp_path / "other.ts", counting_frames(15), codec="libx264")
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(VideoError, match=f"{name} {reason}"):
        read(path)


CONTAINERS = {"mp4": "libx264", "mkv": "mpeg4", "avi": "mjpeg", "ts": "libx264", "webm": "libvpx-vp9", "mov": "mpeg4"}


@pytest.mark.parametrize(("name", "codec"), CONTAINERS.items(), ids=CONTAINERS)
def test_common_containers_are_read(tmp_path: Path, name: str, codec: str) -> None:
    path = make_video(tmp_path / f"a.{name}", counting_frames(15), codec=codec)
    shown = numbers(read(path)[0])
    assert shown[0] in (0, 1)
    assert all(abs(a - b) <= 1 for a, b in zip(shown, range(0, 16, 2), strict=True))


def test_a_header_without_frames_is_one_clear_error(tmp_path: Path) -> None:
    path = make_video(tmp_path / "whole.mp4", counting_frames(15))
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    broken = tmp_path / "zeroed.mp4"
    broken.write_bytes(data)
    with pytest.raises(VideoError, match="no frame"):
        read(broken)


def test_a_missing_video_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="there is no video"):
        read(tmp_path / "nothing.mp4")


def test_a_folder_without_images_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no images"):
        read(tmp_path)


# Arrays


def test_an_array_is_taken_as_it_is(tmp_path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 256, GEOMETRY.clip_shape, dtype=np.uint8)
    np.save(tmp_path / "clip.npy", clip)
    np.testing.assert_array_equal(read(tmp_path / "clip.npy")[0], clip)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 32, 32, 3), np.float32),
        np.zeros((16, 32, 32, 3), np.uint8),
        np.zeros((8, 3, 32, 32), np.uint8),
        np.zeros((1, 8, 32, 32, 3), np.uint8),
        np.array([{"pickled": True}], dtype=object),
    ],
    ids=["float", "frames", "channels first", "batched", "object"],
)
def test_an_array_of_another_kind_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "clip.npy", array)
    with pytest.raises(VideoError, match=r"clip\.npy"):
        read(tmp_path / "clip.npy")


def test_an_array_has_one_view(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", np.zeros(GEOMETRY.clip_shape, np.uint8))
    with pytest.raises(VideoError, match="a single view"):
        read(tmp_path / "clip.npy", views="2x1")


# Something to look at


def test_a_written_video_reads_back_nearly_the_same(tmp_path: Path) -> None:
    smooth = np.linspace(0, 200, 32, dtype=np.uint8)[None, :, None, None] + np.zeros(GEOMETRY.clip_shape, np.uint8)
    write_video(tmp_path / "clip.mp4", smooth)
    exact = Preprocess(frames=8, stride=1, short_side=32, crop=(32, 32))
    difference = np.abs(read(tmp_path / "clip.mp4", exact)[0].astype(int) - smooth)
    assert difference.mean() < 4


def test_a_contact_sheet_shows_every_frame(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "sheet.png", counting_frames(9, 10, 10))
    with av.open(str(tmp_path / "sheet.png")) as container:
        image = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert image.shape == (38, 38, 3)
    assert [int(image[5 + 14 * (i // 3), 5 + 14 * (i % 3), 0]) for i in range(9)] == [8 * i for i in range(9)]
    with pytest.raises(ExistsError):
        write_contact_sheet(tmp_path / "sheet.png", counting_frames(9, 10, 10))


@pytest.mark.parametrize(("crop", "message"), [((40, 40), "does not fit"), ((0, 32), "at least 1")])
def test_preprocessing_that_cannot_be_is_refused(crop: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocess(frames=8, short_side=32, crop=crop)
