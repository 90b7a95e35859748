"""The model behind the page: an artifact on this machine, or a server. Neither needs the key."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import Manifest, PublicKey, find_key
from lcve_deploy.artifact.model_spec import TensorSpec, request_spec, result_of
from lcve_deploy.artifact.names import OUTPUT
from lcve_deploy.clips import Binding, EncryptedClip
from lcve_deploy.encrypted_model import EncryptedModel, run_views
from lcve_deploy.errors import MismatchError
from lcve_deploy.model.output import ModelOutput, OutputKind
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.protocol.config import request_dims
from lcve_deploy.remote import Address, MeasuredRun, RemoteOptions, RemoteSession
from lcve_deploy.remote.address import Scheme

__all__ = ["NAME", "LocalModel", "Offer", "PageModel", "ServerModel"]

NAME: Final = "model"
"""Name of the only model that the page can ask for."""

_MAX_BATCH: Final = 16
_MAX_SESSIONS: Final = 8
"""Maximum artifacts whose connections are kept."""

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the model takes and returns, for clips of one artifact.

    Args:
        binding: binding of the clips.
        classes: logits per clip.
        max_batch: maximum clips of one request.
    """

    binding: Binding
    classes: int
    max_batch: int = _MAX_BATCH

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of the model in the Open Inference Protocol."""
        return {
            "name": NAME,
            "versions": ["1"],
            "platform": "lcve_web",
            "inputs": [
                {"name": self._input.name, "datatype": "UINT8", "shape": [size or -1 for size in self._input.shape]}
            ],
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, self.classes]}],
        }

    def config(self) -> dict[str, Any]:
        """Return the configuration of the model in the Open Inference Protocol."""
        stated = binding_to_parameters(self.binding).items()
        return {
            "name": NAME,
            "max_batch_size": self.max_batch,
            "input": [{"name": self._input.name, "data_type": "TYPE_UINT8", "dims": request_dims(self._input)}],
            "output": [{"name": OUTPUT, "data_type": "TYPE_FP32", "dims": [self.classes]}],
            "parameters": {name: {"string_value": value} for name, value in stated},
        }

    @property
    def _input(self) -> TensorSpec:
        return request_spec(self.binding.scheme, self.binding.geometry, self.binding.layout)


class PageModel(Protocol):
    """A model that takes the page's clips. Thread-safe.

    Attributes:
        place: where it runs, for people; contains no secret.
        wire: how clips reach a server, for people; empty if they do not leave this machine.
    """

    place: str
    wire: str

    def offer(self, binding: Binding) -> Offer:
        """Check that the model is for clips of this binding.

        Raises:
            LcveError: it is for other clips, or a server cannot be reached or refuses.
        """

    def run(self, clip: EncryptedClip) -> MeasuredRun:
        """Return the logits of encrypted clips, float32 ``[clips, classes]``, in the artifact's own label order.

        Raises:
            LcveError: the model failed, or the server refused the clips or cannot be reached.
        """

    def close(self) -> None:
        """Close the connections, if any."""


class LocalModel:
    """A model folder on this machine.

    Args:
        folder: the folder with ``manifest.json``.
        manifest: its manifest.
        session: session of the model.
        signed_by: pinned key; None accepts unsigned key folders.
    """

    wire = ""

    def __init__(
        self, folder: Path, manifest: Manifest, session: EncryptedModel, *, signed_by: PublicKey | None = None
    ) -> None:
        self.place, self._folder, self._manifest = "this machine", folder, manifest
        self._session, self._signed_by = session, signed_by

    def offer(self, binding: Binding) -> Offer:
        """Compare the binding with the manifest, and find the folder of its key."""
        self._manifest.model.require(binding, here="model", there="encrypted clip")
        find_key(self._folder, self._manifest, binding.key, self._signed_by)
        return Offer(binding=binding, classes=_classes(result_of(self._manifest.output)))

    def run(self, clip: EncryptedClip) -> MeasuredRun:
        """Run the clips one by one."""
        return MeasuredRun(logits=run_views(self._session, clip))

    def close(self) -> None:
        """Do nothing: there is no connection."""


class ServerModel:
    """A model on one or several servers, with a session for each artifact whose clips the page sends.

    Args:
        address: address of the model.
        options: deadline, retries, token, TLS, sealing.

    Raises:
        RequestError, DeniedError: the address, token or certificates cannot be used.
        MissingDependencyError: tritonclient is not installed.
    """

    def __init__(self, address: str, options: RemoteOptions) -> None:
        self.place, self._options = address, options
        self.wire = _wire(Address.parse(address), options)
        self._lock, self._sessions = Lock(), OrderedDict[Binding, RemoteSession]()

    def offer(self, binding: Binding) -> Offer:
        """Ask a server what its model takes."""
        model = self._session(binding).connect()
        return Offer(binding=binding, classes=_classes(model.output), max_batch=model.max_batch or _MAX_BATCH)

    def run(self, clip: EncryptedClip) -> MeasuredRun:
        """Send the clips."""
        return self._session(clip.binding).run_measured(clip)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            while self._sessions:
                self._sessions.popitem()[1].close()

    def _session(self, binding: Binding) -> RemoteSession:
        with self._lock:
            session = self._sessions.pop(binding, None) or RemoteSession(self.place, binding, self._options)
            self._sessions[binding] = session
            while len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)[1].close()
            return session


def _wire(address: Address, options: RemoteOptions) -> str:
    """Return how clips travel, such as ``gRPC with TLS, sealed``."""
    protocol = "gRPC" if address.scheme in (Scheme.GRPC, Scheme.GRPCS) else "HTTP"
    secured = " with TLS" if address.scheme.encrypted else ""
    how = ", sealed" if options.seal_to else ", in shared memory" if options.shared_memory else ", not sealed"
    return f"{protocol}{secured}{how}"


def _classes(output: ModelOutput) -> int:
    """Return the number of classes.

    Raises:
        MismatchError: the model does not answer logits of clips.
    """
    if output.kind is not OutputKind.LOGITS:
        raise MismatchError(
            f"the page shows predictions, which need a model that answers logits; this one answers {output.kind}",
            hint="use lcve run --logits-out",
        )
    return output.shape[0]
