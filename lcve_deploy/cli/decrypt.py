"""``lcve decrypt``: encrypted clip back to something to look at."""

from __future__ import annotations

from pathlib import Path

import click

from lcve_deploy.cli.options import AnyPath, key_option

__all__ = ["command"]


@click.command()
@click.argument("clip", type=AnyPath)
@key_option
@click.option("-o", "--output", type=AnyPath, required=True, help="clip.npy, clip.mp4 or clip.png (contact sheet).")
def command(clip: Path, key_file: Path, output: Path) -> None:
    """Decrypt the encrypted clip CLIP.

    An array has the shape [T, H, W, C], or [views, T, H, W, C] for several views; a video or picture
    shows all views one after the other.
    """
    import numpy as np

    from lcve_deploy.cipher.clips import decrypt
    from lcve_deploy.clipfile import read_clip_file
    from lcve_deploy.files.writing import new_file, require_absent
    from lcve_deploy.keys.orders import derive_orders
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.video import write_contact_sheet, write_video

    suffix = output.suffix.lower()
    if suffix not in (".npy", ".mp4", ".png"):
        raise click.BadParameter(f"expected .npy, .mp4 or .png, received {output}", param_hint="--output")
    require_absent(output)
    content = read_clip_file(clip)
    binding = content.clip.binding
    orders = derive_orders(SecurityKey.read(key_file), salt=bytes.fromhex(binding.salt), geometry=binding.geometry)
    values = decrypt(content.clip, orders).values
    frames = np.concatenate(list(values))
    if suffix == ".npy":
        with new_file(output) as file:
            np.save(file, values[0] if content.views.count == 1 else values, allow_pickle=False)
    elif suffix == ".mp4":
        write_video(output, frames)
    else:
        write_contact_sheet(output, frames)
    click.echo(f"{output}: {content.views} views of {binding.geometry}")
