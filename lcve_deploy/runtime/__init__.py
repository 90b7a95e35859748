"""Running an artifact: what the cloud operator needs. No key, no torch."""

from lcve_deploy.runtime.opening import open_session
from lcve_deploy.runtime.probe import ProbeReport, verify_engine, verify_server
from lcve_deploy.runtime.session import Provider, Session, SessionOptions

__all__ = ["ProbeReport", "Provider", "Session", "SessionOptions", "open_session", "verify_engine", "verify_server"]
