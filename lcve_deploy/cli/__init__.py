"""The command line: ``lcve`` and its verbs, one command a file."""

from lcve_deploy.cli.main import export_alone, lcve

__all__ = ["export_alone", "lcve"]
