"""``lcve run``: logits and predictions, on either side of the boundary."""

from __future__ import annotations

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
    to_remote_options,
    to_session_options,
    views_option,
)
from lcve_deploy.cli.show import StageProgress, print_classification, print_logits
from lcve_deploy.clipfile import read_clip_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lcve_deploy.clips import EncryptedClip
    from lcve_deploy.verbs.classify import Classification

__all__ = ["command"]


@click.command()
@click.argument("artifact", type=PathOrAddress())
@click.argument("clip", type=AnyPath)
@click.option("--key", "key_file", type=AnyPath, help="Key file; without it, CLIP must be encrypted (operator's side).")
@click.option("--client", "client_folder", type=AnyPath, help="client/ folder, with --key, if ARTIFACT has none.")
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
    encrypted = clip.suffix.lower() == ".lcve"
    if encrypted and (given["views"].count > 1 or given["sampling"] or given["stride"]):
        raise click.UsageError("an encrypted clip has its views already; --views and sampling are for: lcve encrypt")
    _check_sides(artifact, key_file, given["client_folder"])
    if key_file is not None:
        found = _classify(artifact, clip, key_file, encrypted, given)
        _write_logits(logits_out, found.logits)
        print_classification(found, as_json=given["as_json"])
        return
    if not encrypted:
        raise click.UsageError("without --key, CLIP is an encrypted clip (.lcve); make one with: lcve encrypt")
    content = read_clip_file(clip)
    logits, labels = _answer(artifact, content.clip, given)
    _write_logits(logits_out, logits)
    print_logits(logits, views=content.views, labels=labels, top=given["top"], as_json=given["as_json"])


def _check_sides(artifact: Path | str, key_file: Path | None, client_folder: Path | None) -> None:
    """What has no effect, and what is missing."""
    if isinstance(artifact, str):
        require_unused(SESSION, "for an artifact on this machine, and ARTIFACT is an address")
        if (key_file is None) != (client_folder is None):
            raise click.UsageError("with an address, --key and --client are given together, or not at all")
        return
    require_unused(REMOTE, "for the address of a server, and ARTIFACT is a folder")
    if key_file is None or not (artifact / "manifest.json").is_file():
        require_unused(["client_folder"], "for the address of a server, or for server/ alone with --key")


def _classify(
    artifact: Path | str, clip: Path, key_file: Path, encrypted: bool, given: dict[str, Any]
) -> Classification:
    """The key holder's side, with a model here or at a server."""
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.model.preprocess import Sampling
    from lcve_deploy.verbs.classify import classify

    here = isinstance(artifact, Path)
    return classify(
        clip,
        artifact,
        key=SecurityKey.read(key_file),
        client=given["client_folder"],
        views=None if encrypted else given["views"],
        sampling=Sampling(given["sampling"]) if given["sampling"] else None,
        stride=given["stride"],
        top=given["top"],
        session=to_session_options(given) if here else None,
        remote=None if here else to_remote_options(given),
        progress=StageProgress(),
    )


def _answer(
    artifact: Path | str, clip: EncryptedClip, given: dict[str, Any]
) -> tuple[npt.NDArray[np.float32], str | None]:
    """The operator's side: logits in the artifact's own order, and what its labels are, which no server says."""
    from lcve_deploy.encrypted_model import run_views

    if isinstance(artifact, str):
        from lcve_deploy.remote import RemoteSession

        with RemoteSession(artifact, clip.binding, to_remote_options(given)) as remote:
            remote.connect()
            return run_views(remote, clip, in_flight=4, progress=StageProgress()), None
    from lcve_deploy.runtime.opening import checked_manifest, open_checked

    options = to_session_options(given)
    manifest = checked_manifest(artifact, options.signed_by)
    session = open_checked(artifact, manifest, options)
    return run_views(session, clip, progress=StageProgress()), manifest.labels


def _write_logits(path: Path | None, logits: npt.NDArray[np.floating]) -> None:
    """Write logits as float32: ``[classes]`` for one view, ``[views, classes]`` otherwise."""
    import numpy as np

    from lcve_deploy.files.writing import new_file

    if path is None:
        return
    with new_file(path) as file:
        np.save(file, np.asarray(logits[0] if len(logits) == 1 else logits, dtype=np.float32), allow_pickle=False)
