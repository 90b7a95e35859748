"""Open sealed requests, run the model, and seal the answers. Plain requests pass, unless sealing is required.

The private key is the operator's own. It opens what is sealed to the server, and has nothing to do with the security
key that clips are encrypted with. Opened clips go to the engine and nowhere else.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from lcve_deploy.errors import RequestError
from lcve_deploy.protocol.sealing import SEALED, Offer
from lcve_deploy.sealing import Keyring, Kind, OpenedRequest, Replays, open_request, read_envelope
from lcve_deploy.serving.inference import (
    InferRequest,
    InferResponse,
    PreparedRequest,
    RequestedOutput,
    Tensor,
    infer,
    prepare,
    require_key,
    values_of,
)
from lcve_deploy.serving.models.keys import AllowedKeys
from lcve_deploy.serving.models.registry import Registry
from lcve_deploy.serving.models.served import ServedModel
from lcve_deploy.serving.settings import SealingSettings
from lcve_deploy.serving.shared_memory import ClientRegions, Slice

__all__ = ["AcceptedRequest", "ServerSealing", "accept", "infer_any"]

_LOG: Final = logging.getLogger(__name__)
_UINT8: Final = "UINT8"


class ServerSealing:
    """Private keys of a server, and the sealed requests that it has accepted. Use it on one event loop only.

    Args:
        settings: key files, and whether sealing is required.

    Raises:
        KeyFileError: a file is not a private sealing key, or there are more than two keys.
        OSError: a file cannot be read.
    """

    def __init__(self, settings: SealingSettings) -> None:
        self._settings, self.replays = settings, Replays(window=settings.window)
        self.keys = Keyring.read(settings.key_files)

    @property
    def offer(self) -> Offer:
        """Return what the server does with sealed requests."""
        return Offer.REQUIRED if self._settings.required else Offer.ACCEPTED

    def reload(self) -> None:
        """Read the keys again. If that fails, the present keys stay.

        Raises:
            KeyFileError: a file is not a private sealing key, or there are more than two keys, or none.
            OSError: a file cannot be read.
        """
        self.keys = Keyring.read(self._settings.key_files)
        known = [key.public_key.fingerprint for key in self.keys.keys]
        _LOG.info("sealing keys reloaded", extra={"keys": known})


@dataclass(frozen=True, kw_only=True, eq=False)
class AcceptedRequest:
    """A valid request that may have been sealed: only this is kept while it waits for its run.

    Args:
        prepared: the request, opened.
        output: how to return a sealed answer.
        opened: what seals the answer; None if the request was not sealed.
    """

    prepared: PreparedRequest
    output: RequestedOutput
    opened: OpenedRequest | None = None


async def accept(
    request: InferRequest,
    registry: Registry,
    regions: ClientRegions,
    sealing: ServerSealing | None,
    *,
    allowed: AllowedKeys,
    binary: bool = True,
) -> AcceptedRequest:
    """Validate a request, and open it if it is sealed.

    Args:
        request: request as received.
        registry: models of the server.
        regions: shared memory regions of the client.
        sealing: keys of the server; None opens nothing.
        allowed: keys that the client may use.
        binary: whether to return raw bytes if the request names no output. HTTP only.

    Raises:
        RequestError: the request is sealed and the server opens nothing, or is not sealed and must be; or as for
            ``prepare``.
        SealingError: the request cannot be opened, or was accepted before.
        MismatchError: the request is sealed for another model, or its clips are encrypted for another model.
        UnknownKeyError: the model has no key for the clips, or the client may not use it; nothing is opened.
        LcveError: as for ``prepare``.
    """
    if not any(tensor.name == SEALED for tensor in request.inputs):
        if sealing is not None and sealing.offer is Offer.REQUIRED:
            raise RequestError(
                "this server accepts only sealed requests",
                hint="seal to the operator's public key: --seal-to, or RemoteOptions(seal_to=...)",
            )
        prepared = await prepare(request, registry, regions, allowed=allowed, binary=binary)
        return AcceptedRequest(prepared=prepared, output=prepared.output)
    if sealing is None:
        raise RequestError("this server opens no sealed requests", hint="the operator starts it with --open-with")
    return await _open(request, registry, regions, sealing, allowed=allowed, binary=binary)


async def infer_any(request: AcceptedRequest, regions: ClientRegions) -> InferResponse:
    """Run the model, and seal the answer if the request was sealed.

    Raises:
        LcveError: as for ``infer``.
    """
    response = await infer(request.prepared, regions)
    if request.opened is not None:
        sealed = request.opened.seal_answer(
            np.ascontiguousarray(response.logits, dtype="<f4").data.cast("B"),
            classes=prod(response.logits.shape[1:]),
            version=response.model.version,
        )
        response = dataclasses.replace(response, output=request.output, sealed=sealed)
    return dataclasses.replace(response, seconds=time.monotonic() - request.prepared.arrived)


async def _open(
    request: InferRequest,
    registry: Registry,
    regions: ClientRegions,
    sealing: ServerSealing,
    *,
    allowed: AllowedKeys,
    binary: bool,
) -> AcceptedRequest:
    model = registry.get(request.model, request.version)
    output = _requested_output(request, binary)
    data = _sealed_bytes(request, regions)
    binding = read_envelope(data, kind=Kind.REQUEST).header.binding
    require_key(binding, model, allowed)
    opened = await asyncio.to_thread(
        open_request,
        data,
        sealing.keys,
        sealing.replays,
        binding=binding,
        model=request.model,
        version=request.version,
    )
    sealing.replays.remember(opened.header.id, opened.header.time)
    prepared = await prepare(_plain(request, opened, model), registry, regions, allowed=allowed)
    if len(prepared.clip.values) != opened.header.clips:
        raise RequestError(f"expected {opened.header.clips} clips, as the header says, received others")
    return AcceptedRequest(prepared=prepared, output=output, opened=opened)


def _requested_output(request: InferRequest, binary: bool) -> RequestedOutput:
    if any(output.name != SEALED for output in request.outputs) or len(request.outputs) > 1:
        raise RequestError(f"the only output of a sealed request is {SEALED}")
    output = request.outputs[0] if request.outputs else RequestedOutput(name=SEALED, binary=binary)
    if output.destination is not None:
        raise RequestError("a sealed answer is not written to shared memory", hint="request it in the response")
    return output


def _sealed_bytes(request: InferRequest, regions: ClientRegions) -> memoryview:
    """Return the bytes of the only input."""
    tensor = request.inputs[0]
    if len(request.inputs) != 1 or tensor.datatype != _UINT8 or len(tensor.shape) != 1:
        raise RequestError(f"the only input of a sealed request is {SEALED}, {_UINT8}, of shape [bytes]")
    if isinstance(tensor.data, Slice):
        raise RequestError("a sealed request is not read from shared memory", hint="send it in the request")
    return values_of(tensor, regions).data


def _plain(request: InferRequest, opened: OpenedRequest, model: ServedModel) -> InferRequest:
    """Return the opened request. ``prepare`` compares its binding, as the model may have been reloaded."""
    header, spec = opened.header, model.spec.request_input
    of_clips = (header.clips, *header.binding.layout.shape(header.binding.geometry))
    shape = (header.size,) if header.binding.packed else of_clips
    clips = Tensor(name=spec.name, datatype=_UINT8, shape=shape, data=opened.values)
    return dataclasses.replace(request, inputs=[clips], outputs=[], binding=header.binding)
