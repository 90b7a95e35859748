"""Messages read without their tensors being copied are those that protobuf reads, whole or broken."""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("tritonclient")

from google.protobuf.message import DecodeError

from lcve_deploy.errors import RequestError, TooLargeError
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.serving.grpc.wire import _MIN_CUT_BYTES, message_reader


def _message(draw: random.Random) -> bytes:
    message = messages().ModelInferRequest(model_name="actions", id="7")
    message.parameters["timeout"].int64_param = 5
    for _ in range(draw.randint(0, 3)):
        message.inputs.add(name="clips", datatype="UINT8", shape=[1, 64, 384])
        message.raw_input_contents.append(draw.randbytes(draw.choice([0, 5, 24_576])))
    written: bytes = message.SerializeToString()
    return written


def _broken(data: bytes, draw: random.Random) -> bytes:
    """One byte changed, near the start where the lengths are; sometimes the end is missing."""
    changed = bytearray(data)
    changed[draw.randrange(min(60, len(data)))] = draw.randrange(256)
    return bytes(changed[: draw.randrange(len(data))] if draw.random() < 0.2 else changed)


def _by_protobuf(data: bytes) -> tuple[Any, list[bytes]] | None:
    try:
        message = messages().ModelInferRequest.FromString(data)
    except DecodeError:
        return None
    raw = list(message.raw_input_contents)
    message.ClearField("raw_input_contents")
    return message, raw


def _by_us(data: bytes) -> tuple[Any, list[bytes]] | None:
    try:
        request = message_reader()(data)
    except DecodeError:
        return None
    raw = [bytes(part) for part in request.raw]
    request.message.ClearField("raw_input_contents")
    return request.message, raw


@pytest.mark.parametrize("seed", range(20))
def test_messages_are_read_as_protobuf_reads_them(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311
    for _ in range(20):
        data = _message(draw)
        assert _by_us(data) == _by_protobuf(data)
        broken = _broken(data, draw)
        assert _by_us(broken) == _by_protobuf(broken)


def _wide(fields: int) -> bytes:
    """A message with one tensor, and so many fields in all."""
    message = messages().ModelInferRequest(model_name="m")
    message.raw_input_contents.append(bytes(_MIN_CUT_BYTES))
    for _ in range(fields - 2):
        message.outputs.add(name="a")
    return bytes(message.SerializeToString())


def _beside(size: int) -> bytes:
    """A message with one tensor, and so many bytes beside it: a text, after its tag and a length of four bytes."""
    message = messages().ModelInferRequest(id="x" * (size - 5), raw_input_contents=[bytes(2 * size)])
    return bytes(message.SerializeToString())


def test_the_number_of_fields_is_bounded() -> None:
    """A message of two bytes becomes an object of hundreds."""
    assert len(message_reader()(_wide(4096)).message.outputs) == 4094
    with pytest.raises(RequestError, match="at most 4096 fields"):
        message_reader()(_wide(4097))
    many = messages().ModelInferRequest(raw_input_contents=[b"1234"] * 4097)
    with pytest.raises(RequestError, match="at most 4096 fields"):
        message_reader()(many.SerializeToString())


def test_the_bytes_beside_tensors_are_bounded() -> None:
    largest = 8 * 2**20
    (raw,) = message_reader()(_beside(largest)).raw
    assert len(raw) == 2 * largest
    with pytest.raises(TooLargeError, match="at most 8388608 bytes in addition"):
        message_reader()(_beside(largest + 1))


def test_tensors_stay_where_they_are() -> None:
    message = messages().ModelInferRequest(model_name="actions")
    message.raw_input_contents.append(bytes(1 << 16))
    data = message.SerializeToString()
    (raw,) = message_reader()(data).raw
    assert isinstance(raw, memoryview)
    assert raw.obj is data
