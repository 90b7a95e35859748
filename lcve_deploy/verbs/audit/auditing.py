"""Audit a key of a model: run the attacks that an operator or a thief could run.

Attacks never see the key. It scores them, and it encrypts the clips that the attacker is assumed to know or choose.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import KeyFolder, KeyManifest, PublicKey, find_keys, open_key
from lcve_deploy.artifact.names import KEY_MANIFEST, KEYS
from lcve_deploy.attacks.clips import same_clip
from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Tensors
from lcve_deploy.attacks.pictures import put_in_order
from lcve_deploy.attacks.report import AuditReport, judge
from lcve_deploy.attacks.running import Case, run_attacks
from lcve_deploy.cipher.rotation import rotate_tensors
from lcve_deploy.clipfile import is_sealed_clip, read_clip_file, read_sealed_header
from lcve_deploy.clips import SALT_BYTES, Binding, Layout, Scheme
from lcve_deploy.errors import ArtifactError, MismatchError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import Orders, derive_orders
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.model.output import OutputKind
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
        known_clips: plain clips that the attacker knows: videos, or ``.npy`` arrays of the model's geometry.
        known_classes: encrypted clip files of which the attacker knows the class, each with its number in the plain
            order, from 0. The artifact is run on them.
        name: name of the key folder in ``keys/`` to attack; by default the only one.
        other: another key folder of the same model; with a key, the default is this one with a new salt.
        key: key of the key folder; scores the attacks and encrypts known or chosen clips. Without it, nothing
            is scored.
        other_key: key of ``other``; by default ``key``.
        signed_by: public key that must have signed the model and both key folders; by default signatures are not
            checked.
    """

    name: str | None = None

    reference: StrPath | None = None
    ciphertexts: Sequence[StrPath] = ()
    known_clips: Sequence[StrPath] = ()
    known_classes: Sequence[tuple[StrPath, int]] = ()
    other: StrPath | None = None
    key: SecurityKey | None = None
    other_key: SecurityKey | None = None
    signed_by: PublicKey | None = None


def audit(server: StrPath, inputs: AuditInputs | None = None, *, progress: Progress = silent) -> AuditReport:
    """Run all attacks that the inputs allow on a model folder and one of its key folders.

    Args:
        server: the model folder, with ``manifest.json`` and ``keys/``.
        inputs: what else the attacker has; by default nothing.
        progress: receives every attack.

    Raises:
        ArtifactError: the model folder or a key folder is invalid, or it is not clear which key folder is meant.
        CheckpointError, EncryptedClipError, SealingError, VideoError: an input cannot be read.
        MismatchError: a key, clip or key folder does not belong to this one.
        SignatureError: the pinned key has not signed a manifest.
    """
    inputs, folder = inputs or AuditInputs(), Path(server)
    with step(progress, "reading"):
        subject = _subject(folder, inputs)
        victim = _Victim(subject, subject.key.binding, inputs.key) if inputs.key else None
        sealed = [path for path in inputs.ciphertexts if is_sealed_clip(path)]
        ciphertexts = _read_ciphertexts([path for path in inputs.ciphertexts if path not in sealed], subject)
        case = _case(subject, inputs, ciphertexts, victim)
    return judge(case, run_attacks(case, progress=progress), {**subject.to_json(), **_of_sealed(sealed)})


def _require_scheme(scheme: str) -> None:
    """Refuse an artifact that the attacks are not written for: their scores would look better than they are."""
    if scheme != Scheme.LCVE:
        raise ArtifactError(
            f"the attacks of the audit are written for the scheme {Scheme.LCVE}, received an artifact of {scheme}",
            hint="see docs/evidence/security.md for what is known of it; it hides no more than the other scheme",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Subject:
    """A key folder that is attacked, or that an attacker has in addition.

    Args:
        server: model folder.
        folder: key folder, checked for the model.
        tensors: its keyed tensors.
    """

    server: Path
    folder: KeyFolder
    tensors: Tensors

    @property
    def key(self) -> KeyManifest:
        """Manifest of the key folder."""
        return self.folder.manifest

    @property
    def hidden_classes(self) -> int | None:
        """Number of classes if the labels are hidden."""
        return self.folder.model.classes if self.key.labels == "hidden" else None

    def to_json(self) -> dict[str, str]:
        """Return what the report says of it."""
        binding = self.key.binding
        return {
            "key id": binding.key_id,
            "salt": binding.salt,
            "geometry": str(binding.geometry),
            **self._answer(),
        }

    def _answer(self) -> dict[str, str]:
        output = self.folder.model.result
        return {
            **({} if output.kind is OutputKind.LOGITS else {"output": str(output)}),
            **({"classes": f"{output.width}, labels {self.key.labels}"} if output.kind.has_labels else {}),
        }


def independent_orders(folder: KeyFolder) -> tuple[Estimate, ...]:
    """Return the orders of new random keys for the same model, to measure the score of chance."""
    classes = folder.model.classes if folder.manifest.labels == "hidden" else None
    keys = (SecurityKey.create() for _ in range(_INDEPENDENT_KEYS))
    return tuple(_truth(_orders(key, folder.manifest.binding, classes)) for key in keys)


class _Victim:
    """The key holder: knows the true orders, and encrypts clips.

    Args:
        subject: key folder of the key.
        binding: of the key folder, perhaps with another salt.
        key: the key.

    Raises:
        MismatchError: the key does not belong to the key folder.
    """

    def __init__(self, subject: _Subject, binding: Binding, key: SecurityKey) -> None:
        if key.key_id != binding.key_id:
            raise MismatchError(
                f"the key does not belong to {subject.folder.folder}: expected key id {binding.key_id}, received "
                f"{key.key_id}",
                hint="pass the key that the key folder was made with, or none: then attacks run without scores",
            )
        self.orders = _orders(key, binding, subject.hidden_classes)
        self.truth = _truth(self.orders)

    def encrypt(self, cubes: Cubes) -> Cubes:
        """Encrypt clips in cubes, uint8 ``[clips, N, L]``."""
        shuffled: Cubes = cubes.take(self.orders.cube_order, axis=1).take(self.orders.pixel_order, axis=2)
        return shuffled


def _orders(key: SecurityKey, binding: Binding, classes: int | None) -> Orders:
    return derive_orders(key, salt=bytes.fromhex(binding.salt), geometry=binding.geometry, classes=classes)


def _truth(orders: Orders) -> Estimate:
    return Estimate(cubes=orders.cube_order, values=orders.pixel_order, labels=orders.label_order)


def _subject(server: Path, inputs: AuditInputs) -> _Subject:
    """Open the key folder that is attacked: by name, by the key, or because it is the only one."""
    manifest, folders = checked_manifest(server, inputs.signed_by), find_keys(server)
    _require_scheme(manifest.model.scheme)
    if inputs.name is None and len(folders) == 1:
        (path,) = folders.values()
    elif inputs.name in folders:
        path = folders[inputs.name]
    else:
        names = ", ".join(list(folders)[:5]) or "none"
        raise ArtifactError(
            f"expected the name of one of the {len(folders)} key folders in {server / KEYS}, received "
            f"{inputs.name or 'none'}; the first are {names}",
            hint="pass --key-name NAME",
        )
    folder = open_key(path, manifest, inputs.signed_by)
    return _Subject(server=server, folder=folder, tensors=folder.tensors())


def _case(subject: _Subject, inputs: AuditInputs, ciphertexts: Cubes | None, victim: _Victim | None) -> Case:
    geometry, tensors = subject.key.binding.geometry, subject.tensors
    other, relation = _other(subject, inputs, victim)
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
            classified=_classified(subject, inputs),
            known=_known_pairs(inputs.known_clips, geometry, ciphertexts, victim),
            other=other,
            **holdings,
        ),
        truth=truth,
        relation=relation,
        independent=independent_orders(subject.folder) if victim else (),
        victim=sample,
    )


def _read_ciphertexts(paths: Sequence[StrPath], subject: _Subject) -> Cubes | None:
    """Read all views of all files, in cubes; uint8 ``[clips, N, L]``."""
    geometry, clips = subject.key.binding.geometry, []
    for path in paths:
        clip = read_clip_file(path).clip
        subject.key.binding.require(clip.binding, here="key folder", there=f"encrypted clip {path}")
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
    subject: _Subject, inputs: AuditInputs
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]] | None:
    """Return known classes and the logits of their clips; every view counts as a clip."""
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
                f"class {number} of {path} does not exist: the model has {count} classes, from 0",
                hint="pass the number of the class in the plain order, as in the checkpoint",
            )
        clip = read_clip_file(path).clip
        subject.key.binding.require(clip.binding, here="key folder", there=f"encrypted clip {path}")
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


def _other(subject: _Subject, inputs: AuditInputs, victim: _Victim | None) -> tuple[Tensors | None, Estimate | None]:
    """Return the tensors of another key of the model, and the orders of this one relative to it; None if unknown."""
    if inputs.other is None and victim is None:
        return None, None
    if inputs.other is None and victim and inputs.key:
        renewed = _renewed_victim(subject, inputs.key)
        return rotate_tensors(subject.tensors, victim.orders, renewed.orders), _relation(victim.truth, renewed.truth)
    other = _read_other(Path(inputs.other or ""), subject, inputs.signed_by)
    key = inputs.other_key or inputs.key
    if key is None or victim is None:
        return other.tensors, None
    return other.tensors, _relation(victim.truth, _Victim(other, other.key.binding, key).truth)


def _read_other(path: Path, subject: _Subject, signed_by: PublicKey | None) -> _Subject:
    if not (path / KEY_MANIFEST).is_file():
        raise ArtifactError(
            f"expected a key folder with {KEY_MANIFEST}, received {path}",
            hint=f"pass a folder of {KEYS}/, or the server/ of an enrolled key",
        )
    folder = open_key(path, checked_manifest(subject.server, signed_by), signed_by)
    return _Subject(server=subject.server, folder=folder, tensors=folder.tensors())


def _renewed_victim(subject: _Subject, key: SecurityKey) -> _Victim:
    """Return a victim with the same key and a new salt."""
    binding = replace(subject.key.binding, salt=secrets.token_bytes(SALT_BYTES).hex())
    return _Victim(subject, binding, key)


def _relation(this: Estimate, other: Estimate) -> Estimate:
    """Return the orders of this key folder relative to another one of the same model."""
    hidden = this.labels is not None and other.labels is not None
    names = ("cubes", "values", *(["labels"] if hidden else []))
    return Estimate(**{name: np.argsort(other.order(name))[this.order(name)] for name in names})
