"""The artifact folder: ``server/`` for the cloud operator, ``client/`` for the holder of the key.

Nothing in this package can reach a key.
"""

from lcve_deploy.artifact.client_settings import ClientSettings, read_client, write_client
from lcve_deploy.artifact.digests import FileRecord, record_files, verify_files
from lcve_deploy.artifact.engines import EngineKind, EngineRecord, Proof, list_engines, read_engine
from lcve_deploy.artifact.manifest import Manifest, TensorSpec, manifest_digest, read_manifest, write_manifest
from lcve_deploy.artifact.probe import Probe, read_probe, write_probe
from lcve_deploy.artifact.profile import Profile

__all__ = [
    "ClientSettings",
    "EngineKind",
    "EngineRecord",
    "FileRecord",
    "Manifest",
    "Probe",
    "Profile",
    "Proof",
    "TensorSpec",
    "list_engines",
    "manifest_digest",
    "read_client",
    "read_engine",
    "read_manifest",
    "read_probe",
    "record_files",
    "verify_files",
    "write_client",
    "write_manifest",
    "write_probe",
]
