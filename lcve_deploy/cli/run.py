"""``lcve run``: run a clip or video through a model, with the key or without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, logits_out_option, top_option
from lcve_deploy.cli.options.frames import FrameOptions, clip_options
from lcve_deploy.cli.options.groups import require_unused
from lcve_deploy.cli.options.remote import REMOTE, RemoteRequest, remote_options
from lcve_deploy.cli.options.sealing import open_with_option
from lcve_deploy.cli.options.session import SESSION, SessionRequest, session_options
from lcve_deploy.cli.options.types import PATH, PATH_OR_PIPE, PathOrAddress
from lcve_deploy.cli.pipes import is_standard, readable, require_writable
from lcve_deploy.cli.progress import StageProgress
from lcve_deploy.cli.show import print_classification, print_logits, write_output
from lcve_deploy.clipfile import read_clip_file
from lcve_deploy.errors import SessionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lcve_deploy.clips import EncryptedClip
    from lcve_deploy.sealing import SealingKey
    from lcve_deploy.verbs.classify import Classification

__all__ = ["command"]

_ENCRYPTED: Final = ".lcve"
_REQUESTS: Final = 4


@lcve_command(
    "lcve run service video.mp4 --key key.bin",
    "lcve run grpc://host:8001/actions video.mp4 --key key.bin --client client",
    "lcve run server clip.lcve --logits-out logits.npy",
    "lcve run server sealed.lcve --open-with serve.key --json",
    "lcve encrypt video.mp4 --key key.bin --client client -o - | lcve run server -",
)
@cloup.argument(
    "model",
    type=PathOrAddress(),
    metavar="MODEL",
    help="Artifact (with --key), its server/ (without), or the address of a model.",
)
@cloup.argument(
    "clip",
    type=PATH_OR_PIPE,
    help="Encrypted clip; with --key, also a video, picture, folder of frames, or .npy. - for standard input.",
)
@cloup.option("--key", "key_file", type=PATH, metavar="FILE", help="Key file; without it, CLIP must be encrypted.")
@cloup.option(
    "--client",
    "client_folder",
    type=PATH,
    metavar="DIR",
    help="client/ of the artifact, with --key, if MODEL does not contain it.",
)
@top_option
@logits_out_option
@open_with_option
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
    open_with: SealingKey | None,
    frames: FrameOptions,
    session: SessionRequest,
    remote: RemoteRequest,
    as_json: bool,
) -> None:
    """Run a clip or video through a model.

    With --key, this is the whole path: decode and encrypt the clip, run the model, and turn its logits into class
    names. MODEL contains server/ and client/. Without --key, this is the operator's part: MODEL is server/, and the
    output stays in the artifact's own order. Features and tokens are described; --logits-out writes them.

    MODEL may also be the address of a model on a server: grpc://host:port/model, grpcs://, http:// or https://.
    Separate several hosts by commas; a version may follow the model. Clips are encrypted on this machine before they
    are sent, and --key needs --client. With --seal-to, requests are sealed to the server's key, and its answers to a
    key made for each request.
    """
    if logits_out:
        require_writable(logits_out, as_json=as_json)
    _check_sides(model, key_file, client_folder)
    is_shown = logits_out is None or not is_standard(logits_out)
    with readable(clip) as path:
        _check_clip(path, key_file, frames)
        if key_file is not None:
            classification = _classify(
                model, path, key_file, client_folder, open_with, frames, session, remote, top=top
            )
            write_output(logits_out, classification.logits)
            if is_shown:
                print_classification(classification, as_json=as_json)
            return
        content = read_clip_file(path, open_with=open_with)
    logits, labels = _run_model(model, content.clip, session, remote)
    write_output(logits_out, logits)
    if is_shown:
        print_logits(logits, views=content.views, labels=labels, top=top, as_json=as_json)


def _check_sides(model: Path | str, key_file: Path | None, client_folder: Path | None) -> None:
    """Refuse options without effect, and incomplete pairs of options."""
    if isinstance(model, str):
        require_unused(SESSION, "only for an artifact on this machine, but MODEL is an address")
        if (key_file is None) != (client_folder is None):
            raise click.UsageError("with an address, --key and --client must be used together")
        return
    require_unused(REMOTE, "only for a server, but MODEL is a folder")
    if key_file is None or not (model / "manifest.json").is_file():
        own = f"; MODEL has its own, so pass {model / 'server'}" if (model / "client").is_dir() else ""
        require_unused(["client_folder"], f"only for the address of a model, or for server/ with --key{own}")


def _check_clip(path: Path, key_file: Path | None, frames: FrameOptions) -> None:
    encrypted = path.suffix.lower() == _ENCRYPTED
    if encrypted and frames.is_set:
        raise click.UsageError(
            "views and quality of an encrypted clip are fixed; pass --views, --sampling, --stride and --quality to "
            "lcve encrypt"
        )
    if key_file is None and not encrypted:
        raise click.UsageError("without --key, CLIP must be an encrypted clip (.lcve); create one with: lcve encrypt")


def _classify(
    model: Path | str,
    clip: Path,
    key_file: Path,
    client_folder: Path | None,
    open_with: SealingKey | None,
    frames: FrameOptions,
    session: SessionRequest,
    remote: RemoteRequest,
    *,
    top: int,
) -> Classification:
    """Run the key holder's side, with a model on this machine or on a server."""
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.verbs.classify import classify

    is_local = isinstance(model, Path)
    return classify(
        clip,
        model,
        key=SecurityKey.read(key_file),
        client=client_folder,
        open_with=open_with,
        views=None if clip.suffix.lower() == _ENCRYPTED else frames.views,
        sampling=frames.sampling,
        stride=frames.stride,
        top=top,
        session=session.options() if is_local else None,
        remote=None if is_local else remote.options(),
        step=frames.step,
        progress=StageProgress(),
    )


def _run_model(
    model: Path | str, clip: EncryptedClip, session: SessionRequest, remote: RemoteRequest
) -> tuple[npt.NDArray[np.float32], str | None]:
    """Run the operator's side. Return logits in the label order of the key, and ``labels``, which no server reports."""
    from lcve_deploy.encrypted_model import run_views

    if isinstance(model, str):
        from lcve_deploy.remote import RemoteSession

        with RemoteSession(model, clip.binding, remote.options()) as remote_session:
            remote_session.connect()
            logits = run_views(remote_session, clip, in_flight=_REQUESTS, progress=StageProgress())
        _require_finite(logits, model)
        return logits, None
    from lcve_deploy.artifact import find_key
    from lcve_deploy.runtime.opening import open_server

    options = session.options()
    manifest, local_session = open_server(model, options)
    logits = run_views(local_session, clip, progress=StageProgress())
    return logits, find_key(model, manifest, clip.binding.key, options.signed_by).manifest.labels


def _require_finite(logits: npt.NDArray[np.float32], server: str) -> None:
    """Refuse what could be neither read nor printed as JSON."""
    import numpy as np

    if not np.isfinite(logits).all():
        raise SessionError(f"expected finite logits, received NaN or infinity from {server}")
