"""Running an artifact: what the cloud operator needs. No key, no torch."""

from lcve_deploy.runtime.probe import ProbeReport, verify_engine, verify_server
from lcve_deploy.runtime.session import Session, open_session

__all__ = ["ProbeReport", "Session", "open_session", "verify_engine", "verify_server"]
