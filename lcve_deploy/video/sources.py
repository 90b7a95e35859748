"""Determine the kind of a live source from its name, and restrict how PyAV may open it."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Final

from lcve_deploy.errors import VideoError
from lcve_deploy.files.reading import require_file
from lcve_deploy.video.decode import CODEC_OPTIONS, Input, file_input, standard_input

__all__ = ["STANDARD_INPUT", "RtspTransport", "SourceKind", "parse_source"]

# User and password come before the host. An @ after the host is refused: it may belong to a password with a slash,
# and the first part of the password would be shown as the host.
_RTSP: Final = re.compile(
    r"rtsp://(?:[^/?#]*@)?(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?P<port>:\d{1,5})?(?:[/?][^@]*)?"
)
_CAMERA: Final = re.compile(r"/dev/video\d+")
_FAILURE: Final = "cannot be opened"
STANDARD_INPUT: Final = "-"
"""Source that reads a video from standard input while it arrives."""


class SourceKind(StrEnum):
    """Kind of a live source."""

    RTSP = "rtsp"
    CAMERA = "camera"
    FILE = "file"


class RtspTransport(StrEnum):
    """Transport of RTSP's video packets."""

    TCP = "tcp"
    """In the RTSP connection: no packets are lost, and firewalls rarely block it."""
    UDP = "udp"
    """In separate datagrams: packets may be lost, which damages frames."""


_PROTOCOLS: Final = {RtspTransport.TCP: "tcp", RtspTransport.UDP: "tcp,udp,rtp"}


def parse_source(source: str, *, transport: RtspTransport, timeout: float) -> tuple[SourceKind, Input]:
    """Return kind and input of a source.

    Args:
        source: ``rtsp://...``, ``/dev/videoN``, the path of a video file, or ``-`` for standard input.
        transport: transport of RTSP.
        timeout: maximum seconds to wait for a camera.

    Raises:
        VideoError: the source is none of these, or the file does not exist or is empty.
    """
    if source == STANDARD_INPUT:
        return SourceKind.FILE, standard_input()
    if _CAMERA.fullmatch(source):
        options = {"protocol_whitelist": "file", "format_whitelist": "video4linux2,v4l2", **CODEC_OPTIONS}
        camera = Input(name=source, address=source, format="v4l2", options=options, timeout=timeout, failure=_FAILURE)
        return SourceKind.CAMERA, camera
    if source.lower().startswith("rtsp://"):
        return SourceKind.RTSP, _rtsp(source, transport, timeout)
    if "://" in source:
        raise VideoError(
            f"expected rtsp://host/path, /dev/videoN or a video file, received {source.partition(':')[0]}://..."
        )
    if not Path(source).exists():
        raise VideoError(f"there is no video at {source}")
    if require_file(Path(source), "a video", VideoError) == 0:
        raise VideoError(f"{source} is empty")
    return SourceKind.FILE, file_input(Path(source))


def _rtsp(source: str, transport: RtspTransport, timeout: float) -> Input:
    match = _RTSP.fullmatch(source)
    if match is None:  # do not show the address: it may contain a password
        raise VideoError(
            "expected an RTSP address, received another text, not shown as it may contain a password",
            hint="write rtsp://host:port/path or rtsp://user:password@host/path, with %40 for @ and %2F for / in a "
            "password, and %40 for @ in a path",
        )
    options = {
        "rtsp_transport": transport.value,
        "allowed_media_types": "video",
        "timeout": str(round(timeout * 1e6)),
        "protocol_whitelist": _PROTOCOLS[transport],
        "format_whitelist": "rtsp",
        **CODEC_OPTIONS,
    }
    return Input(
        name=f"rtsp://{match['host']}{match['port'] or ''}",
        address=source,
        format="rtsp",
        options=options,
        timeout=timeout,
        failure=_FAILURE,
    )
