"""What an audit assumes of the attackers and for the scores, in words for its report."""

from __future__ import annotations

from collections.abc import Iterator

from lcve_deploy.attacks.case import Case
from lcve_deploy.attacks.chance import COMPARED_KEYS
from lcve_deploy.attacks.clips import count_distinct
from lcve_deploy.attacks.holdings import Cubes
from lcve_deploy.clips import Scheme
from lcve_deploy.packing import DEFAULT_STEP
from lcve_deploy.verbs.audit.inputs import AuditInputs
from lcve_deploy.verbs.audit.subject import Subject

__all__ = ["describe_assumptions"]


def describe_assumptions(case: Case, subject: Subject, inputs: AuditInputs) -> dict[str, str]:
    """Return what was assumed, by name; only of what was run or left out."""
    return dict(_facts(case, subject, inputs))


def _facts(case: Case, subject: Subject, inputs: AuditInputs) -> Iterator[tuple[str, str]]:
    holdings, key = case.holdings, inputs.key is not None
    yield "signatures", f"checked with {inputs.signed_by.fingerprint[:16]}..." if inputs.signed_by else "not checked"
    yield "scores", _scores(case) if key else "none, because no key was given"
    if holdings.ciphertexts is not None:
        yield "encrypted clips", f"{len(holdings.ciphertexts)}; every view counts as a clip"
    if key:
        yield "sample clip, for pictures and for what tokens show", _sample(case, subject, inputs)
        yield "tokens", "the attacker knows those of the sample clip, and the embedding in the plain order"
        yield "chosen clips", _encrypted_with_the_key(subject)
    if holdings.reference is not None and {"head.weight", "head.bias"} - set(holdings.reference):
        yield "reference checkpoint", "it has no classifier, so nothing is matched for K3"
    if holdings.other is not None:
        yield "other key of the model", _other(inputs)
    if holdings.known is not None:
        made = _encrypted_with_the_key(subject) if key else "found among the encrypted clips"
        yield "known clips", f"{made}; {_distinct(holdings.known[0])}"
    if inputs.known_classes:
        yield "clips of known classes", _classes(case, subject, inputs)


def _scores(case: Case) -> str:
    return f"chance is measured with {len(case.independent)} independent keys, of clips with {COMPARED_KEYS} of them"


def _sample(case: Case, subject: Subject, inputs: AuditInputs) -> str:
    if case.holdings.ciphertexts is not None:
        return "the first of the encrypted clips"
    lacking = "all encrypted clips are sealed" if inputs.ciphertexts else "no encrypted clip was given"
    return f"a built-in film, {_encrypted_with_the_key(subject)}, because {lacking}"


def _encrypted_with_the_key(subject: Subject) -> str:
    step = f" at the step {DEFAULT_STEP:g}" if subject.scheme is Scheme.DCT else ""
    return f"encrypted with the key{step}"


def _other(inputs: AuditInputs) -> str:
    if inputs.other is None:
        return "this key with a new salt, made for the audit"
    if inputs.key is None:
        return "not scored, because no key was given"
    return "its own key was given" if inputs.other_key else "it has the same key"


def _distinct(plain: Cubes) -> str:
    """Return how many cubes and positions of a cube the known clips distinguish: no attack can find the others."""
    count = count_distinct(plain)
    cubes = f"distinct cubes in them: {count['cubes']} of {plain.shape[1]}"
    return f"{cubes}; distinct positions in a cube: {count['values']} of {plain.shape[2]}"


def _classes(case: Case, subject: Subject, inputs: AuditInputs) -> str:
    if subject.key.labels != "hidden":
        return "the labels are shown, so there is no order to find"
    known = len({number for _, number in inputs.known_classes})
    clips = len(case.holdings.classified[0]) if case.holdings.classified else 0
    return f"{clips}, which show {known} of the {subject.folder.model.classes} classes; every view counts as a clip"
