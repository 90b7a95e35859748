"""``lcve encrypt``: encrypt a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, client_option, key_option
from lcve_deploy.cli.options.frames import FrameOptions, clip_options
from lcve_deploy.cli.options.sealing import pad_option, seal_to_option
from lcve_deploy.cli.options.types import PATH_OR_PIPE
from lcve_deploy.cli.pipes import is_standard, readable, require_writable, write_to
from lcve_deploy.cli.show import print_json, say

if TYPE_CHECKING:
    from lcve_deploy.sealing import SealingPublicKey

__all__ = ["command"]


@lcve_command(
    "lcve encrypt video.mp4 --key key.bin --client client -o clip.lcve",
    "lcve encrypt video.mp4 --key key.bin --client client \\\n    --seal-to serve.pub -o clip.lcve",
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
@pad_option(default=1)
@seal_to_option("clip")
@as_json
@clip_options
def command(
    clip: Path,
    key_file: Path,
    client_folder: Path,
    output: Path,
    pad: int,
    seal_to: SealingPublicKey | None,
    frames: FrameOptions,
    as_json: bool,
) -> None:
    """Encrypt a video for the server of an artifact.

    With --seal-to, the encrypted clip is also sealed, to the operator's key or, for an archive, to your own. A thief of
    the file then has nothing to attack. This does not protect from the holder of the private key.
    """
    from lcve_deploy.client import Client
    from lcve_deploy.clipfile import dump_clip
    from lcve_deploy.keys.secret import SecurityKey

    require_writable(output, as_json=as_json)
    client = Client.open(client_folder, SecurityKey.read(key_file)).with_step(frames.step)
    with readable(clip) as path:
        video = client.read_video(path, views=frames.views, preprocess=frames.preprocess(client.settings.preprocess))
    content = client.encrypt_video(video)
    write_to(output, lambda file: dump_clip(content, file, seal_to=seal_to, pad=pad))
    if as_json:
        sealed = {"sealed_to": seal_to.fingerprint} if seal_to else {}
        print_json({"output": str(output), "views": str(frames.views), "notes": list(video.notes), **sealed})
    elif not is_standard(output):
        sealed_to = f", sealed to {seal_to.fingerprint[:16]}..." if seal_to else ""
        say(f"{output}: {frames.views} views of {client.settings.binding.geometry}, encrypted{sealed_to}")
