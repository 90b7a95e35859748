"""Run a model on a server: send encrypted clips and receive logits over the Open Inference Protocol. Needs no key."""

from lcve_deploy.remote.address import Address, is_address
from lcve_deploy.remote.contract import RemoteModel
from lcve_deploy.remote.measured import MeasuredRun
from lcve_deploy.remote.options import TOKEN_VARIABLE, RemoteOptions
from lcve_deploy.remote.session import RemoteSession

__all__ = ["TOKEN_VARIABLE", "Address", "MeasuredRun", "RemoteModel", "RemoteOptions", "RemoteSession", "is_address"]
