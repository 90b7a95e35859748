"""``lcve run``: logits and predictions, on either side of the boundary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, top_option
from lcve_deploy.cli.options.frames import FrameOptions, clip_options
from lcve_deploy.cli.options.groups import require_unused
from lcve_deploy.cli.options.remote import REMOTE, RemoteRequest, remote_options
from lcve_deploy.cli.options.session import SESSION, SessionRequest, session_options
from lcve_deploy.cli.options.types import PATH, PathOrAddress
from lcve_deploy.cli.progress import StageProgress
from lcve_deploy.cli.show import print_json, printable
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


@lcve_command(
    "lcve run service video.mp4 --key key.bin",
    "lcve run grpc://host:8001/actions video.mp4 --key key.bin --client client",
    "lcve run server clip.lcve --logits-out logits.npy",
)
@cloup.argument(
    "model", type=PathOrAddress(), metavar="MODEL", help="Artifact with --key, server/ without, or an address."
)
@cloup.argument("clip", type=PATH, help="Encrypted clip; with --key, also a video, folder of frames, or .npy.")
@cloup.option("--key", "key_file", type=PATH, metavar="FILE", help="Key file; without it, CLIP must be encrypted.")
@cloup.option("--client", "client_folder", type=PATH, metavar="DIR", help="client/, with --key and an address.")
@top_option
@cloup.option("--logits-out", type=PATH, metavar="FILE", help="Write the logits, float32, as .npy.")
@as_json
@clip_options
@session_options
@remote_options
def command(
    model: Path | str,
    clip: Path,
    key_file: Path | None,
    client_folder: Path | None,
    top: int,
    logits_out: Path | None,
    frames: FrameOptions,
    session: SessionRequest,
    remote: RemoteRequest,
    as_json: bool,
) -> None:
    """Run a clip or video through a model.

    With --key, the whole path: decode, encrypt, run, read the answer; MODEL holds server/ and client/. Without it,
    the operator's side: MODEL is server/, and the logits stay in the artifact's own label order.

    MODEL may be a model at a server: grpc://host:port/model, grpcs://, http:// or https://, with commas between
    several hosts and a version after the model. Clips are encrypted here and sent; --key goes with --client.
    """
    from lcve_deploy.files.writing import require_absent

    if logits_out:
        require_absent(logits_out)
    if clip.suffix.lower() == ".lcve" and frames.is_given:
        raise click.UsageError("an encrypted clip has its views already; --views and sampling are for: lcve encrypt")
    work = _Work(
        clip=clip, key_file=key_file, frames=frames, top=top, logits_out=logits_out, session=session, as_json=as_json
    )
    if isinstance(model, str):
        require_unused(SESSION, "for an artifact on this machine, and MODEL is an address")
        _run_remote(model, client_folder, remote.options(), work)
        return
    require_unused((*REMOTE, "client_folder"), "for the address of a server, and MODEL is a folder")
    if key_file is None:
        _run_server(model, work)
    else:
        _run_pair(model, key_file, work)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What is run, and where its answer goes."""

    clip: Path
    key_file: Path | None
    frames: FrameOptions
    top: int
    logits_out: Path | None
    session: SessionRequest
    as_json: bool


def _run_pair(artifact: Path, key_file: Path, work: _Work) -> None:
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.runtime import open_session
    from lcve_deploy.verbs.verify import paired_client

    client = paired_client(artifact, SecurityKey.read(key_file), work.session.signed_by)
    session = open_session(artifact / "server", work.session.options())
    content, notes = _encrypted(client, work)
    logits = client.plain_order(_run_views(session, content.clip))
    write_logits(work.logits_out, logits)
    print_predictions(client, logits, top=work.top, views=content.views, notes=notes, as_json=work.as_json)


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


def _encrypted(client: Client, work: _Work) -> tuple[ClipFile, Sequence[str]]:
    """A video, encrypted, and the notes on it; an encrypted clip has none."""
    from lcve_deploy.clipfile import read_clip_file

    if work.clip.suffix.lower() == ".lcve":
        return read_clip_file(work.clip), ()
    preprocess = work.frames.preprocess(client.settings.preprocess)
    video = client.read_video(work.clip, views=work.frames.views, preprocess=preprocess)
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


def _run_server(artifact: Path, work: _Work) -> None:
    from lcve_deploy.runtime.opening import checked_manifest, open_checked

    content, options = _read_encrypted(work.clip), work.session.options()
    manifest = checked_manifest(artifact, options.signed_by)
    session = open_checked(artifact, manifest, options)
    logits = _run_views(session, content.clip)
    write_logits(work.logits_out, logits)
    _print_logits(logits, views=content.views, labels=manifest.labels, work=work)


def _run_remote(address: str, folder: Path | None, options: RemoteOptions, work: _Work) -> None:
    """Either side, with the model at a server."""
    if work.key_file is None and folder is None:
        content = _read_encrypted(work.clip)
        logits = _ask_views(address, content.clip, content.clip.binding, options)
        write_logits(work.logits_out, logits)
        _print_logits(logits, views=content.views, labels=None, work=work)
        return
    if work.key_file is None or folder is None:
        raise click.UsageError("with an address, --key and --client are given together, or not at all")
    from lcve_deploy.client import Client
    from lcve_deploy.keys.secret import SecurityKey

    client = Client.open(folder, SecurityKey.read(work.key_file))
    content, notes = _encrypted(client, work)
    classes = len(client.settings.classes)
    answers = _ask_views(address, content.clip, client.settings.binding, options, classes=classes)
    logits = client.plain_order(answers)
    write_logits(work.logits_out, logits)
    print_predictions(client, logits, top=work.top, views=content.views, notes=notes, as_json=work.as_json)


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


def _print_logits(logits: npt.NDArray[np.float32], *, views: Views, labels: str | None, work: _Work) -> None:
    """Logits ``[views, classes]`` in the artifact's own label order; a server does not say what its labels are."""
    import numpy as np

    if work.as_json:
        print_json({"views": str(views), "labels": labels, "logits": logits.tolist()})
        return
    said = f", labels {labels}" if labels else ""
    click.echo(f"logits of {views} views{said}; the first of their mean:")
    mean = logits.mean(axis=0)
    for index in np.argsort(-mean, kind="stable")[: work.top]:
        click.echo(f"{mean[index]:10.4f}  position {index}")
