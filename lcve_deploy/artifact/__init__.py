"""Read, write and check the artifact: model folder and key folders for the operator, ``client/`` for the key holder.

No module of this package can import a key.
"""

from lcve_deploy.artifact.client_settings import ClientFile, ClientSettings, read_client, write_client
from lcve_deploy.artifact.digests import FileRecord, copy_files, record_files, record_of, verify_files
from lcve_deploy.artifact.engines import EngineKind, EngineRecord, Proof, list_engines, read_engine
from lcve_deploy.artifact.key_folder import (
    KeyFolder,
    KeyManifest,
    find_key,
    find_keys,
    open_key,
    read_key_manifest,
    write_key_folder,
)
from lcve_deploy.artifact.manifest import (
    Manifest,
    manifest_bytes,
    manifest_data,
    manifest_digest,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from lcve_deploy.artifact.model_spec import ModelSpec, TensorSpec, output_spec
from lcve_deploy.artifact.probe import Probe, read_probe, write_probe
from lcve_deploy.artifact.profile import Profile
from lcve_deploy.artifact.signature import PublicKey, check_signature, is_signed, read_signature, write_signature

__all__ = [
    "ClientFile",
    "ClientSettings",
    "EngineKind",
    "EngineRecord",
    "FileRecord",
    "KeyFolder",
    "KeyManifest",
    "Manifest",
    "ModelSpec",
    "Probe",
    "Profile",
    "Proof",
    "PublicKey",
    "TensorSpec",
    "check_signature",
    "copy_files",
    "find_key",
    "find_keys",
    "is_signed",
    "list_engines",
    "manifest_bytes",
    "manifest_data",
    "manifest_digest",
    "open_key",
    "output_spec",
    "parse_manifest",
    "read_client",
    "read_engine",
    "read_key_manifest",
    "read_manifest",
    "read_probe",
    "read_signature",
    "record_files",
    "record_of",
    "verify_files",
    "write_client",
    "write_key_folder",
    "write_manifest",
    "write_probe",
    "write_signature",
]
