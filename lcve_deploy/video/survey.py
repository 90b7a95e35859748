"""Which frame of a video each decoded frame is, where packets and frames are not one to one.

Packets are numbered as they are read, and a decoded frame carries the number of its packet. A damaged packet gives no
frame; nor does one before the first key frame, and some hold nothing that is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_DEPTH", "Survey"]

MAX_DEPTH: Final = 16
"""Frames that may wait in a decoder for earlier ones: no codec has more."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What came out of decoding a whole video once.

    Args:
        times: presentation time of every packet, by its number; None where the file does not say.
        shown: packets of the decoded frames, in the order in which they came.
        failed: packets that could not be decoded.
    """

    times: Sequence[int | None]
    shown: Sequence[int]
    failed: Collection[int]

    def indices(self) -> list[int]:
        """Index of every decoded frame in the video, from 0 and rising.

        Frames before the first good one and after the last do not count. A damaged one in between does.
        """
        if not self.failed:
            return list(range(len(self.shown)))
        places = self._places()
        return [place - places[0] for place in places]

    def notes(self) -> list[str]:
        """What must be said of such a video."""
        if not self.shown:
            return []
        total, places, indices = len(self.times), self._places(), self.indices()
        notes = []
        if places[0]:
            notes.append(
                f"{places[0]} of {total} frames, at the start, cannot be decoded and are left out: the video begins "
                "between two key frames, or is damaged there"
            )
        if gaps := indices[-1] + 1 - len(indices):
            damaged = "1 damaged frame was" if gaps == 1 else f"{gaps} damaged frames were"
            notes.append(f"{damaged} replaced by the next good frame")
        if self.failed and places[-1] + 1 < total:
            notes.append(f"the video ends after {places[-1] + 1} of {total} frames: the rest cannot be decoded")
        return notes

    def _places(self) -> list[int]:
        """Place of every decoded frame among all packets, in the order of presentation."""
        if times := self._usable_times():
            rank = {time: place for place, time in enumerate(sorted(times))}
            return [rank[times[packet]] for packet in self.shown]
        lost = sorted(set(range(len(self.times))) - set(self.shown))
        places, before = list[int](), 0
        for count, packet in enumerate(self.shown):
            while before < len(lost) and lost[before] < packet:
                before += 1
            places.append(count + before)
        return places

    def _usable_times(self) -> list[int]:
        """Times of all packets; none where they are not those of the frames."""
        times = [time for time in self.times if time is not None]
        if len(set(times)) != len(self.times):
            return []
        order = sorted(range(len(times)), key=times.__getitem__)
        late = max((abs(place - packet) for place, packet in enumerate(order)), default=0)
        shown = [times[packet] for packet in self.shown]
        return times if late <= MAX_DEPTH and shown == sorted(shown) else []
