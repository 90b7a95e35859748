"""Windows over a stream: at every hop the clip that a model takes of the frames before it.

A window is sampled, resized and cropped by the same code as a video file of its frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import PlainClip, Views
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.video.decode import resized
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
        number: from 0.
        clip: uint8 RGB ``[1, T, H, W, C]``.
        first: when its first frame was.
        last: when its last frame was.
    """

    number: int
    clip: PlainClip
    first: Moment
    last: Moment


def window_length(preprocess: Preprocess) -> int:
    """Frames of a video that is sampled as one window, none left over."""
    if preprocess.sampling is Sampling.UNIFORM:
        return preprocess.frames * preprocess.stride
    return (preprocess.frames - 1) * preprocess.stride + 1


class SlidingWindows:
    """Turns frames into windows, and keeps no frame that no window will take.

    Args:
        preprocess: of the model.
        hop: frames from one window's start to the next one's, at least 1; by default a window's length.
        name: of the source, for errors.

    Raises:
        ValueError: a hop below 1.
    """

    def __init__(self, preprocess: Preprocess, *, hop: int | None = None, name: str) -> None:
        self.length = window_length(preprocess)
        self.hop = self.length if hop is None else hop
        if self.hop < 1:
            raise ValueError(f"a hop is at least 1 frame, received {self.hop}")
        self._preprocess, self._name = preprocess, name
        self._plan = frame_indices(self.length, preprocess, 1)[0]
        self._offsets = frozenset(self._plan)
        self._kept = dict[int, tuple[npt.NDArray[np.uint8], Moment]]()
        self._origin = self._start = self._number = 0
        self._size: tuple[int, int, Orientation] | None = None
        self._turned: Orientation | None = None
        self._rotation: float = 0

    def add(self, frame: LiveFrame) -> Window | None:
        """The window that this frame completes; at most one, as they start a hop apart.

        A window never holds frames from before a break, or of another size.

        Raises:
            VideoError: a frame that cannot be resized within the limits.
        """
        picture = frame.picture
        turned = self._orientation(frame)
        size = (picture.width, picture.height, turned)
        if frame.index == 0 or size != self._size:
            self._origin, self._start, self._size = frame.index, 0, size
            self._kept.clear()
        index = frame.index - self._origin
        if not self._is_wanted(index):
            return None
        image = resized(picture, self._preprocess, self.length, self._name, turned)
        self._kept[index] = image, frame.moment
        return self._completed() if index == self._start + self._plan[-1] else None

    def _orientation(self, frame: LiveFrame) -> Orientation:
        """As the display matrix says, read again only after a break or another rotation.

        PyAV ties a frame whose side data was read to itself, so that it stays until Python's collector runs.
        """
        rotation = frame.picture.rotation
        if self._turned is None or frame.index == 0 or rotation != self._rotation:
            self._turned, self._rotation = frame_orientation(frame.picture), rotation
        return self._turned

    def _is_wanted(self, index: int) -> bool:
        """Whether a window that has begun, or begins here, takes this frame."""
        return any(index - start in self._offsets for start in range(self._start, index + 1, self.hop))

    def _completed(self) -> Window:
        indices = [self._start + offset for offset in self._plan]
        frames = {index: self._kept[index][0] for index in indices}
        clip = PlainClip(values=stack_clips(frames, [indices], self._preprocess, Views()))
        first, last = (self._kept[index][1] for index in (indices[0], indices[-1]))
        self._start, self._number = self._start + self.hop, self._number + 1
        for index in [index for index in self._kept if index < self._start]:
            del self._kept[index]
        return Window(number=self._number - 1, clip=clip, first=first, last=last)
