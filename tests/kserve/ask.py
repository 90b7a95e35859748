"""Ask a server with KServe's clients, and print what they return or raise as JSON.

Runs in the environment of ``tests/kserve/requirements.txt``, not in that of the tests:

    .venv-kserve/bin/python tests/kserve/ask.py HTTP GRPC MODEL CLIPS.npy
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable
from typing import Any

import numpy as np


async def main(http: str, grpc: str, model: str, path: str) -> None:
    from kserve import InferenceGRPCClient, InferenceRESTClient
    from kserve.inference_client import RESTConfig

    logging.disable(logging.CRITICAL)  # the errors that it logs are expected
    clips, base = np.load(path), f"http://{http}"
    rest, rpc = InferenceRESTClient(RESTConfig(protocol="v2")), InferenceGRPCClient(grpc)
    said = {
        "HTTP": {
            "live": await outcome(rest.is_server_live(base)),
            "ready": await outcome(rest.is_server_ready(base)),
            "model ready": await outcome(rest.is_model_ready(base, model)),
            "unknown model ready": await outcome(rest.is_model_ready(base, "none")),
            "binary": await outcome(rest.infer(base, infer_request(model, clips, binary=True), model_name=model)),
            "JSON": await outcome(rest.infer(base, infer_request(model, clips, binary=False), model_name=model)),
            "unknown model": await outcome(rest.infer(base, infer_request("none", clips), model_name="none")),
            "bad input": await outcome(rest.infer(base, infer_request(model, clips, name="x"), model_name=model)),
        },
        "gRPC": {
            "live": await outcome(rpc.is_server_live()),
            "ready": await outcome(rpc.is_server_ready()),
            "model ready": await outcome(rpc.is_model_ready(model)),
            "unknown model ready": await outcome(rpc.is_model_ready("none")),
            "binary": await outcome(rpc.infer(infer_request(model, clips, binary=True))),
            "JSON": await outcome(rpc.infer(infer_request(model, clips, binary=False))),
            "unknown model": await outcome(rpc.infer(infer_request("none", clips))),
            "bad input": await outcome(rpc.infer(infer_request(model, clips, name="x"))),
        },
    }
    await rest.close()
    await rpc.close()
    sys.stdout.write(json.dumps(said))


def infer_request(model: str, clips: np.ndarray, *, name: str = "clips", binary: bool = True) -> Any:
    from kserve import InferInput, InferRequest
    from kserve.protocol.infer_type import RequestedOutput

    data = InferInput(name=name, shape=list(clips.shape), datatype="UINT8")
    data.set_data_from_numpy(clips, binary_data=binary)
    outputs = [RequestedOutput(name="logits", parameters={"binary_data": binary})]
    return InferRequest(model_name=model, infer_inputs=[data], request_id="a request", request_outputs=outputs)


async def outcome(work: Awaitable[Any]) -> Any:
    """Return the answer, as JSON has it, or the name of the exception and what it says."""
    try:
        answer = await work
    except Exception as error:
        return {"raised": type(error).__name__, "text": str(error)[:500]}
    if isinstance(answer, bool):
        return answer
    (output,) = answer.outputs
    return {
        "id": answer.id,
        "model": [answer.model_name, answer.model_version],
        "name": output.name,
        "logits": output.as_numpy().tolist(),
    }


asyncio.run(main(*sys.argv[1:]))
