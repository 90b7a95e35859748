"""Sealing: encrypt clips, requests and answers to the holder of a key, with HPKE (RFC 9180). Format ``lcve-seal-1``.

Sealing keys have nothing to do with the security key of an artifact: the operator makes one for a server, or an
owner makes one for an archive. A sealed clip gives a thief nothing to attack. Sealing does not protect from the holder
of the private key.
"""

from lcve_deploy.sealing.attestation import EvidenceVerifier, attested_key
from lcve_deploy.sealing.envelope import MAGIC, Sealed, is_sealed, open_sealed, read_envelope, seal
from lcve_deploy.sealing.header import Header, Kind
from lcve_deploy.sealing.keyring import Keyring
from lcve_deploy.sealing.keys import SealingKey, SealingPublicKey
from lcve_deploy.sealing.messages import OpenedRequest, SealedRequest, open_request, seal_request
from lcve_deploy.sealing.replays import Replays
from lcve_deploy.sealing.suites import Suite

__all__ = [
    "MAGIC",
    "EvidenceVerifier",
    "Header",
    "Keyring",
    "Kind",
    "OpenedRequest",
    "Replays",
    "Sealed",
    "SealedRequest",
    "SealingKey",
    "SealingPublicKey",
    "Suite",
    "attested_key",
    "is_sealed",
    "open_request",
    "open_sealed",
    "read_envelope",
    "seal",
    "seal_request",
]
