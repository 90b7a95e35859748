"""``lcve encrypt``: video to encrypted clip."""

from __future__ import annotations

from pathlib import Path

import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, client_option, key_option
from lcve_deploy.cli.options.frames import FrameOptions, clip_options
from lcve_deploy.cli.options.types import PATH
from lcve_deploy.cli.show import print_json, say

__all__ = ["command"]


@lcve_command(
    "lcve encrypt video.mp4 --key key.bin --client client -o clip.lcve",
)
@cloup.argument("clip", type=PATH, help="Video file, folder of frames, picture, or .npy of the model's geometry.")
@key_option
@client_option
@cloup.option("-o", "--output", type=PATH, required=True, metavar="FILE", help="Encrypted clip to write, .lcve.")
@as_json
@clip_options
def command(clip: Path, key_file: Path, client_folder: Path, output: Path, frames: FrameOptions, as_json: bool) -> None:
    """Encrypt a video for the server of an artifact."""
    from lcve_deploy.client import Client
    from lcve_deploy.clipfile import write_clip_file
    from lcve_deploy.files.writing import require_absent
    from lcve_deploy.keys.secret import SecurityKey

    require_absent(output)
    client = Client.open(client_folder, SecurityKey.read(key_file))
    video = client.read_video(clip, views=frames.views, preprocess=frames.preprocess(client.settings.preprocess))
    write_clip_file(output, client.encrypt_video(video))
    if as_json:
        print_json({"output": str(output), "views": str(frames.views), "notes": list(video.notes)})
        return
    say(f"{output}: {frames.views} views of {client.settings.binding.geometry}, encrypted")
