"""``lcve encrypt``: video to encrypted clip."""

from __future__ import annotations

from pathlib import Path

import click

from lcve_deploy.cli.options import AnyPath, as_json, key_option, sampling_options, to_preprocess, views_option
from lcve_deploy.clips import Views

__all__ = ["command"]


@click.command()
@click.argument("clip", type=AnyPath)
@key_option
@click.option("--client", "client_folder", type=AnyPath, required=True, help="client/ of the artifact.")
@click.option("-o", "--output", type=AnyPath, required=True, help="Encrypted clip to write, .lcve.")
@views_option
@sampling_options
@as_json
def command(
    clip: Path,
    key_file: Path,
    client_folder: Path,
    output: Path,
    views: Views,
    sampling: str | None,
    stride: int | None,
    as_json: bool,
) -> None:
    """Encrypt CLIP: a video file, a folder of frames, a picture, or a .npy of the model's geometry."""
    from lcve_deploy.cli.show import print_json
    from lcve_deploy.client import Client
    from lcve_deploy.clipfile import write_clip_file
    from lcve_deploy.files.writing import require_absent
    from lcve_deploy.keys.secret import SecurityKey

    require_absent(output)
    client = Client.open(client_folder, SecurityKey.read(key_file))
    preprocess = to_preprocess(client.settings.preprocess, sampling, stride)
    video = client.read_video(clip, views=views, preprocess=preprocess)
    write_clip_file(output, client.encrypt_video(video))
    if as_json:
        print_json({"output": str(output), "views": str(views), "notes": list(video.notes)})
        return
    click.echo(f"{output}: {views} views of {client.settings.binding.geometry}, encrypted")
