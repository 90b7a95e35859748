"""``lcve watch``: a live source in, a line for every window out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, client_option, key_option, top_option
from lcve_deploy.cli.options.frames import FrameOptions, sampling_options
from lcve_deploy.cli.options.groups import hands_over
from lcve_deploy.cli.options.remote import RemoteRequest, remote_options, server_option
from lcve_deploy.cli.options.types import ABOVE_ZERO, COUNT, POSITIVE

if TYPE_CHECKING:
    from lcve_deploy.cli.watching import Display
    from lcve_deploy.client import Client
    from lcve_deploy.verbs.watch import Watch, WatchOptions
    from lcve_deploy.video.live import LiveOptions

__all__ = ["command"]


@dataclass(frozen=True, kw_only=True)
class _Windows:
    """Which windows are made of the stream, and how many are under way."""

    hop: int | None
    windows: int | None
    seconds: float | None
    in_flight: int
    waiting: int

    def options(self, client: Client, frames: FrameOptions, top: int) -> WatchOptions:
        """Return the options of a watch, sampled as this artifact wants it."""
        from lcve_deploy.verbs.watch import WatchOptions

        return WatchOptions(
            hop=self.hop,
            windows=self.windows,
            seconds=self.seconds,
            in_flight=self.in_flight,
            waiting=self.waiting,
            top=top,
            preprocess=frames.preprocess(client.settings.preprocess),
        )


def _make_live(*, loop: bool, realtime: bool, rtsp_transport: str, silence: float, reconnects: int) -> LiveOptions:
    from lcve_deploy.video.live import LiveOptions
    from lcve_deploy.video.sources import RtspTransport

    return LiveOptions(
        transport=RtspTransport(rtsp_transport),
        timeout=silence,
        reconnects=reconnects,
        loop=loop,
        realtime=realtime,
    )


_WINDOWS: Final = cloup.option_group(
    "Windows",
    cloup.option(
        "--hop", type=POSITIVE, metavar="FRAMES", help="From one window to the next.  [default: a window's length]"
    ),
    cloup.option("--windows", type=POSITIVE, metavar="N", help="Stop after so many windows."),
    cloup.option("--seconds", type=ABOVE_ZERO, metavar="SECONDS", help="Stop after so much of the stream."),
    cloup.option(
        "--in-flight", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N", help="Requests at a time."
    ),
    cloup.option(
        "--waiting",
        type=click.IntRange(1, 64),
        default=2,
        show_default=True,
        metavar="N",
        help="Windows that may wait; then the oldest is dropped.",
    ),
)
_FILE: Final = cloup.option_group(
    "File",
    cloup.option("--loop", is_flag=True, help="Start it again at its end."),
    cloup.option("--realtime", is_flag=True, help="Play it at its own pace.  [default: as fast as it is answered]"),
)
_CAMERA: Final = cloup.option_group(
    "Camera",
    cloup.option(
        "--rtsp-transport",
        type=click.Choice(["tcp", "udp"]),
        default="tcp",
        show_default=True,
        help="Transport protocol for RTSP.",
    ),
    cloup.option(
        "--silence",
        type=ABOVE_ZERO,
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="Time without a frame after which the camera counts as gone.",
    ),
    cloup.option(
        "--reconnects", type=COUNT, default=20, show_default=True, metavar="N", help="Attempts in a row to open it."
    ),
)


@lcve_command(
    "lcve watch rtsp://camera/stream --server grpc://host:8001/actions \\\n    --key key.bin --client client",
    "lcve watch video.mp4 --realtime --server grpc://host:8001/actions \\\n    --key key.bin --client client --json",
)
@cloup.argument("source", envvar="LCVE_SOURCE", help="rtsp://..., a V4L2 camera /dev/videoN, or a video file.")
@server_option(required=True)
@key_option
@client_option
@top_option
@as_json
@hands_over("windows", _Windows, _WINDOWS)
@sampling_options
@hands_over("live", _make_live, _FILE, _CAMERA)
@remote_options
def command(
    source: str,
    server: str,
    key_file: Path,
    client_folder: Path,
    top: int,
    windows: _Windows,
    frames: FrameOptions,
    live: LiveOptions,
    remote: RemoteRequest,
    as_json: bool,
) -> None:
    """Watch a camera or video: encrypt its windows, send them to a server, print what each shows.

    A V4L2 camera has never been tried on hardware. Give an address with a password in the environment variable
    LCVE_SOURCE, as others can see command lines.

    Prints one JSON line for every window, in order, if standard output is no terminal or with --json: its frames,
    predictions or an error, latency, and counts so far. SIGINT and SIGTERM end it once the requests under way are
    answered; a second one ends it at once.
    """
    from lcve_deploy.cli.watching import Display
    from lcve_deploy.client import Client
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.remote import RemoteSession
    from lcve_deploy.verbs.watch import Watch
    from lcve_deploy.video.live import LiveSource

    display = Display(as_json=as_json)
    client = Client.open(client_folder, SecurityKey.read(key_file))
    pictures = LiveSource(source, live, on_reconnect=display.warn)
    classes = len(client.settings.classes)
    with RemoteSession(server, client.settings.binding, remote.options(), classes=classes) as session:
        session.connect()
        with Watch(pictures, client, session, windows.options(client, frames, top)) as watch:
            _show(watch, display)


def _show(watch: Watch, display: Display) -> None:
    """Print results up to the end, a signal, or until nobody reads them."""
    from lcve_deploy.cli.watching import StopRequest

    with StopRequest() as stop:
        try:
            for result in watch.results(timeout=0.2):
                if stop.requested:
                    watch.stop()
                if result:
                    display.show(result)
                display.status(watch.counts)
                if display.is_closed:
                    return
        finally:
            display.summary(watch.counts)
