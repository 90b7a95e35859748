"""Audit an artifact: run the attacks that an operator or a thief could run.

Attacks never see the key. It scores them, and it encrypts the clips that the attacker is assumed to know or choose.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import Manifest, PublicKey, check_keyed, read_keyed
from lcve_deploy.attacks.clips import same_clip
from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Tensors
from lcve_deploy.attacks.pictures import put_in_order
from lcve_deploy.attacks.report import AuditReport, judge
from lcve_deploy.attacks.running import Case, run_attacks
from lcve_deploy.cipher.rotation import rotate_tensors
from lcve_deploy.clipfile import is_sealed_clip, read_clip_file, read_sealed_header
from lcve_deploy.clips import SALT_BYTES, Layout
from lcve_deploy.errors import ArtifactError, MismatchError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.runtime.opening import checked_manifest, open_session
from lcve_deploy.runtime.session import SessionOptions
from lcve_deploy.samples import real_clips
from lcve_deploy.video import read_clips

__all__ = ["AuditInputs", "audit", "independent_orders"]

_INDEPENDENT_KEYS: Final = 32

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class AuditInputs:
    """What the attacker is assumed to have in addition to the artifact, and the keys that score the attacks.

    Args:
        reference: official checkpoint or Hugging Face folder that the artifact may come from.
        ciphertexts: encrypted clip files. Of sealed ones, the report says that there is nothing to run an attack on.
        known_clips: plain clips that the attacker knows: videos, or ``.npy`` arrays of the artifact's geometry.
        known_classes: encrypted clip files of which the attacker knows the class, each with its number in the plain
            order, from 0. The artifact is run on them.
        other: server folder of another artifact of the same model; with a key, the default is a rotation of this one.
        key: key of the artifact; scores the attacks and encrypts known or chosen clips. Without it, nothing is scored.
        other_key: key of ``other``; by default ``key``.
        signed_by: public key that must have signed both artifacts; by default signatures are not checked.
    """

    reference: StrPath | None = None
    ciphertexts: Sequence[StrPath] = ()
    known_clips: Sequence[StrPath] = ()
    known_classes: Sequence[tuple[StrPath, int]] = ()
    other: StrPath | None = None
    key: SecurityKey | None = None
    other_key: SecurityKey | None = None
    signed_by: PublicKey | None = None


def audit(server: StrPath, inputs: AuditInputs | None = None, *, progress: Progress = silent) -> AuditReport:
    """Run all attacks that the inputs allow on a server folder.

    Args:
        server: the folder with ``manifest.json``.
        inputs: what else the attacker has; by default nothing.
        progress: receives every attack.

    Raises:
        ArtifactError: the server folder is invalid, or has no keyed file.
        CheckpointError, EncryptedClipError, SealingError, VideoError: an input cannot be read.
        MismatchError: a key, clip or artifact does not belong to this artifact.
        SignatureError: the pinned key has not signed an artifact.
    """
    inputs, folder = inputs or AuditInputs(), Path(server)
    with step(progress, "reading"):
        manifest, tensors = _read_artifact(folder, inputs.signed_by)
        victim = _Victim(manifest, inputs.key) if inputs.key else None
        sealed = [path for path in inputs.ciphertexts if is_sealed_clip(path)]
        ciphertexts = _read_ciphertexts([path for path in inputs.ciphertexts if path not in sealed], manifest)
        case = _case(folder, manifest, tensors, inputs, ciphertexts, victim)
    return judge(case, run_attacks(case, progress=progress), {**_subject(manifest), **_of_sealed(sealed)})


def independent_orders(manifest: Manifest) -> tuple[Estimate, ...]:
    """Return the orders of new random keys for the same artifact, to measure the score of chance."""
    return tuple(_Victim(manifest, SecurityKey.create(), foreign=True).truth for _ in range(_INDEPENDENT_KEYS))


class _Victim:
    """The key holder: knows the true orders, and encrypts clips.

    Args:
        manifest: manifest of the artifact.
        key: key of the artifact; with ``foreign``, any other key.
        foreign: do not require that the key belongs to the artifact.

    Raises:
        MismatchError: the key does not belong to the artifact.
    """

    def __init__(self, manifest: Manifest, key: SecurityKey, *, foreign: bool = False) -> None:
        binding = manifest.binding
        if not foreign and key.key_id != binding.key_id:
            raise MismatchError(
                f"the key does not belong to the artifact: expected key id {binding.key_id}, received {key.key_id}",
                hint="pass the key that the artifact was exported with, or none: then attacks run without scores",
            )
        classes = manifest.classes if manifest.labels == "hidden" else None
        orders = derive_orders(key, salt=bytes.fromhex(binding.salt), geometry=binding.geometry, classes=classes)
        self.orders = orders
        self.truth = Estimate(cubes=orders.cube_order, values=orders.pixel_order, labels=orders.label_order)

    def encrypt(self, cubes: Cubes) -> Cubes:
        """Encrypt clips in cubes, uint8 ``[clips, N, L]``."""
        shuffled: Cubes = cubes.take(self.orders.cube_order, axis=1).take(self.orders.pixel_order, axis=2)
        return shuffled


def _read_artifact(folder: Path, signed_by: PublicKey | None) -> tuple[Manifest, Tensors]:
    manifest = checked_manifest(folder, signed_by)
    tensors = read_keyed(folder)
    check_keyed(tensors, manifest.binding.geometry, manifest.classes)
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise ArtifactError(f"the keyed tensors of {folder} contain NaN or infinity")
    return manifest, tensors


def _case(
    folder: Path,
    manifest: Manifest,
    tensors: Tensors,
    inputs: AuditInputs,
    ciphertexts: Cubes | None,
    victim: _Victim | None,
) -> Case:
    geometry = manifest.binding.geometry
    other, relation = _other(manifest, tensors, inputs, victim)
    sample = ciphertexts[0] if ciphertexts is not None else None
    if sample is None and victim:
        sample = victim.encrypt(geometry.to_cubes(real_clips(geometry)[:1], np))[0]
    truth = None
    holdings: dict[str, Any] = {}
    if victim and sample is not None:
        plain = put_in_order(sample, victim.truth)
        truth = Estimate(**{**vars(victim.truth), "clip": plain})
        embedding = put_in_order(tensors["cube_embedding.weight"].T, Estimate(values=victim.truth.values)).T
        holdings = {"oracle": victim.encrypt, "embedding": embedding, "tokens": plain @ embedding.astype(np.float64)}
    return Case(
        holdings=Holdings(
            geometry=geometry,
            artifact=tensors,
            reference=_read_reference(inputs.reference, tensors, geometry),
            ciphertexts=ciphertexts,
            classified=_classified(folder, manifest, inputs),
            known=_known_pairs(inputs.known_clips, geometry, ciphertexts, victim),
            other=other,
            **holdings,
        ),
        truth=truth,
        relation=relation,
        independent=independent_orders(manifest) if victim else (),
        victim=sample,
    )


def _read_ciphertexts(paths: Sequence[StrPath], manifest: Manifest) -> Cubes | None:
    """Read all views of all files, in cubes; uint8 ``[clips, N, L]``."""
    geometry, clips = manifest.binding.geometry, []
    for path in paths:
        clip = read_clip_file(path).clip
        manifest.binding.require(clip.binding, here="artifact", there=f"encrypted clip {path}")
        as_video = clip.binding.layout is Layout.VIDEO
        clips.append(geometry.to_cubes(clip.values, np) if as_video else clip.values)
    return np.concatenate(clips) if clips else None


def _of_sealed(paths: Sequence[StrPath]) -> dict[str, str]:
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


def _classified(
    server: Path, manifest: Manifest, inputs: AuditInputs
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]] | None:
    """Return known classes and the logits of their clips; every view counts as a clip."""
    if not inputs.known_classes:
        return None
    classes: list[int] = []
    logits: list[npt.NDArray[np.floating]] = []
    session = open_session(server, SessionOptions(signed_by=inputs.signed_by))
    for path, number in inputs.known_classes:
        if not 0 <= number < manifest.classes:
            raise MismatchError(
                f"class {number} of {path} does not exist: the artifact has {manifest.classes} classes, from 0",
                hint="pass the number of the class in the plain order, as in the checkpoint",
            )
        clip = read_clip_file(path).clip
        manifest.binding.require(clip.binding, here="artifact", there=f"encrypted clip {path}")
        logits.append(session.run(clip))
        classes.extend([number] * len(logits[-1]))
    return np.array(classes), np.concatenate(logits)


def _read_reference(path: StrPath | None, tensors: Tensors, geometry: ClipGeometry) -> Tensors | None:
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


def _known_pairs(
    paths: Sequence[StrPath], geometry: ClipGeometry, ciphertexts: Cubes | None, victim: _Victim | None
) -> tuple[Cubes, Cubes] | None:
    """Pair each known clip with its encryption: made with the key, or found among the ciphertexts."""
    if not paths:
        return None
    size = max(geometry.height, geometry.width)
    preprocess = Preprocess(frames=geometry.frames, short_side=size, crop=(geometry.height, geometry.width))
    clips = np.concatenate([read_clips(Path(path), preprocess, geometry).clip.values for path in paths])
    plain = geometry.to_cubes(clips, np)
    if victim:
        return plain, victim.encrypt(plain)
    cipher = [
        next((c for c in (ciphertexts if ciphertexts is not None else ()) if same_clip(p, c)), None) for p in plain
    ]
    if unknown := [str(path) for path, clip in zip(paths, cipher, strict=True) if clip is None]:
        raise MismatchError(
            f"no encrypted clip has the cubes of {', '.join(unknown)}",
            hint="pass the key, or the encryption with --ciphertext and exactly the same frames as .npy",
        )
    return plain, np.stack([clip for clip in cipher if clip is not None])


def _other(
    manifest: Manifest, tensors: Tensors, inputs: AuditInputs, victim: _Victim | None
) -> tuple[Tensors | None, Estimate | None]:
    """Return another artifact of the model, and the true orders of this one relative to it; None if unknown."""
    if inputs.other is None and victim is None:
        return None, None
    if inputs.other is None and victim and inputs.key:
        rotated = _rotated_victim(manifest, inputs.key)
        return rotate_tensors(tensors, victim.orders, rotated.orders), _relation(victim.truth, rotated.truth)
    other_manifest, other = _read_artifact(Path(inputs.other or ""), inputs.signed_by)
    if (other_manifest.binding.geometry, other_manifest.classes) != (manifest.binding.geometry, manifest.classes):
        raise MismatchError(
            f"{inputs.other} takes {other_manifest.binding.geometry} and has {other_manifest.classes} classes, the "
            f"artifact {manifest.binding.geometry} and {manifest.classes}: they are not of the same model"
        )
    _require_same_width(other, tensors, f"the artifact {inputs.other}")
    key = inputs.other_key or inputs.key
    if key is None or victim is None:
        return other, None
    return other, _relation(victim.truth, _Victim(other_manifest, key).truth)


def _rotated_victim(manifest: Manifest, key: SecurityKey) -> _Victim:
    """Return a victim with the same key and a new salt."""
    from dataclasses import replace

    salt = secrets.token_bytes(SALT_BYTES).hex()
    return _Victim(manifest.with_binding(replace(manifest.binding, salt=salt)), key)


def _relation(this: Estimate, other: Estimate) -> Estimate:
    """Return the orders of this artifact relative to another one of the same model."""
    hidden = this.labels is not None and other.labels is not None
    names = ("cubes", "values", *(["labels"] if hidden else []))
    return Estimate(**{name: np.argsort(other.order(name))[this.order(name)] for name in names})


def _subject(manifest: Manifest) -> dict[str, str]:
    binding = manifest.binding
    return {
        "key id": binding.key_id,
        "salt": binding.salt,
        "geometry": str(binding.geometry),
        "classes": f"{manifest.classes}, labels {manifest.labels}",
    }
