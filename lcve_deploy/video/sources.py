"""What a source of frames is, told from its name alone, and how PyAV may open it: that way and no other."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Final

from lcve_deploy.errors import VideoError
from lcve_deploy.files.reading import require_file
from lcve_deploy.video.decode import OF_CODECS, Input, file_input, standard_input

__all__ = ["STANDARD_INPUT", "RtspTransport", "SourceKind", "recognised"]

# What stands before the host and its @ is user and password. An @ further on may belong to a password with a slash,
# of which half would be shown as a host.
_RTSP: Final = re.compile(
    r"rtsp://(?:[^/?#]*@)?(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?P<port>:\d{1,5})?(?:[/?][^@]*)?"
)
_CAMERA: Final = re.compile(r"/dev/video\d+")
STANDARD_INPUT: Final = "-"
"""Source that reads a video from standard input while it arrives."""
_UNOPENED: Final = "cannot be opened"


class SourceKind(StrEnum):
    """What frames come from."""

    RTSP = "rtsp"
    CAMERA = "camera"
    FILE = "file"


class RtspTransport(StrEnum):
    """How the packets of RTSP travel."""

    TCP = "tcp"
    """Inside the connection: none is lost, and firewalls let them through."""
    UDP = "udp"
    """Separate from it: packets may be lost, and their frames are damaged."""


_PROTOCOLS: Final = {RtspTransport.TCP: "tcp", RtspTransport.UDP: "tcp,udp,rtp"}


def recognised(source: str, *, transport: RtspTransport, timeout: float) -> tuple[SourceKind, Input]:
    """Kind and input of a source.

    Args:
        source: ``rtsp://...``, ``/dev/videoN``, the path of a video file, or ``-`` for standard input.
        transport: of RTSP.
        timeout: of cameras, seconds.

    Raises:
        VideoError: none of these.
    """
    if source == STANDARD_INPUT:
        return SourceKind.FILE, standard_input()
    if _CAMERA.fullmatch(source):
        options = {"protocol_whitelist": "file", "format_whitelist": "video4linux2,v4l2", **OF_CODECS}
        camera = Input(name=source, address=source, format="v4l2", options=options, timeout=timeout, failure=_UNOPENED)
        return SourceKind.CAMERA, camera
    if source.lower().startswith("rtsp://"):
        return SourceKind.RTSP, _rtsp(source, transport, timeout)
    if "://" in source:
        raise VideoError(
            f"a live source is rtsp://host/path, /dev/videoN or a video file, received {source.partition(':')[0]}://..."
        )
    if not Path(source).exists():
        raise VideoError(f"there is no video at {source}")
    if require_file(Path(source), "a video", VideoError) == 0:
        raise VideoError(f"{source} is empty")
    return SourceKind.FILE, file_input(Path(source))


def _rtsp(source: str, transport: RtspTransport, timeout: float) -> Input:
    match = _RTSP.fullmatch(source)
    if match is None:  # not shown: it may hold a password
        raise VideoError(
            "not an address of RTSP",
            hint="write rtsp://host:port/path or rtsp://user:password@host/path, with %40 for @ and %2F for / in a "
            "password, and %40 for @ in a path",
        )
    options = {
        "rtsp_transport": transport.value,
        "allowed_media_types": "video",
        "timeout": str(round(timeout * 1e6)),
        "protocol_whitelist": _PROTOCOLS[transport],
        "format_whitelist": "rtsp",
        **OF_CODECS,
    }
    return Input(
        name=f"rtsp://{match['host']}{match['port'] or ''}",
        address=source,
        format="rtsp",
        options=options,
        timeout=timeout,
        failure=_UNOPENED,
    )
