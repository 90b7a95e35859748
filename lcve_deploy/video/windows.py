"""Cut a stream into overlapping windows, one clip each.

A window is sampled, resized and cropped by the same code as a video file with the same frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import PlainClip, Views
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.video.decode import to_rgb
from lcve_deploy.video.live import LiveFrame
from lcve_deploy.video.moments import Moment
from lcve_deploy.video.orientation import Orientation, frame_orientation
from lcve_deploy.video.read import stack_clips
from lcve_deploy.video.sampling import frame_indices

__all__ = ["SlidingWindows", "Window", "window_length"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """One clip of a stream.

    Args:
        number: number of the window, from 0.
        clip: uint8 RGB ``[1, T, H, W, C]``.
        first: time of its first frame.
        last: time of its last frame.
    """

    number: int
    clip: PlainClip
    first: Moment
    last: Moment


def window_length(preprocess: Preprocess) -> int:
    """Return the number of frames of the stream that one window covers."""
    if preprocess.sampling is Sampling.UNIFORM:
        return preprocess.frames * preprocess.stride
    return (preprocess.frames - 1) * preprocess.stride + 1


class SlidingWindows:
    """Collects frames into windows. Keeps only frames that a window uses.

    Args:
        preprocess: preprocessing of the model.
        hop: frames from the start of one window to the start of the next, at least 1; by default a window's length.
        name: name of the source, for messages.

    Raises:
        ValueError: ``hop`` is below 1.
    """

    def __init__(self, preprocess: Preprocess, *, hop: int | None = None, name: str) -> None:
        self.length = window_length(preprocess)
        self.hop = self.length if hop is None else hop
        if self.hop < 1:
            raise ValueError(f"expected a hop of at least 1 frame, received {self.hop}")
        self._preprocess, self._name = preprocess, name
        self._plan = frame_indices(self.length, preprocess, 1)[0]
        self._offsets = frozenset(self._plan)
        self._kept = dict[int, tuple[npt.NDArray[np.uint8], Moment]]()
        self._origin = self._start = self._number = 0
        self._size: tuple[int, int, Orientation] | None = None
        self._orientation: Orientation | None = None
        self._rotation: float = 0

    def add(self, frame: LiveFrame) -> Window | None:
        """Add a frame, and return the window that it completes, if any.

        A window never contains frames from before a reconnection, or of different sizes.

        Raises:
            VideoError: the frame cannot be resized within the limits.
        """
        picture = frame.picture
        orientation = self._orientation_of(frame)
        size = (picture.width, picture.height, orientation)
        if frame.index == 0 or size != self._size:
            self._origin, self._start, self._size = frame.index, 0, size
            self._kept.clear()
        index = frame.index - self._origin
        if not self._is_wanted(index):
            return None
        image = to_rgb(picture, self._preprocess, self.length, self._name, orientation)
        self._kept[index] = image, frame.moment
        return self._complete() if index == self._start + self._plan[-1] else None

    def _orientation_of(self, frame: LiveFrame) -> Orientation:
        """Return the orientation; read the display matrix only after a reconnection or if the rotation changes.

        In PyAV, reading side data creates a reference cycle, which keeps the frame until the garbage collector runs.
        """
        rotation = frame.picture.rotation
        if self._orientation is None or frame.index == 0 or rotation != self._rotation:
            self._orientation, self._rotation = frame_orientation(frame.picture), rotation
        return self._orientation

    def _is_wanted(self, index: int) -> bool:
        """Return whether a current window, or one that starts here, uses this frame."""
        return any(index - start in self._offsets for start in range(self._start, index + 1, self.hop))

    def _complete(self) -> Window:
        indices = [self._start + offset for offset in self._plan]
        frames = {index: self._kept[index][0] for index in indices}
        clip = PlainClip(values=stack_clips(frames, [indices], self._preprocess, Views()))
        first, last = (self._kept[index][1] for index in (indices[0], indices[-1]))
        self._start, self._number = self._start + self.hop, self._number + 1
        for index in [index for index in self._kept if index < self._start]:
            del self._kept[index]
        return Window(number=self._number - 1, clip=clip, first=first, last=last)
