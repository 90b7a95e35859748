"""Run an artifact: everything that the operator needs. No key, no torch."""

from lcve_deploy.runtime.opening import open_session
from lcve_deploy.runtime.probe import KeyCheck, ProbeReport, ServerReport, verify_engine, verify_server
from lcve_deploy.runtime.session import Provider, Session, SessionOptions

__all__ = [
    "KeyCheck",
    "ProbeReport",
    "Provider",
    "ServerReport",
    "Session",
    "SessionOptions",
    "open_session",
    "verify_engine",
    "verify_server",
]
