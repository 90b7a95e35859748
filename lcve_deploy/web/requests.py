"""Read the page's requests: one kind of tensor, in binary, with the binding of its clips."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.names import INPUT, OUTPUT, PACKED_INPUT
from lcve_deploy.clips import Binding, EncryptedClip
from lcve_deploy.errors import EncryptedClipError, RequestError
from lcve_deploy.geometry import MAX_CLIP_VALUES
from lcve_deploy.packing import count_packed, unpack
from lcve_deploy.protocol.binding import binding_from_parameters
from lcve_deploy.remote import MeasuredRun
from lcve_deploy.serving.http.messages import LENGTH_HEADER, from_body, parse_object, split_body
from lcve_deploy.serving.inference import Tensor
from lcve_deploy.web.models import NAME, Logits

__all__ = ["MAX_BODY_BYTES", "binding_in", "clip_in", "figures_of", "logits_body"]

MAX_BODY_BYTES: Final = 2**28 + 2**16
"""Maximum bytes of a request: the largest clip of the format, and its header."""
SENT_HEADER: Final = "Lcve-Sent-Bytes"
_MAX_JSON_BYTES: Final = 2**16
_MAX_PACKED: Final = 4096
"""Maximum packed clips of a request: each takes memory, however small it is."""


def binding_in(query: Mapping[str, str]) -> Binding:
    """Return the binding in the query of a request.

    Raises:
        RequestError: it is missing or invalid.
    """
    binding = binding_from_parameters(query)
    if binding is None:
        raise RequestError("expected the binding of the clips, received none", hint="reload the page")
    return binding


def clip_in(body: memoryview, length: str | None) -> EncryptedClip:
    """Return the encrypted clips of an inference request.

    Args:
        body: complete body.
        length: length of its JSON as the header states it.

    Raises:
        RequestError: the body is not a request for the logits of clips that state their binding.
        TooLargeError: its JSON is too long.
    """
    text, raw = split_body(body, length, _MAX_JSON_BYTES)
    request, _ = from_body(parse_object(text), raw, NAME, "")
    if request.binding is None:
        raise RequestError("expected the binding of the clips in the parameters, received none")
    read = _packed if request.binding.packed else _values
    return EncryptedClip(values=read(request.inputs, request.binding), binding=request.binding)


def _values(inputs: Sequence[Tensor], binding: Binding) -> npt.NDArray[np.uint8]:
    """Return the clips of a request, uint8 ``[clips, ...]``."""
    shape = binding.layout.shape(binding.geometry)
    found = [(tensor.name, tensor.datatype, tensor.shape[1:]) for tensor in inputs]
    if found != [(INPUT, "UINT8", shape)] or not isinstance(inputs[0].data, memoryview):
        raise RequestError(f"expected one binary UINT8 tensor named {INPUT} of shape [clips, {str(list(shape))[1:]}")
    values = np.frombuffer(inputs[0].data, np.uint8)
    count = inputs[0].shape[0]
    if count < 1 or values.size != count * prod(shape):
        raise RequestError(f"expected the values of {count} clips, at least one, received {values.size} values")
    return values.reshape(count, *shape)


def _packed(inputs: Sequence[Tensor], binding: Binding) -> npt.NDArray[np.void]:
    """Unpack the clips of a request, records ``[clips]``."""
    found = [(tensor.name, tensor.datatype, len(tensor.shape)) for tensor in inputs]
    if found != [(PACKED_INPUT, "UINT8", 1)] or not isinstance(inputs[0].data, memoryview):
        raise RequestError(f"expected one binary UINT8 tensor named {PACKED_INPUT} of shape [bytes]")
    data = inputs[0].data
    if len(data) != inputs[0].shape[0]:
        raise RequestError(f"expected {inputs[0].shape[0]} bytes of packed clips, received {len(data)}")
    geometry = binding.geometry
    try:
        fitting = max(1, MAX_CLIP_VALUES // (geometry.cubes * geometry.values))
        clips = count_packed(data, limit=min(_MAX_PACKED, fitting))
        return unpack(data, geometry, clips=clips)
    except EncryptedClipError as error:
        raise RequestError(str(error)) from None


def figures_of(run: MeasuredRun, seconds: float) -> dict[str, str]:
    """Return headers with what a run took: ``Server-Timing``, and the bytes that were sent on to a server.

    Args:
        run: answer of the model.
        seconds: of the whole run, as measured here.
    """
    timings = {"model": seconds, **({} if run.server_seconds is None else {"server": run.server_seconds})}
    timing = ", ".join(f"{name};dur={1e3 * spent:.3f}" for name, spent in timings.items())
    return {"Server-Timing": timing, SENT_HEADER: str(run.sent_bytes)}


def logits_body(logits: Logits) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of the answer with these logits."""
    data = np.ascontiguousarray(logits, dtype="<f4").tobytes()
    output = {
        "name": OUTPUT,
        "datatype": "FP32",
        "shape": list(logits.shape),
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"model_name": NAME, "model_version": "1", "outputs": [output]}).encode()
    return head + data, {LENGTH_HEADER: str(len(head)), "Content-Type": "application/octet-stream"}
