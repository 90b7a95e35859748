"""Audit a key of a model: run the attacks that an operator or a thief could run.

Attacks never see the key. It scores them, and it encrypts the clips that the attacker is assumed to know or choose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.case import Case
from lcve_deploy.attacks.coefficients.frequencies import to_basis
from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Tensors
from lcve_deploy.attacks.pictures import decrypted, put_in_order
from lcve_deploy.attacks.report import AuditReport, judge
from lcve_deploy.attacks.running import run_attacks
from lcve_deploy.cipher.rotation import rotate_tensors
from lcve_deploy.clipfile import is_sealed_clip
from lcve_deploy.clips import Scheme
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.samples import real_clips
from lcve_deploy.verbs.audit.assumptions import describe_assumptions
from lcve_deploy.verbs.audit.inputs import AuditInputs, StrPath
from lcve_deploy.verbs.audit.reading import (
    describe_sealed,
    read_ciphertexts,
    read_classified,
    read_known_pairs,
    read_reference,
)
from lcve_deploy.verbs.audit.subject import Subject, find_subject, read_other
from lcve_deploy.verbs.audit.victim import Victim, independent_orders

__all__ = ["audit"]


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
        subject = find_subject(folder, inputs)
        victim = Victim(subject, subject.key.binding, inputs.key) if inputs.key else None
        sealed = [path for path in inputs.ciphertexts if is_sealed_clip(path)]
        ciphertexts = read_ciphertexts([path for path in inputs.ciphertexts if path not in sealed], subject)
        case = _case(subject, inputs, ciphertexts, victim)
    results = run_attacks(case, progress=progress)
    facts = {**subject.to_json(), **describe_sealed(sealed)}
    return judge(case, results, facts, describe_assumptions(case, subject, inputs))


def _case(subject: Subject, inputs: AuditInputs, ciphertexts: Cubes | None, victim: Victim | None) -> Case:
    geometry, tensors = subject.key.binding.geometry, subject.tensors
    other, relation = _other(subject, inputs, victim)
    sample = ciphertexts[0] if ciphertexts is not None else None
    if sample is None and victim:
        sample = victim.encrypt(geometry.to_cubes(real_clips(geometry)[:1], np))[0]
    truth = None
    holdings: dict[str, Any] = {}
    if victim and sample is not None:
        plain = decrypted(sample, victim.truth, geometry, subject.scheme)
        truth = Estimate(**{**vars(victim.truth), "clip": plain})
        embedding = _plain_embedding(subject, victim)
        holdings = {"oracle": victim.encrypt, "embedding": embedding, "tokens": plain @ embedding.astype(np.float64)}
    return Case(
        holdings=Holdings(
            geometry=geometry,
            scheme=subject.scheme,
            artifact=tensors,
            reference=read_reference(inputs.reference, tensors, geometry),
            ciphertexts=ciphertexts,
            classified=read_classified(subject, inputs),
            known=read_known_pairs(inputs, subject, ciphertexts, victim),
            other=other,
            **holdings,
        ),
        truth=truth,
        relation=relation,
        independent=independent_orders(subject.folder) if victim else (),
        victim=sample,
    )


def _plain_embedding(subject: Subject, victim: Victim) -> npt.NDArray[Any]:
    """Return the embedding of plain values, ``[L, D]``."""
    weight = subject.tensors["cube_embedding.weight"]
    if victim.truth.signs is not None:
        weight = weight * victim.truth.signs[:, None]
    rows = put_in_order(weight.T, Estimate(values=victim.truth.values))
    if subject.scheme is Scheme.DCT:
        rows = to_basis(rows.astype(np.float64), subject.key.binding.geometry)
    return rows.T


def _other(subject: Subject, inputs: AuditInputs, victim: Victim | None) -> tuple[Tensors | None, Estimate | None]:
    """Return the tensors of another key of the model, and the orders of this one relative to it; None if unknown."""
    if inputs.other is None and victim is None:
        return None, None
    if inputs.other is None and victim:
        renewed = victim.renewed()
        return rotate_tensors(subject.tensors, victim.orders, renewed.orders), victim.truth.relative_to(renewed.truth)
    other = read_other(Path(inputs.other or ""), subject, inputs.signed_by)
    key = inputs.other_key or inputs.key
    if key is None or victim is None:
        return other.tensors, None
    return other.tensors, victim.truth.relative_to(Victim(other, other.key.binding, key).truth)
