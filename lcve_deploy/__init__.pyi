"""The public names of the package, each with its module.

This is the only list of them. ``__init__.py`` and type checkers read it, and a test compares the API reference with it.
"""

from lcve_deploy.artifact import ClientSettings as ClientSettings
from lcve_deploy.artifact import EngineKind as EngineKind
from lcve_deploy.artifact import EngineRecord as EngineRecord
from lcve_deploy.artifact import Manifest as Manifest
from lcve_deploy.artifact import PublicKey as PublicKey
from lcve_deploy.artifact import check_signature as check_signature
from lcve_deploy.cipher.clips import decrypt as decrypt
from lcve_deploy.cipher.clips import encrypt as encrypt
from lcve_deploy.client import Client as Client
from lcve_deploy.client import Prediction as Prediction
from lcve_deploy.clipfile import ClipFile as ClipFile
from lcve_deploy.clipfile import read_clip_file as read_clip_file
from lcve_deploy.clipfile import write_clip_file as write_clip_file
from lcve_deploy.clips import Binding as Binding
from lcve_deploy.clips import EncryptedClip as EncryptedClip
from lcve_deploy.clips import Layout as Layout
from lcve_deploy.clips import PlainClip as PlainClip
from lcve_deploy.clips import Views as Views
from lcve_deploy.deployments.kubernetes.export import export_kubernetes as export_kubernetes
from lcve_deploy.deployments.kubernetes.manifests import KubernetesOptions as KubernetesOptions
from lcve_deploy.deployments.triton.export import add_to_triton as add_to_triton
from lcve_deploy.deployments.triton.export import export_triton as export_triton
from lcve_deploy.deployments.triton.model_folder import TritonOptions as TritonOptions
from lcve_deploy.errors import LcveError as LcveError
from lcve_deploy.exporters.checkpoints import CheckpointOptions as CheckpointOptions
from lcve_deploy.geometry import ClipGeometry as ClipGeometry
from lcve_deploy.keys.keyspace import KeySpace as KeySpace
from lcve_deploy.keys.keyspace import key_spaces as key_spaces
from lcve_deploy.keys.orders import Orders as Orders
from lcve_deploy.keys.orders import derive_orders as derive_orders
from lcve_deploy.keys.secret import SecurityKey as SecurityKey
from lcve_deploy.keys.signing import SigningKey as SigningKey
from lcve_deploy.model.parity import ParityReport as ParityReport
from lcve_deploy.model.precision import Precision as Precision
from lcve_deploy.model.predictions import ProblemType as ProblemType
from lcve_deploy.model.transformer import Normalisation as Normalisation
from lcve_deploy.remote import RemoteModel as RemoteModel
from lcve_deploy.remote import RemoteOptions as RemoteOptions
from lcve_deploy.remote import RemoteSession as RemoteSession
from lcve_deploy.runtime import ProbeReport as ProbeReport
from lcve_deploy.runtime import Provider as Provider
from lcve_deploy.runtime import Session as Session
from lcve_deploy.runtime import SessionOptions as SessionOptions
from lcve_deploy.runtime import open_session as open_session
from lcve_deploy.runtime import verify_engine as verify_engine
from lcve_deploy.runtime import verify_server as verify_server
from lcve_deploy.sealing import SealingKey as SealingKey
from lcve_deploy.sealing import SealingPublicKey as SealingPublicKey
from lcve_deploy.verbs.apply import ApplyResult as ApplyResult
from lcve_deploy.verbs.apply import apply_delta as apply_delta
from lcve_deploy.verbs.audit import AuditInputs as AuditInputs
from lcve_deploy.verbs.audit import audit as audit
from lcve_deploy.verbs.build import BuildOptions as BuildOptions
from lcve_deploy.verbs.build import build as build
from lcve_deploy.verbs.classify import Classification as Classification
from lcve_deploy.verbs.classify import Classifier as Classifier
from lcve_deploy.verbs.classify import classify as classify
from lcve_deploy.verbs.export import ExportOptions as ExportOptions
from lcve_deploy.verbs.export import ExportResult as ExportResult
from lcve_deploy.verbs.export import export as export
from lcve_deploy.verbs.fastest import EngineChoice as EngineChoice
from lcve_deploy.verbs.fastest import build_fastest as build_fastest
from lcve_deploy.verbs.refit import refit as refit
from lcve_deploy.verbs.rotate import RotateResult as RotateResult
from lcve_deploy.verbs.rotate import rotate as rotate
from lcve_deploy.verbs.rotate import rotate_delta as rotate_delta
from lcve_deploy.verbs.sign import sign as sign
from lcve_deploy.verbs.verify import verify as verify

__version__: str
