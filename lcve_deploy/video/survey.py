"""Determine the indices of decoded frames if not every packet has exactly one frame.

Packets are numbered in the order of the file, and a decoded frame carries the number of its packet. A packet has no
frame if it is damaged, if it comes before the first key frame, or if it contains nothing to show.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_DEPTH", "Survey"]

MAX_DEPTH: Final = 16
"""Maximum frames that a decoder reorders; no codec allows more."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Result of decoding a whole video once.

    Args:
        times: presentation time of every packet, by its number; None if the file does not contain it.
        shown: packet numbers of the decoded frames, in the order of the decoder.
        failed: numbers of packets that could not be decoded.
    """

    times: Sequence[int | None]
    shown: Sequence[int]
    failed: Collection[int]

    def indices(self) -> list[int]:
        """Return the index of every decoded frame in the video, ascending from 0.

        Damaged frames count only between the first and the last good frame.
        """
        if not self.failed:
            return list(range(len(self.shown)))
        positions = self._positions()
        return [position - positions[0] for position in positions]

    def notes(self) -> list[str]:
        """Return notes on frames that are missing or damaged."""
        if not self.shown:
            return []
        total, positions, indices = len(self.times), self._positions(), self.indices()
        notes = []
        if positions[0]:
            notes.append(
                f"{positions[0]} of {total} frames, at the start, cannot be decoded and are left out: the video starts "
                "between two key frames, or its start is damaged"
            )
        if gaps := indices[-1] + 1 - len(indices):
            damaged = "1 damaged frame was" if gaps == 1 else f"{gaps} damaged frames were"
            notes.append(f"{damaged} replaced by the next good frame")
        if self.failed and positions[-1] + 1 < total:
            notes.append(f"the video ends after {positions[-1] + 1} of {total} frames: the rest cannot be decoded")
        return notes

    def _positions(self) -> list[int]:
        """Return the position of every decoded frame among all packets, in presentation order."""
        if times := self._usable_times():
            rank = {time: position for position, time in enumerate(sorted(times))}
            return [rank[times[packet]] for packet in self.shown]
        lost = sorted(set(range(len(self.times))) - set(self.shown))
        positions, before = list[int](), 0
        for count, packet in enumerate(self.shown):
            while before < len(lost) and lost[before] < packet:
                before += 1
            positions.append(count + before)
        return positions

    def _usable_times(self) -> list[int]:
        """Return the times of all packets; empty if they are not the presentation times of the frames."""
        times = [time for time in self.times if time is not None]
        if len(set(times)) != len(self.times):
            return []
        order = sorted(range(len(times)), key=times.__getitem__)
        late = max((abs(position - packet) for position, packet in enumerate(order)), default=0)
        shown = [times[packet] for packet in self.shown]
        return times if late <= MAX_DEPTH and shown == sorted(shown) else []
