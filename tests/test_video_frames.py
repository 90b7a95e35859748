"""Which frames of a video are taken, which way up and of which pixels, where files are not as they should be."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest

from lcve_deploy.clips import Views
from lcve_deploy.errors import VideoError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.video import VideoClips, read_clips
from lcve_deploy.video import decode as decoding
from lcve_deploy.video.decode import VideoWarning
from lcve_deploy.video.orientation import AS_STORED, from_matrix
from lcve_deploy.video.sampling import crop_offsets
from lcve_deploy.video.survey import Survey

GEOMETRY = ClipGeometry.parse("8x32x32x3/2x8x8")
BYTE_STEP = 8
FRAMES = 28


@pytest.fixture(autouse=True)
def _warnings_are_notes() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VideoWarning)
        yield


def preprocess(**changes: Any) -> Preprocess:
    return Preprocess(**{"frames": 8, "stride": 1, "short_side": 32, "crop": (32, 32), **changes})


def read(path: Path, views: str = "1x1", **changes: Any) -> VideoClips:
    return read_clips(path, preprocess(**changes), GEOMETRY, Views.parse(views))


def grey(index: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), BYTE_STEP * index, np.uint8)


def numbers(clip: np.ndarray) -> list[int]:
    """Which frames of :func:`make` a clip shows."""
    return [round(float(frame.mean()) / BYTE_STEP) for frame in clip]


def make(
    path: Path,
    *,
    codec: str = "libx264",
    count: int = FRAMES,
    b_frames: int = 2,
    gop: int = 12,
    picture: Callable[[int], np.ndarray] = grey,
    size: tuple[int, int] = (48, 64),
    **options: str,
) -> Path:
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=25, options=options))
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.max_b_frames, stream.codec_context.gop_size = b_frames, gop
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def remuxed(source: Path, target: Path, *, left_out: frozenset[int] = frozenset()) -> Path:
    """The packets of a video in another file, but for some."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size and number not in left_out:
                packet.stream = stream
                new.mux(packet)
    return target


def damaged(path: Path, packets: range) -> Path:
    """The file with zeros in place of some packets."""
    with av.open(str(path)) as container:
        places = [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for start, size in places[packets.start : packets.stop]:
        data[start : start + size] = bytes(size)
    path.write_bytes(data)
    return path


# Damage


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.avi"])
@pytest.mark.parametrize("b_frames", [0, 2], ids=["in order", "reordered"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_damage_does_not_move_the_frames_before_it(tmp_path: Path, name: str, b_frames: int, codec: str) -> None:
    """Frames wait in a decoder for earlier ones, so an error comes before frames that stand before the damage."""
    path = damaged(make(tmp_path / name, codec=codec, b_frames=b_frames), range(16, 17))
    clip = read(path, stride=2).clip.values[0]
    assert [abs(a - b) <= 1 for a, b in zip(numbers(clip)[:4], [6, 8, 10, 12], strict=True)] == [True] * 4
    clip = read(path, views="3x1").clip.values[0]
    assert [abs(a - b) <= 1 for a, b in zip(numbers(clip), range(8), strict=True)] == [True] * 8


def test_damage_is_noted_and_the_frames_after_it_keep_their_place(tmp_path: Path) -> None:
    path = damaged(make(tmp_path / "a.mp4", codec="mpeg4", b_frames=0, gop=6), range(8, 10))
    video = read(path, views="3x1")
    assert numbers(video.clip.values[0]) == list(range(8))
    assert numbers(video.clip.values[1]) == list(range(10, 18))
    assert numbers(video.clip.values[2]) == list(range(20, 28))
    assert video.notes == ("2 damaged frames were replaced by the next good frame",)
    with pytest.warns(VideoWarning, match=r"a\.mp4: 2 damaged frames"):
        read(path, views="3x1")


def test_an_undamaged_video_has_nothing_to_be_said_of_it(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.ts", "libx264"), ("a.avi", "mpeg4")):
        video = read(make(tmp_path / name, codec=codec), views="3x1")
        assert video.notes == ()


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
def test_a_stream_that_starts_between_key_frames_starts_at_the_first_good_frame(tmp_path: Path, name: str) -> None:
    """As one that was cut out of a broadcast: 28 packets, of which 19 can be decoded."""
    whole = make(tmp_path / "whole.ts", gop=9)
    cut = remuxed(whole, tmp_path / name, left_out=frozenset({0}))
    video = read(cut, views="3x1")
    first, middle, last = (numbers(clip) for clip in video.clip.values)
    assert (first, middle, last) == (list(range(9, 17)), list(range(14, 22)), list(range(20, 28)))
    (note,) = video.notes
    assert "at the start, cannot be decoded and are left out" in note
    assert "ends" not in note


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mpeg2video"])
def test_frames_that_a_decoder_filled_in_are_noted(tmp_path: Path, codec: str) -> None:
    """Damage inside a packet: the decoder makes up the rest of the picture, and reports no error."""
    noise = np.random.default_rng(0)
    path = make(
        tmp_path / "a.ts",
        codec=codec,
        b_frames=0,
        picture=lambda i: noise.integers(0, 256, (48, 64, 3), dtype=np.uint8),
    )
    assert read(path, views="3x1").notes == ()
    with av.open(str(path)) as container:
        places = [packet.pos or 0 for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    middle = (places[6] + places[7]) // 2
    data[middle : middle + 100] = bytes(b ^ 0x5A for b in data[middle : middle + 100])
    path.write_bytes(data)
    notes = read(path, views="3x1").notes
    assert any("filled in by the decoder" in note for note in notes), notes


def test_a_stream_of_jpegs_is_a_video(tmp_path: Path) -> None:
    for name in ("a.mjpeg", "a.MJPG"):
        data = b"".join(bytes(packet) for packet in jpegs(FRAMES))
        (tmp_path / name).write_bytes(data)
        video = read(tmp_path / name, views="2x1")
        assert [numbers(clip) for clip in video.clip.values] == [list(range(8)), list(range(20, 28))]
        assert video.notes == ()


def jpegs(count: int) -> Iterator[av.Packet[Any]]:
    codec = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width, codec.pix_fmt, codec.time_base = 48, 64, "yuvj420p", Fraction(1, 25)
    for i in range(count):
        frame = av.VideoFrame.from_ndarray(grey(i), format="rgb24").reformat(format="yuvj420p")
        frame.pts = i
        yield from codec.encode(frame)
    yield from codec.encode(None)


def test_leading_frames_of_an_open_group_are_left_out(tmp_path: Path) -> None:
    """MPEG-2, cut at its second key frame: the frames shown before that need what was cut off."""
    cut = remuxed(make(tmp_path / "a.mpg", codec="mpeg2video"), tmp_path / "cut.ts", left_out=frozenset({0}))
    video = read(cut, views="2x1")
    assert numbers(video.clip.values[1])[-1] in (27, 26)
    assert "2 of 27 frames, at the start" in video.notes[0]


def test_damage_at_the_end_is_one_true_note(tmp_path: Path) -> None:
    path = damaged(make(tmp_path / "a.mp4", codec="mpeg4", b_frames=0), range(20, 28))
    video = read(path, views="3x1")
    assert [numbers(clip)[0] for clip in video.clip.values] == [0, 6, 12]
    assert video.notes == ("the video ends after 20 of 28 frames: the rest cannot be decoded",)


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.mkv", codec="mpeg4", count=50, picture=lambda i: grey(i % 30))
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    assert any("it may be truncated" in note for note in read(whole).notes)


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
def test_an_avi_that_is_cut_off_says_so(tmp_path: Path, share: float) -> None:
    noise = np.random.default_rng(0)
    whole = make(
        tmp_path / "a.avi",
        codec="mpeg4",
        count=50,
        picture=lambda i: noise.integers(0, 256, (48, 64, 3), dtype=np.uint8),
    )
    assert read(whole).notes == ()
    data = whole.read_bytes()
    whole.write_bytes(data[: int(len(data) * share)])
    assert any("the file declares 2.0 s" in note for note in read(whole).notes)


def test_frames_that_an_edit_list_leaves_out_do_not_count(tmp_path: Path) -> None:
    """A phone cuts a video without encoding it again: the first frames are in the file, and are not shown."""
    path = make(tmp_path / "a.mp4", b_frames=0, gop=100)
    data = bytearray(path.read_bytes())
    place = data.index(b"elst") + 4
    assert struct.unpack_from(">II", data, place) == (0, 1)
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
    assert base is not None
    struct.pack_into(">i", data, place + 12, int(Fraction(5, 25) / base))  # five frames in
    path.write_bytes(data)
    video = read(path, views="2x1")
    assert numbers(video.clip.values[0]) == list(range(5, 13))
    assert numbers(video.clip.values[1]) == list(range(20, 28))
    assert video.notes == ()


def test_hidden_frames_of_vp8_do_not_count(tmp_path: Path) -> None:
    """Alternate reference frames have packets of their own, and are never shown."""
    source = make(tmp_path / "plain.webm", codec="libvpx", gop=5, b="1M")
    target, hidden = tmp_path / "hidden.webm", 0
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if not packet.size:
                continue
            if packet.is_keyframe:
                data = bytearray(bytes(packet))
                data[0] &= ~0x10
                extra = av.Packet(bytes(data))
                extra.pts = extra.dts = packet.pts
                extra.time_base, extra.stream, extra.is_keyframe = packet.time_base, stream, True
                new.mux(extra)
                hidden += 1
            packet.stream = stream
            new.mux(packet)
    assert hidden >= 3
    video = read(target, views="2x1")
    assert abs(numbers(video.clip.values[0])[0] - 0) <= 1
    assert abs(numbers(video.clip.values[1])[-1] - 27) <= 1
    np.testing.assert_array_equal(video.clip.values, read(source, views="2x1").clip.values)
    assert video.notes == ()


# The survey, number by number


@pytest.mark.parametrize(
    ("times", "shown", "failed", "indices"),
    [
        ([0, 3, 1, 2, 4], [0, 2, 3, 1, 4], set(), [0, 1, 2, 3, 4]),
        ([0, 3, 1, 2, 4], [0, 3, 1, 4], {2}, [0, 2, 3, 4]),
        ([None] * 5, [0, 1, 3, 4], {2}, [0, 1, 3, 4]),
        ([None] * 5, [0, 3, 1, 4], {2}, [0, 2, 3, 4]),
        ([1, 2, 3, 4, 5], [2, 3, 4], {0, 1}, [0, 1, 2]),
        ([1, 2, 3, 4, 5], [0, 2, 4], set(), [0, 1, 2]),
        ([99, 1, 2, 3, 4, *range(5, 22)], [1, 2, 3, 4], {0}, [0, 1, 2, 3]),
        ([0, 0, 1, 1, 2], [0, 1, 3, 4], {2}, [0, 1, 3, 4]),
        ([0, 1], [], {0, 1}, []),
    ],
    ids=[
        "whole",
        "by times",
        "without times",
        "reordered without times",
        "at the start",
        "fields",
        "a wrong time",
        "times twice",
        "nothing",
    ],
)
def test_places_of_frames(times: list[int | None], shown: list[int], failed: set[int], indices: list[int]) -> None:
    survey = Survey(times=times, shown=shown, failed=failed)
    assert survey.indices() == indices


# Too short


@pytest.mark.parametrize(
    ("count", "changes", "said"),
    [
        (1, {}, "the video has 1 frame, too few for a clip of 8 with stride 1: frames were repeated"),
        (5, {}, "the video has 5 frames, too few for a clip of 8 with stride 1: frames were repeated"),
        (20, {"stride": 4}, "the video has 20 frames, too few for a clip of 8 with stride 4: frames were repeated"),
        (5, {"sampling": Sampling.UNIFORM}, "the video has 5 frames, too few for a clip of 8: frames were repeated"),
        (8, {}, None),
        (8, {"sampling": Sampling.UNIFORM}, None),
        (15, {"stride": 2}, None),
    ],
)
def test_repeated_frames_are_noted(tmp_path: Path, count: int, changes: dict[str, Any], said: str | None) -> None:
    path = make(tmp_path / "a.mp4", codec="mpeg4", b_frames=0, count=count)
    assert read(path, **changes).notes == ((said,) if said else ())


# Right way up

TURNS = {
    (1, 0, 0, 1): (),
    (-1, 0, 0, 1): ("hflip",),
    (1, 0, 0, -1): ("vflip",),
    (-1, 0, 0, -1): ("hflip", "vflip"),
    (0, 1, -1, 0): ("transpose=clock",),
    (0, 1, 1, 0): ("transpose=cclock_flip",),
    (0, -1, 1, 0): ("transpose=cclock",),
    (0, -1, -1, 0): ("transpose=clock_flip",),
}
"""Display matrix (a, b, c, d) → the filters that FFmpeg's own autorotation puts in."""


def corners(index: int = 0) -> np.ndarray:
    """Red, green, blue and white corners, black between."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:20, :20], image[:20, -20:], image[-20:, :20], image[-20:, -20:] = (
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
    )
    return image


def filtered(image: np.ndarray, filters: tuple[str, ...]) -> np.ndarray:
    graph = av.filter.Graph()
    height, width = image.shape[:2]
    last = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=Fraction(1, 25))
    for spec in filters:
        node = graph.add(*spec.split("="))
        last.link_to(node)
        last = node
    last.link_to(graph.add("buffersink"))
    graph.configure()
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame.pts = 0
    graph.push(frame)
    return cast(av.VideoFrame, graph.pull()).to_ndarray(format="rgb24")


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    data = path.read_bytes()
    place = data.index(b"tkhd") + 44
    one = 1 << 16
    matrix = struct.pack(">9i", *(round(v * one) for v in (a, b, 0, c, d, 0)), 0, 0, 1 << 30)
    path.write_bytes(data[:place] + matrix + data[place + 36 :])
    return path


@pytest.mark.parametrize("matrix", TURNS, ids=lambda matrix: " ".join(TURNS[matrix]) or "as stored")
def test_videos_are_turned_as_ffmpeg_turns_them(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = with_matrix(make(tmp_path / "a.mp4", codec="mpeg4", count=8, picture=corners), *matrix)
    right = filtered(corners(), TURNS[matrix])
    shown = read_clips(path, preprocess(short_side=48, crop=(48, 48)), GEOMETRY).clip.values[0, 0]
    rows, columns = ((size - 48) // 2 for size in right.shape[:2])
    cropped = right[rows : rows + 48, columns : columns + 48]
    assert np.abs(shown.astype(int) - cropped).mean() < 12


def test_other_angles_become_the_nearest_quarter_turn() -> None:
    cos, sin = 11_206, 64_571  # of 80 degrees, times 2^16
    assert from_matrix((cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30)) == from_matrix((0, 1, 0, -1, 0, 0, 0, 0, 1))
    assert from_matrix((0,) * 9) == AS_STORED


def test_an_unknown_kind_of_side_data_leaves_the_angle() -> None:
    class Frame:
        rotation = -90

        @property
        def side_data(self) -> object:
            raise ValueError("31 is not a valid Type")

    from lcve_deploy.video.orientation import frame_orientation

    assert frame_orientation(Frame()) == from_matrix((0, 1, 0, -1, 0, 0, 0, 0, 1))
    assert from_matrix((0, 1, 0, -1, 0, 0, 0, 0, 1)).left_right


# Which stream


def test_the_cover_of_an_album_is_not_the_video(tmp_path: Path) -> None:
    """A cover is a video stream of its own, and may come first."""
    covers = av.stream.Disposition.attached_pic
    cover, film = (
        SimpleNamespace(disposition=covers, frames=0),
        SimpleNamespace(disposition=av.stream.Disposition(0), frames=0),
    )
    assert decoding._main_stream([cover, film], av) is film
    assert decoding._main_stream([cover], av) is None


def test_a_song_with_a_cover_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=44100)
        picture = container.add_stream("png", rate=1)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        container.mux(picture.encode(av.VideoFrame.from_ndarray(grey(9, (32, 32)), format="rgb24")))
        for i in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, i * 1024
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    with av.open(str(path)) as container:
        assert [bool(s.disposition & av.stream.Disposition.attached_pic) for s in container.streams.video] == [True]
    with pytest.raises(VideoError, match="no video stream, only: audio, a cover picture"):
        read(path)


def test_a_picture_of_tiles_is_refused() -> None:
    """As phones store them: the first tile would be a corner of the picture."""
    tile = SimpleNamespace(disposition=av.stream.Disposition.dependent, frames=1)
    opened = decoding.OpenInput(decoding.Input(name="a.heic", address="a.heic"))
    opened._container = SimpleNamespace(streams=SimpleNamespace(video=[tile]))
    with pytest.raises(VideoError, match=r"a\.heic is a picture stored in tiles"):
        opened._stream(av)


# Pixels


def test_stored_pixels_are_taken_where_they_are_not_square(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain.mp4", codec="mpeg4", count=8, picture=corners)
    wide = tmp_path / "wide.mp4"
    with av.open(str(plain)) as old, av.open(str(wide), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        stream.sample_aspect_ratio = Fraction(16, 11)
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    video = read(wide)
    np.testing.assert_array_equal(video.clip.values, read(plain).clip.values)
    assert video.notes == ("pixels are not square (16:11); stored pixels are used, as in training",)


def triangle(size: int, target: int) -> np.ndarray:
    """The matrix of a resize with the triangle filter, widened where it shrinks: ``[target, size]``."""
    scale = size / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(size)[None] - centres[:, None]) / width)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("size", "short"), [(96, 32), (20, 32), (75, 32)], ids=["shrinks", "grows", "odd"])
def test_bilinear_is_the_triangle_filter(tmp_path: Path, size: int, short: int) -> None:
    """Not bicubic, whose sides are negative, and not two neighbours alone, which would see a third of the rows."""
    from lcve_deploy.video.write import encode_png

    image = np.random.default_rng(0).integers(0, 256, (size, size, 1), dtype=np.uint8).repeat(3, axis=2)
    (tmp_path / "1.png").write_bytes(encode_png(image))
    shown = read(tmp_path).clip.values[0, 0, :, :, 0].astype(float)
    matrix = triangle(size, short)
    off = np.abs(shown - matrix @ image[:, :, 0].astype(float) @ matrix.T)
    assert off[2:-2, 2:-2].max() < 1.5
    assert off.max() < 16  # beyond the edge there are copies of it, which the matrix has not


@pytest.mark.parametrize(
    ("stored", "short", "shown"),
    [
        ((48, 65), 32, (32, 43)),
        ((100, 145), 10, (10, 14)),
        ((100, 159), 10, (10, 15)),
        ((65, 48), 32, (43, 32)),
        ((240, 426), 224, (224, 397)),
    ],
)
def test_the_long_side_is_rounded_down(stored: tuple[int, int], short: int, shown: tuple[int, int]) -> None:
    frame = av.VideoFrame(stored[1], stored[0], "rgb24")
    assert decoding.to_rgb(frame, preprocess(short_side=short, crop=(8, 8)), 1, "a").shape[:2] == shown


@pytest.mark.parametrize(
    ("size", "crop", "views", "corners"),
    [
        ((32, 57), (32, 40), 1, [(0, 8)]),  # 8.5
        ((32, 59), (32, 40), 1, [(0, 10)]),  # 9.5
        ((33, 58), (32, 40), 3, [(0, 0), (0, 9), (0, 18)]),
        ((60, 41), (32, 40), 3, [(0, 0), (14, 0), (28, 0)]),
        ((40, 48), (32, 40), 2, [(4, 0), (4, 8)]),  # as much slack both ways: along the columns
        ((48, 48), (40, 32), 2, [(4, 0), (4, 16)]),
        ((43, 32), (32, 32), 1, [(6, 0)]),  # 5.5
    ],
)
def test_crops_that_are_not_square_and_halves(
    size: tuple[int, int], crop: tuple[int, int], views: int, corners: list[tuple[int, int]]
) -> None:
    assert crop_offsets(*size, crop, views) == corners


def test_a_crop_that_is_not_square_keeps_its_rows_and_columns(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", codec="mpeg4", count=8, picture=corners)
    geometry = ClipGeometry.parse("8x24x40x3/2x8x8")
    wide = preprocess(short_side=48, crop=(24, 40))
    clip = read_clips(path, wide, geometry).clip.values
    assert clip.shape == (1, *geometry.clip_shape)
    assert clip[0, 0, :8, :8, 0].mean() > 200  # rows from 12, columns from 12: red ends at 20


COLOURS = {
    ("none", "none"): (254, 0, 0),
    ("bt601", "limited"): (254, 0, 0),
    ("bt709", "limited"): (255, 24, 0),
    ("bt601", "full"): (238, 14, 13),
}


@pytest.mark.parametrize(("matrix", "range_"), COLOURS, ids=" ".join)
@pytest.mark.parametrize("size", [(48, 64), (1080, 1920)], ids=["small", "high definition"])
def test_matrix_and_range_are_those_that_the_file_names(
    tmp_path: Path, matrix: str, range_: str, size: tuple[int, int]
) -> None:
    """Y, U, V of 81, 90, 240: pure red under BT.601 with the limited range, which is what an unmarked file means."""
    height, width = size
    rows = [np.full((height, width), 81), np.full((height // 4, width), 90), np.full((height // 4, width), 240)]
    planes = np.concatenate(rows).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    frame.colorspace = {"none": 2, "bt601": 6, "bt709": 1}[matrix]
    frame.color_range = {"none": 0, "limited": 1, "full": 2}[range_]
    shown = decoding.to_rgb(frame, preprocess(), 1, "a")[16, 16].astype(int)
    assert np.abs(shown - COLOURS[matrix, range_]).max() <= 3
