"""Audit a key of a model: run the attacks that an operator or a thief could run."""

from lcve_deploy.verbs.audit.auditing import audit
from lcve_deploy.verbs.audit.inputs import AuditInputs

__all__ = ["AuditInputs", "audit"]
