"""The place for attestation, with a verifier that is a stand-in: no evidence of a machine has been verified here."""

from __future__ import annotations

import pytest

from lcve_deploy.errors import SealingError
from lcve_deploy.sealing import SealingKey, SealingPublicKey
from lcve_deploy.sealing.attestation import attested_key

KEY, OTHER = SealingKey.create().public_key, SealingKey.create().public_key


class StandIn:
    """Takes the text "genuine" for evidence."""

    def verify(self, evidence: bytes) -> SealingPublicKey:
        if evidence != b"genuine":
            raise SealingError("the evidence is invalid")
        return KEY


def test_a_key_is_that_of_the_evidence() -> None:
    assert attested_key(b"genuine", StandIn()) == KEY
    assert attested_key(b"genuine", StandIn(), pinned=KEY) == KEY
    with pytest.raises(SealingError, match="evidence is invalid"):
        attested_key(b"forged", StandIn())
    with pytest.raises(SealingError, match="bound to the key"):
        attested_key(b"genuine", StandIn(), pinned=OTHER)
