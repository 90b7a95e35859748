"""A place for attestation: evidence of what machine and software hold a sealing key, verified into the key.

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
    """Verifies evidence of one kind of machine."""

    def verify(self, evidence: bytes) -> SealingPublicKey:
        """The public key to which the evidence is bound.

        Args:
            evidence: as the machine gave it; untrusted.

        Raises:
            SealingError: the evidence is invalid, or of another machine or software than expected.
        """


def attested_key(
    evidence: bytes, verifier: EvidenceVerifier, *, pinned: SealingPublicKey | None = None
) -> SealingPublicKey:
    """The key to seal to, as evidence vouches for it.

    Args:
        evidence: as the machine gave it.
        verifier: of this kind of machine.
        pinned: key that is expected; by default any that the evidence is bound to.

    Raises:
        SealingError: as of the verifier, or another key than the pinned one.
    """
    key = verifier.verify(evidence)
    if pinned is not None and key != pinned:
        raise SealingError(
            f"the evidence is bound to the key {key.fingerprint[:16]}..., expected {pinned.fingerprint[:16]}..."
        )
    return key
