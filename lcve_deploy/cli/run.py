"""``lcve run``: logits and predictions, on either side of the boundary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lcve_deploy.cli.options import (
    REMOTE,
    SESSION,
    AnyPath,
    PathOrAddress,
    as_json,
    remote_options,
    require_unused,
    sampling_options,
    session_options,
    signed_by_option,
    to_preprocess,
    to_remote_options,
    to_session_options,
    views_option,
)
from lcve_deploy.cli.show import StageProgress, print_json, printable
from lcve_deploy.clips import Views

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lcve_deploy.client import Client
    from lcve_deploy.clipfile import ClipFile
    from lcve_deploy.clips import Binding, EncryptedClip
    from lcve_deploy.remote import RemoteOptions
    from lcve_deploy.runtime import Session

__all__ = ["command", "print_predictions", "write_logits"]


@click.command()
@click.argument("artifact", type=PathOrAddress())
@click.argument("clip", type=AnyPath)
@click.option("--key", "key_file", type=AnyPath, help="Key file; without it, CLIP must be encrypted (operator's side).")
@click.option("--client", "client_folder", type=AnyPath, help="Server: the client/ folder, with --key.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes to show.")
@views_option
@sampling_options
@click.option("--logits-out", type=AnyPath, help="Write the logits, float32, as .npy.")
@session_options
@signed_by_option
@remote_options
@as_json
def command(artifact: Path | str, clip: Path, key_file: Path | None, logits_out: Path | None, **given: Any) -> None:
    """Run CLIP through ARTIFACT.

    With --key, the whole path: decode, encrypt, run, read; ARTIFACT holds server/ and client/, and CLIP
    is a video, a folder of frames, a .npy, or an encrypted clip. Without, the operator's side: ARTIFACT
    is server/, CLIP is an encrypted clip, and the logits stay in the artifact's own label order.

    ARTIFACT may be a model at a server: grpc://host:port/model, grpcs://, http:// or https://, with commas between
    several hosts and a version behind the model. Clips are encrypted here and sent; --key comes with --client.
    """
    from lcve_deploy.files.writing import require_absent

    if logits_out:
        require_absent(logits_out)
    if clip.suffix.lower() == ".lcve" and (given["views"].count > 1 or given["sampling"] or given["stride"]):
        raise click.UsageError("an encrypted clip has its views already; --views and sampling are for: lcve encrypt")
    if isinstance(artifact, str):
        _run_remote(artifact, clip, key_file, logits_out, given)
        return
    require_unused((*REMOTE, "client_folder"), "for the address of a server, and ARTIFACT is a folder")
    if key_file is None:
        _run_server(artifact, clip, logits_out, given)
    else:
        _run_pair(artifact, clip, key_file, logits_out, given)


def _run_pair(artifact: Path, clip: Path, key_file: Path, logits_out: Path | None, given: dict[str, Any]) -> None:
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.runtime import open_session
    from lcve_deploy.verbs.verify import paired_client

    client = paired_client(artifact, SecurityKey.read(key_file), given["signed_by"])
    session = open_session(artifact / "server", to_session_options(given))
    preprocess = to_preprocess(client.settings.preprocess, given["sampling"], given["stride"])
    content, notes = _encrypted(client, clip, given["views"], preprocess)
    logits = client.plain_order(_run_views(session, content.clip))
    write_logits(logits_out, logits)
    print_predictions(client, logits, top=given["top"], views=content.views, notes=notes, as_json=given["as_json"])


def write_logits(path: Path | None, logits: npt.NDArray[np.floating]) -> None:
    """Write logits as float32: ``[classes]`` for one view, ``[views, classes]`` otherwise."""
    import numpy as np

    from lcve_deploy.files.writing import new_file

    if path is None:
        return
    with new_file(path) as file:
        np.save(file, np.asarray(logits[0] if len(logits) == 1 else logits, dtype=np.float32), allow_pickle=False)


def print_predictions(
    client: Client,
    logits: npt.NDArray[np.floating],
    *,
    top: int,
    views: Views,
    notes: Sequence[str] = (),
    as_json: bool,
) -> None:
    """What a video is taken for, from logits ``[views, classes]`` in the plain order.

    Notes on the video are part of the JSON alone; they have been shown as warnings.
    """
    predictions = client.predict(logits, top=top)
    if as_json:
        print_json(
            {
                "views": str(views),
                "notes": list(notes),
                "problem_type": client.settings.problem_type.value,
                "predictions": [p.to_json() for p in predictions],
            }
        )
        return
    for prediction in predictions:
        click.echo(f"{prediction.text(2):>7}  {printable(prediction.name)}")


def _encrypted(client: Client, clip: Path, views: Views, preprocess: Any) -> tuple[ClipFile, Sequence[str]]:
    """A video, encrypted, and the notes on it; an encrypted clip has none."""
    from lcve_deploy.clipfile import read_clip_file

    if clip.suffix.lower() == ".lcve":
        return read_clip_file(clip), ()
    video = client.read_video(clip, views=views, preprocess=preprocess)
    return client.encrypt_video(video), video.notes


def _run_views(session: Session, clip: EncryptedClip) -> npt.NDArray[np.float32]:
    """Logits ``[views, classes]``, one view at a time: many views of a large model would fill the memory."""
    import numpy as np

    views, logits = len(clip.values), []
    progress = StageProgress(quiet=views == 1)
    for done, view in enumerate(_single_views(clip)):
        progress("running the views", done, views)
        logits.append(session.run(view))
    progress("running the views", views, views)
    return np.concatenate(logits)


def _single_views(clip: EncryptedClip) -> Iterator[EncryptedClip]:
    from lcve_deploy.clips import EncryptedClip

    for index in range(len(clip.values)):
        yield EncryptedClip(values=clip.values[index : index + 1], binding=clip.binding)


def _run_server(artifact: Path, clip: Path, logits_out: Path | None, given: dict[str, Any]) -> None:
    from lcve_deploy.runtime.opening import checked_manifest, open_checked

    content, options = _read_encrypted(clip), to_session_options(given)
    manifest = checked_manifest(artifact, options.signed_by)
    session = open_checked(artifact, manifest, options)
    logits = _run_views(session, content.clip)
    write_logits(logits_out, logits)
    _print_logits(logits, views=content.views, labels=manifest.labels, given=given)


def _run_remote(
    address: str, clip: Path, key_file: Path | None, logits_out: Path | None, given: dict[str, Any]
) -> None:
    """Either side, with the model at a server."""
    require_unused(SESSION, "for an artifact on this machine, and ARTIFACT is an address")
    options, folder = to_remote_options(given), given["client_folder"]
    if (key_file is None) != (folder is None):
        raise click.UsageError("with an address, --key and --client are given together, or not at all")
    if key_file is not None:
        from lcve_deploy.client import Client
        from lcve_deploy.keys.secret import SecurityKey

        client = Client.open(folder, SecurityKey.read(key_file))
        preprocess = to_preprocess(client.settings.preprocess, given["sampling"], given["stride"])
        content, notes = _encrypted(client, clip, given["views"], preprocess)
        classes = len(client.settings.classes)
        answers = _ask_views(address, content.clip, client.settings.binding, options, classes=classes)
        logits = client.plain_order(answers)
        write_logits(logits_out, logits)
        print_predictions(client, logits, top=given["top"], views=content.views, notes=notes, as_json=given["as_json"])
    else:
        content = _read_encrypted(clip)
        logits = _ask_views(address, content.clip, content.clip.binding, options)
        write_logits(logits_out, logits)
        _print_logits(logits, views=content.views, labels=None, given=given)


def _ask_views(
    address: str, clip: EncryptedClip, binding: Binding, options: RemoteOptions, *, classes: int | None = None
) -> npt.NDArray[np.float32]:
    """Logits ``[views, classes]``; one view a request, several requests under way."""
    import numpy as np

    from lcve_deploy.remote import RemoteSession

    views, logits = len(clip.values), []
    progress = StageProgress(quiet=views == 1)
    with RemoteSession(address, binding, options, classes=classes) as session:
        session.connect()
        progress("running the views", 0, views)
        for answer in session.map(_single_views(clip)):
            logits.append(answer)
            progress("running the views", len(logits), views)
    return np.concatenate(logits)


def _read_encrypted(clip: Path) -> ClipFile:
    from lcve_deploy.clipfile import read_clip_file

    if clip.suffix.lower() != ".lcve":
        raise click.UsageError("without --key, CLIP is an encrypted clip (.lcve); make one with: lcve encrypt")
    return read_clip_file(clip)


def _print_logits(logits: npt.NDArray[np.float32], *, views: Views, labels: str | None, given: dict[str, Any]) -> None:
    """Logits ``[views, classes]`` in the artifact's own label order; a server does not say what its labels are."""
    import numpy as np

    if given["as_json"]:
        print_json({"views": str(views), "labels": labels, "logits": logits.tolist()})
        return
    said = f", labels {labels}" if labels else ""
    click.echo(f"logits of {views} views{said}; the first of their mean:")
    mean = logits.mean(axis=0)
    for index in np.argsort(-mean, kind="stable")[: given["top"]]:
        click.echo(f"{mean[index]:10.4f}  position {index}")
