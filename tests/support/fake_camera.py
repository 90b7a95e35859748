"""A stand-in for a camera that speaks RTSP over TCP, and goes away in chosen ways. Packets are FFmpeg's own."""

from __future__ import annotations

import base64
import itertools
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import av

from tests.test_video import counting_frames

SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=camera
t=0 0
m=video 0 RTP/AVP 96
c=IN IP4 0.0.0.0
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1
a=control:video
"""
SECONDS = 1 / 100
"""Between frames, whose times are 1/25 apart: a camera in a hurry."""
RTCP = 200
"""Type of a sender's report."""


class _Packets:
    """A file that keeps what is written to it, one packet a time."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.written.append(bytes(data))
        return len(data)


def packets() -> Iterator[list[bytes]]:
    """RTP and RTCP packets of each frame of a film without end."""
    memory, film = _Packets(), counting_frames(25)
    with av.open(memory, "w", format="rtp", options={"packetsize": "1200"}) as container:
        stream = container.add_stream("libx264", rate=25, options={"tune": "zerolatency", "g": "10"})
        stream.height, stream.width, stream.pix_fmt = film.shape[1], film.shape[2], "yuv420p"
        for index in itertools.count():
            frame = av.VideoFrame.from_ndarray(film[index % len(film)], format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
            yield memory.written.copy()
            memory.written.clear()


class FakeCamera:
    """One stream for anyone who connects; as a context manager it ends.

    Args:
        account: ``user:password``; anyone may watch without.
        frames: after so many the connection ends; None for never.
        silent_after: after so many frames nothing more comes; None for never.
    """

    def __init__(self, *, account: str = "", frames: int | None = None, silent_after: int | None = None) -> None:
        self.account, self.frames, self.silent_after = account, frames, silent_after
        self.connections, self.silent, self.ended = 0, threading.Event(), threading.Event()
        self._server = _Listener(("127.0.0.1", 0), _Handler)
        self._server.camera = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def address(self, account: str = "") -> str:
        return f"rtsp://{account}{'@' if account else ''}127.0.0.1:{self.port}/stream"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    camera: FakeCamera

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that leaves


class _Handler(socketserver.StreamRequestHandler):
    server: _Listener

    def handle(self) -> None:
        self.server.camera.connections += 1
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while request := self._request():
            method, headers = request
            self._answer(method, headers)
            if method == "PLAY":
                self._play()
                return

    def _request(self) -> tuple[str, dict[str, str]] | None:
        first, headers = self.rfile.readline().decode(), {}
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return (first.split()[0], headers) if first else None

    def _answer(self, method: str, headers: dict[str, str]) -> None:
        account = self.server.camera.account
        given = headers.get("authorization", "").removeprefix("Basic ")
        status, body, more = "200 OK", "", {"Session": "1", "Public": "OPTIONS, DESCRIBE, SETUP, PLAY"}
        if account and method != "OPTIONS" and given != base64.b64encode(account.encode()).decode():
            status, more = "401 Unauthorized", {"WWW-Authenticate": 'Basic realm="camera"'}
        elif method == "DESCRIBE":
            body, more = SDP.replace("\n", "\r\n"), {"Content-Type": "application/sdp"}
        elif method == "SETUP":
            more["Transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
        told = {"CSeq": headers["cseq"], "Content-Length": str(len(body)), **more}
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        self.wfile.write(f"RTSP/1.0 {status}\r\n{head}\r\n{body}".encode())

    def _play(self) -> None:
        camera = self.server.camera
        for index, frame in enumerate(packets()):
            if index == camera.frames or camera.ended.is_set():
                return
            if index == camera.silent_after:
                camera.silent.set()
                camera.ended.wait(60)
                return
            for packet in frame:
                channel = 1 if packet[1] == RTCP else 0
                self.wfile.write(struct.pack(">cBH", b"$", channel, len(packet)) + packet)
            time.sleep(SECONDS)
