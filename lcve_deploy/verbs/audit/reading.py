"""Read what an attacker is assumed to have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.clips import same_clip
from lcve_deploy.attacks.coefficients.frequencies import quantised
from lcve_deploy.attacks.coefficients.known import same_coefficients
from lcve_deploy.attacks.holdings import Cubes, Tensors
from lcve_deploy.clipfile import is_sealed_clip, read_clip_file, read_sealed_header
from lcve_deploy.clips import EncryptedClip, Scheme
from lcve_deploy.errors import EncryptedClipError, MismatchError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.output import OutputKind
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.packing import DEFAULT_STEP
from lcve_deploy.runtime.opening import open_session
from lcve_deploy.runtime.session import SessionOptions
from lcve_deploy.verbs.audit.inputs import AuditInputs, StrPath
from lcve_deploy.verbs.audit.subject import Subject
from lcve_deploy.verbs.audit.victim import Victim, in_cubes
from lcve_deploy.video import read_clips

__all__ = ["describe_sealed", "read_ciphertexts", "read_classified", "read_known_pairs", "read_reference"]


def read_ciphertexts(paths: Sequence[StrPath], subject: Subject) -> Cubes | None:
    """Read all views of all files, in cubes ``[clips, N, L]``."""
    clips = []
    for path in paths:
        clip = read_clip_file(path).clip
        subject.key.binding.require(clip.binding, here="key folder", there=f"encrypted clip {path}")
        clips.append(in_cubes(clip))
    return np.concatenate(clips) if clips else None


def describe_sealed(paths: Sequence[StrPath]) -> dict[str, str]:
    """Return what the report says of sealed clips.

    Raises:
        SealingError: the header of a sealed clip is invalid.
    """
    headers = [read_sealed_header(path) for path in paths]
    if not headers:
        return {}
    keys = ", ".join(sorted({f"{header.recipient[:16]}..." for header in headers}))
    nothing = "without the private key there is nothing to run an attack on"
    return {"sealed clips": f"{len(headers)}, sealed to {keys}: {nothing}"}


def read_classified(
    subject: Subject, inputs: AuditInputs
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]] | None:
    """Return known classes and the logits of their clips; every view counts as a clip. None if labels are shown."""
    if not inputs.known_classes:
        return None
    output = subject.folder.model.result
    if output.kind is not OutputKind.LOGITS:
        raise MismatchError(
            f"known classes are for a model that answers logits of clips, this one answers {output}",
            hint="omit --known-class: without classes of clips, no order of labels can be found with them",
        )
    classes: list[int] = []
    logits: list[npt.NDArray[np.floating]] = []
    session = open_session(subject.server, SessionOptions(signed_by=inputs.signed_by))
    count = subject.folder.model.classes
    for path, number in inputs.known_classes:
        if not 0 <= number < count:
            raise MismatchError(
                f"class {number} of {path} does not exist: expected a number from 0 to {count - 1}",
                hint="pass the number of the class in the plain order, as in the checkpoint",
            )
        clip = _read_not_sealed(path)
        subject.key.binding.require(clip.binding, here="key folder", there=f"encrypted clip {path}")
        logits.append(session.run(clip))
        classes.extend([number] * len(logits[-1]))
    return None if subject.hidden_classes is None else (np.array(classes), np.concatenate(logits))


def _read_not_sealed(path: StrPath) -> EncryptedClip:
    if is_sealed_clip(path):
        raise EncryptedClipError(
            f"the clip of a known class is sealed to the key {read_sealed_header(path).recipient[:16]}...: {path}",
            hint="pass the encrypted clip as it was before it was sealed, or omit it: without the private key, an "
            "attacker cannot run the model on it either",
        )
    return read_clip_file(path).clip


def read_reference(path: StrPath | None, tensors: Tensors, geometry: ClipGeometry) -> Tensors | None:
    """Read the tensors of a reference checkpoint, in the plain order; None without a path."""
    if path is None:
        return None
    from lcve_deploy.exporters.checkpoints.outer import load_outer_weights

    outer = load_outer_weights(Path(path), geometry)
    _require_same_width(outer, tensors, "the reference")
    return outer


def _require_same_width(other: Tensors, tensors: Tensors, what: str) -> None:
    widths = [t["cube_embedding.weight"].shape[1] for t in (other, tensors)]
    if widths[0] != widths[1]:
        raise MismatchError(
            f"expected the embedding width {widths[1]} of the artifact, received {widths[0]}: {what} is not of the "
            "same model",
            hint="pass one of the same family and size",
        )


def read_known_pairs(
    inputs: AuditInputs, subject: Subject, ciphertexts: Cubes | None, victim: Victim | None
) -> tuple[Cubes, Cubes] | None:
    """Pair each known clip with its encryption: made with the key, or found among the ciphertexts."""
    paths, geometry = inputs.known_clips, subject.key.binding.geometry
    if not paths:
        return None
    size = max(geometry.height, geometry.width)
    preprocess = Preprocess(frames=geometry.frames, short_side=size, crop=(geometry.height, geometry.width))
    clips = np.concatenate([read_clips(Path(path), preprocess, geometry).clip.values for path in paths])
    plain = geometry.to_cubes(clips, np)
    if victim:
        return _as_encrypted(plain, subject, DEFAULT_STEP), victim.encrypt(plain)
    pairs = [_pair(clip, subject, ciphertexts) for clip in plain]
    if unknown := [str(path) for path, pair in zip(paths, pairs, strict=True) if pair is None]:
        raise MismatchError(
            f"no encrypted clip has the cubes of {', '.join(unknown)}",
            hint="pass the key, or the encryption with --ciphertext and exactly the same frames as .npy",
        )
    known, cipher = zip(*(pair for pair in pairs if pair is not None), strict=True)
    return np.stack(known), np.stack(cipher)


def _pair(plain: Cubes, subject: Subject, ciphertexts: Cubes | None) -> tuple[Cubes, Cubes] | None:
    """Return a plain clip as it is before its values are shuffled, and its encryption; None if there is none."""
    alike = same_clip if subject.scheme is Scheme.LCVE else same_coefficients
    for cipher in ciphertexts if ciphertexts is not None else ():
        known = _as_encrypted(plain, subject, _step_of(cipher))
        if alike(known, cipher):
            return known, cipher
    return None


def _as_encrypted(plain: Cubes, subject: Subject, step: float) -> Cubes:
    """Return plain clips in cubes as they are before their values are shuffled."""
    if subject.scheme is Scheme.LCVE:
        return plain
    return quantised(plain, subject.key.binding.geometry, step)


def _step_of(coefficients: Cubes) -> float:
    """Return the step of a clip: its smallest coefficient. Any will do if all are zero."""
    sizes = np.abs(coefficients[coefficients != 0])
    return float(sizes.min()) if len(sizes) else DEFAULT_STEP
