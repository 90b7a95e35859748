"""Writes the small inputs that the pages work with: names of the actions, and a few held-out clips as videos."""

from __future__ import annotations

from pathlib import Path

from examples.moving_digits.data import ACTIONS, held_out_clips
from lcve_deploy.video.write import write_video

HERE = Path(__file__).resolve().parent
VIDEOS = {1: "moves-right", 5: "circles", 6: "grows"}
"""Place among the held-out clips, and name of the file."""


def main() -> None:
    clips, _ = held_out_clips(8)
    (HERE / "actions.txt").write_text("\n".join(ACTIONS) + "\n")
    (HERE / "videos").mkdir(exist_ok=True)
    for place, name in VIDEOS.items():
        write_video(HERE / "videos" / f"{name}.mp4", clips[place])


if __name__ == "__main__":
    main()
