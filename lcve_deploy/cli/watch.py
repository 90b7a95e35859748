"""``lcve watch``: classify a live source, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json, client_option, key_option, top_option
from lcve_deploy.cli.options.frames import FrameOptions, window_options
from lcve_deploy.cli.options.groups import value_from_options
from lcve_deploy.cli.options.remote import RemoteRequest, remote_options, server_option
from lcve_deploy.cli.options.types import ABOVE_ZERO, COUNT, POSITIVE
from lcve_deploy.cli.pipes import require_piped_input

if TYPE_CHECKING:
    from lcve_deploy.cli.watching import Display
    from lcve_deploy.client import Client
    from lcve_deploy.verbs.watch import Watch, WatchOptions
    from lcve_deploy.video.live import LiveOptions

__all__ = ["command"]


@dataclass(frozen=True, kw_only=True)
class _Windows:
    """Windows of the stream, and limits on those in progress."""

    hop: int | None
    windows: int | None
    seconds: float | None
    in_flight: int
    max_queue: int

    def options(self, client: Client, frames: FrameOptions, top: int) -> WatchOptions:
        """Return the options of a watch, with the preprocessing of this artifact."""
        from lcve_deploy.verbs.watch import WatchOptions

        return WatchOptions(
            hop=self.hop,
            windows=self.windows,
            seconds=self.seconds,
            in_flight=self.in_flight,
            waiting=self.max_queue,
            top=top,
            preprocess=frames.preprocess(client.settings.preprocess),
        )


def _make_live(
    *, loop: bool, realtime: bool, rtsp_transport: str, camera_timeout: float, reconnects: int
) -> LiveOptions:
    from lcve_deploy.video.live import LiveOptions
    from lcve_deploy.video.sources import RtspTransport

    return LiveOptions(
        transport=RtspTransport(rtsp_transport),
        timeout=camera_timeout,
        reconnects=reconnects,
        loop=loop,
        realtime=realtime,
    )


_WINDOWS: Final = cloup.option_group(
    "Windows",
    cloup.option(
        "--hop",
        type=POSITIVE,
        metavar="FRAMES",
        help="Frames from one window to the next.  [default: the length of a window]",
    ),
    cloup.option("--windows", type=POSITIVE, metavar="N", help="Stop after this many windows."),
    cloup.option("--seconds", type=ABOVE_ZERO, metavar="SECONDS", help="Stop after this much of the stream."),
    cloup.option(
        "--in-flight",
        type=click.IntRange(1, 64),
        default=2,
        show_default=True,
        metavar="N",
        help="Maximum concurrent requests.",
    ),
    cloup.option(
        "--max-queue",
        type=click.IntRange(1, 64),
        default=2,
        show_default=True,
        metavar="N",
        help="Maximum waiting windows; if there are more, the oldest is dropped.",
    ),
)
_FILE: Final = cloup.option_group(
    "File",
    cloup.option("--loop", is_flag=True, help="Restart the file when it ends."),
    cloup.option(
        "--realtime",
        is_flag=True,
        help="Play the file at its own frame rate.  [default: as fast as the server answers]",
    ),
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
        "--camera-timeout",
        type=ABOVE_ZERO,
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="Time without a frame after which the camera counts as disconnected.",
    ),
    cloup.option(
        "--reconnects",
        type=COUNT,
        default=20,
        show_default=True,
        metavar="N",
        help="Maximum attempts in a row to reconnect.",
    ),
)


@lcve_command(
    "lcve watch rtsp://camera/stream --server grpc://host:8001/actions \\\n    --key key.bin --client client",
    "lcve watch video.mp4 --realtime --server grpc://host:8001/actions \\\n    --key key.bin --client client --json",
    "ffmpeg -i URL -c copy -f matroska - | \\\n    lcve watch - --server grpc://host:8001/actions \\\n"
    "    --key key.bin --client client",
)
@cloup.argument(
    "source",
    envvar="LCVE_SOURCE",
    help="rtsp://..., a V4L2 camera /dev/videoN, or a video file. - for a video on standard input.",
)
@server_option(required=True)
@key_option
@client_option
@top_option
@as_json
@value_from_options("windows", _Windows, _WINDOWS)
@window_options
@value_from_options("live", _make_live, _FILE, _CAMERA)
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
    """Watch a camera or video: encrypt its windows, send them to a server, and print the predictions for each.

    V4L2 cameras have never been tested on hardware. Pass an address with a password in the environment variable
    LCVE_SOURCE, because other users can see command lines.

    If the model takes single pictures, every frame is a window of its own: pass --hop N to send every Nth frame.

    If standard output is not a terminal, or with --json, prints one JSON line for each window, in order: its frames,
    predictions or an error, latency, and the counts so far. On SIGINT or SIGTERM, the command waits for requests in
    progress and ends; a second signal ends it at once. If the source ends and no window was answered, but some failed,
    the exit status is 1.
    """
    from lcve_deploy.cli.watching import Display
    from lcve_deploy.client import Client
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.remote import RemoteSession
    from lcve_deploy.verbs.watch import Watch
    from lcve_deploy.video.live import LiveSource

    require_piped_input(source)
    display = Display(as_json=as_json)
    client = Client.open(client_folder, SecurityKey.read(key_file)).with_step(frames.step)
    frame_source = LiveSource(source, live, on_reconnect=display.warn)
    output = client.settings.answer
    with RemoteSession(server, client.settings.binding, remote.options(), output=output) as session:
        session.connect()
        options = windows.options(client, frames, top)
        if note := options.single_frame_note(client.settings.preprocess):
            display.warn(note)
        with Watch(frame_source, client, session, options) as watch:
            _show(watch, display)


def _show(watch: Watch, display: Display) -> None:
    """Print results until the end, a signal, or until standard output is closed.

    Raises:
        SystemExit: at the end, windows have failed and none was answered.
    """
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
    if watch.counts.failed and not watch.counts.answered and not stop.requested:
        raise SystemExit(1)
