"""A gRPC server that reads a request and returns the same answer to all: what grpc.aio costs without this package.

It prints the number of its port.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from lcve_deploy.protocol.stubs import messages

_SERVICE = "inference.GRPCInferenceService"


async def main() -> None:
    """Serve until terminated."""
    stubs = messages()
    answer = stubs.ModelInferResponse(model_name="echo", raw_output_contents=[bytes(40)])
    answer.outputs.add(name="logits", datatype="FP32", shape=[1, 10])

    async def infer(_: Any, context: Any) -> Any:
        await context.read()  # as lcve serve takes requests
        return answer

    method = grpc.stream_unary_rpc_method_handler(infer, response_serializer=stubs.ModelInferResponse.SerializeToString)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, {"ModelInfer": method})])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
