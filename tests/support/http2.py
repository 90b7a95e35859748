"""A gRPC client on a raw socket that stops in the middle of a message, as no library does."""

from __future__ import annotations

import socket
import struct
import time
from types import TracebackType
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8
_END_HEADERS, _ACK = 4, 1
_INITIAL_WINDOW_SETTING: Final = 4
_DEFAULT_WINDOW: Final = 65_535
_FRAME: Final = 16_384
STREAM_CALL: Final = "/inference.GRPCInferenceService/ModelStreamInfer"


class HalfMessage:
    """One connection with one call of which the message never ends.

    Args:
        host, port: address of the gRPC server.
        size: bytes that the message claims to have.
        path: path of the call.
        timeout: seconds after which a socket operation fails.
    """

    def __init__(
        self, host: str, port: int | None, *, size: int, path: str = STREAM_CALL, timeout: float = 30.0
    ) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._windows = {0: _DEFAULT_WINDOW, 1: _DEFAULT_WINDOW}
        self._received, self._prefix = b"", struct.pack(">BI", 0, size)
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, 1, _head(path)))

    def __enter__(self) -> HalfMessage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(self, count: int, *, seconds: float) -> int:
        """Send up to that many bytes of the message, as far as the server lets them in; return how many it took."""
        end, sent = time.monotonic() + seconds, 0
        rest = memoryview(self._prefix + bytes(count))
        self._prefix = b""
        try:
            while rest and time.monotonic() < end:
                part = rest[: max(0, min(_FRAME, *self._windows.values()))]
                if part:
                    self._socket.sendall(_frame(_DATA, 0, 1, bytes(part)))
                    self._windows = {stream: left - len(part) for stream, left in self._windows.items()}
                    rest, sent = rest[len(part) :], sent + len(part)
                self._read(0.0 if part else 0.05)
        except OSError:  # the server closed the connection
            pass
        return sent

    def wait_for_end(self, seconds: float) -> bool:
        """Whether the server ends the connection within some seconds."""
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                self._read(0.05)
        except OSError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()

    def _read(self, seconds: float) -> None:
        """Take in what the server says, for as long as some seconds, and answer its pings and settings."""
        self._socket.settimeout(seconds or 1e-6)
        try:
            data = self._socket.recv(1 << 16)
        except (TimeoutError, BlockingIOError):
            return
        finally:
            self._socket.settimeout(30.0)
        if not data:
            raise ConnectionResetError
        self._received += data
        while len(self._received) >= 9:
            size = int.from_bytes(self._received[:3])
            if len(self._received) < 9 + size:
                return
            kind, flags, stream = self._received[3], self._received[4], int.from_bytes(self._received[5:9])
            self._take(kind, flags, stream, self._received[9 : 9 + size])
            self._received = self._received[9 + size :]

    def _take(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == _WINDOW_UPDATE and stream in self._windows:
            self._windows[stream] += int.from_bytes(body)
        elif kind == _SETTINGS and not flags & _ACK:
            for number, value in struct.iter_unpack(">HI", body):
                if number == _INITIAL_WINDOW_SETTING:
                    self._windows[1] += value - _DEFAULT_WINDOW
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._socket.sendall(_frame(_PING, _ACK, 0, body))


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + body


def _head(path: str) -> bytes:
    """HPACK, each field as a literal with a new name that is not indexed."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "test",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(
        bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode() for name, value in fields.items()
    )
