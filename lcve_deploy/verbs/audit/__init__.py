"""Audit a key of a model: run the attacks that an operator or a thief could run."""

from lcve_deploy.verbs.audit.auditing import AuditInputs, audit

__all__ = ["AuditInputs", "audit"]
