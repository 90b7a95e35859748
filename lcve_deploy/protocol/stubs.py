"""Load the protobuf modules of the protocol and of model configurations from tritonclient."""

from __future__ import annotations

from types import ModuleType

from lcve_deploy.errors import MissingDependencyError

__all__ = ["config_messages", "messages", "services"]


def messages() -> ModuleType:
    """Return ``service_pb2``: ``ModelInferRequest`` and the other messages."""
    try:
        from tritonclient.grpc import service_pb2
    except ImportError as error:
        raise _missing() from error
    module: ModuleType = service_pb2
    return module


def services() -> ModuleType:
    """Return ``service_pb2_grpc``: stub and servicer of ``GRPCInferenceService``."""
    try:
        from tritonclient.grpc import service_pb2_grpc
    except ImportError as error:
        raise _missing() from error
    module: ModuleType = service_pb2_grpc
    return module


def config_messages() -> ModuleType:
    """Return ``model_config_pb2``: ``ModelConfig`` and its parts."""
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise _missing() from error
    module: ModuleType = model_config_pb2
    return module


def _missing() -> MissingDependencyError:
    return MissingDependencyError(
        "calling or running a server needs tritonclient",
        hint="pip install 'lcve-deploy[remote]' or 'lcve-deploy[serve]'",
    )
