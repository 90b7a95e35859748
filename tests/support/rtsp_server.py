"""An RTSP server of GStreamer for tests; run by the Python that has its bindings, Debian's /usr/bin/python3.

    python3 rtsp_server.py PORT [USER PASSWORD]

Prints its port once it listens, and serves a moving ball, 64 x 48, at /stream. Needs Debian's packages
gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-base, -good and -ugly, and python3-gi.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=64,height=48,framerate=25/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def guard(server: GstRtspServer.RTSPServer, user: str, password: str) -> GstRtspServer.RTSPToken:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    return token


def main(port: str, *account: str) -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    if account:
        guard(server, *account)
        factory.add_role_from_structure(
            Gst.Structure.from_string("viewer, media.factory.access=true, media.factory.construct=true")[0]
        )
    server.get_mount_points().add_factory("/stream", factory)
    if server.attach(None) == 0:
        sys.exit(f"port {port} is taken")
    print(server.get_bound_port(), flush=True)  # noqa: T201
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
