"""``lcve encrypt``: encrypt a video."""

from __future__ import annotations

from pathlib import Path

import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, client_option, key_option
from lcve_deploy.cli.options.frames import FrameOptions, clip_options
from lcve_deploy.cli.options.types import PATH_OR_PIPE
from lcve_deploy.cli.pipes import is_standard, readable, require_writable, write_to
from lcve_deploy.cli.show import print_json, say

__all__ = ["command"]


@lcve_command(
    "lcve encrypt video.mp4 --key key.bin --client client -o clip.lcve",
    "ffmpeg -i URL -f matroska - | \\\n    lcve encrypt - --key key.bin --client client -o clip.lcve",
)
@cloup.argument(
    "clip",
    type=PATH_OR_PIPE,
    help="Video file, folder of frames, picture, or .npy of the model's geometry. - for standard input.",
)
@key_option
@client_option
@cloup.option(
    "-o",
    "--output",
    type=PATH_OR_PIPE,
    required=True,
    metavar="FILE",
    help="Encrypted clip to write, .lcve. - for standard output.",
)
@as_json
@clip_options
def command(clip: Path, key_file: Path, client_folder: Path, output: Path, frames: FrameOptions, as_json: bool) -> None:
    """Encrypt a video for the server of an artifact."""
    from lcve_deploy.client import Client
    from lcve_deploy.clipfile import dump_clip
    from lcve_deploy.keys.secret import SecurityKey

    require_writable(output, as_json=as_json)
    client = Client.open(client_folder, SecurityKey.read(key_file))
    with readable(clip) as path:
        video = client.read_video(path, views=frames.views, preprocess=frames.preprocess(client.settings.preprocess))
    content = client.encrypt_video(video)
    write_to(output, lambda file: dump_clip(content, file))
    if as_json:
        print_json({"output": str(output), "views": str(frames.views), "notes": list(video.notes)})
    elif not is_standard(output):
        say(f"{output}: {frames.views} views of {client.settings.binding.geometry}, encrypted")
