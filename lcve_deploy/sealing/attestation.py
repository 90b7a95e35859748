"""Define an interface for attestation: a verifier turns evidence about a machine into its sealing key.

Nothing here verifies evidence. A sealing key protects from everybody but those who hold its private half, and a file
``serve.pub`` says nothing of who that is. On a confidential machine, the private half can be made inside and the public
half be bound to evidence that the hardware signs. A verifier of such evidence goes here; none has been written or run.
"""

from __future__ import annotations

from typing import Protocol

from lcve_deploy.errors import SealingError
from lcve_deploy.sealing.keys import SealingPublicKey

__all__ = ["EvidenceVerifier", "attested_key"]


class EvidenceVerifier(Protocol):
    """Verifier of the evidence of one kind of machine."""

    def verify(self, evidence: bytes) -> SealingPublicKey:
        """Return the public key that the evidence is bound to.

        Args:
            evidence: evidence of a machine; untrusted.

        Raises:
            SealingError: the evidence is invalid, or describes another machine or software than expected.
        """


def attested_key(
    evidence: bytes, verifier: EvidenceVerifier, *, pinned: SealingPublicKey | None = None
) -> SealingPublicKey:
    """Return the key to seal to, as verified from evidence.

    Args:
        evidence: evidence of a machine.
        verifier: verifier for this kind of machine.
        pinned: expected key; by default, any key that the evidence is bound to is accepted.

    Raises:
        SealingError: the evidence is refused, or is bound to another key than the pinned one.
    """
    key = verifier.verify(evidence)
    if pinned is not None and key != pinned:
        raise SealingError(
            f"the evidence is bound to the key {key.fingerprint[:16]}..., expected {pinned.fingerprint[:16]}..."
        )
    return key
