"""``lcve decrypt``: decrypt a clip to an array, a video or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, key_option
from lcve_deploy.cli.options.sealing import open_with_option
from lcve_deploy.cli.options.types import PATH_OR_PIPE
from lcve_deploy.cli.pipes import is_standard, readable, require_writable, write_to
from lcve_deploy.cli.show import print_json, say

if TYPE_CHECKING:
    from lcve_deploy.sealing import SealingKey

__all__ = ["command"]


@lcve_command(
    "lcve decrypt clip.lcve --key key.bin -o clip.mp4",
    "lcve decrypt archive.lcve --open-with owner.key --key key.bin -o clip.mp4",
    "ssh camera cat clip.lcve | lcve decrypt - --key key.bin -o clip.png",
)
@cloup.argument("clip", type=PATH_OR_PIPE, help="Encrypted clip, .lcve. - for standard input.")
@key_option
@cloup.option(
    "-o",
    "--output",
    type=PATH_OR_PIPE,
    required=True,
    metavar="FILE",
    help="File to write: .npy, .mp4, or .png (contact sheet). - for .npy on standard output.",
)
@open_with_option
@as_json
def command(clip: Path, key_file: Path, output: Path, open_with: SealingKey | None, as_json: bool) -> None:
    """Decrypt a clip to an array, a video or a picture.

    An array has the shape [T, H, W, C], or [views, T, H, W, C] for several views; a video or picture
    shows all views one after the other.
    """
    import numpy as np

    from lcve_deploy.cipher.clips import decrypt
    from lcve_deploy.clipfile import read_clip_file
    from lcve_deploy.keys.orders import derive_orders
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.video import write_contact_sheet, write_video

    suffix = ".npy" if is_standard(output) else output.suffix.lower()
    if suffix not in (".npy", ".mp4", ".png"):
        raise click.BadParameter(f"expected .npy, .mp4 or .png, received {output}", param_hint="--output")
    require_writable(output, as_json=as_json)
    with readable(clip) as path:
        content = read_clip_file(path, open_with=open_with)
    binding = content.clip.binding
    orders = derive_orders(
        SecurityKey.read(key_file),
        salt=bytes.fromhex(binding.salt),
        geometry=binding.geometry,
        scheme=binding.scheme,
    )
    values = np.clip(np.rint(decrypt(content.clip, orders).values), 0, 255).astype(np.uint8)
    frames = np.concatenate(list(values))
    if suffix == ".npy":
        array = values[0] if content.views.count == 1 else values
        write_to(output, lambda file: np.save(file, array, allow_pickle=False))
    elif suffix == ".mp4":
        write_video(output, frames)
    else:
        write_contact_sheet(output, frames)
    if as_json:
        print_json({"output": str(output), "views": str(content.views), "geometry": str(binding.geometry)})
    elif not is_standard(output):
        say(f"{output}: {content.views} views of {binding.geometry}")
