"""``lcve watch``: a live source in, a line for every window out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lcve_deploy.cli.options import (
    AnyPath,
    as_json,
    key_option,
    remote_options,
    sampling_options,
    to_preprocess,
    to_remote_options,
)

if TYPE_CHECKING:
    from lcve_deploy.cli.watching import Display
    from lcve_deploy.client import Client
    from lcve_deploy.verbs.watch import Watch, WatchOptions
    from lcve_deploy.video.live import LiveOptions

__all__ = ["command"]

_Count = click.IntRange(min=1)
_Seconds = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("source", envvar="LCVE_SOURCE")
@click.option("--server", required=True, help="Model at a server: grpc://host:port/model, or grpcs, http, https.")
@key_option
@click.option("--client", "client_folder", type=AnyPath, required=True, help="client/ of the artifact.")
@click.option("--hop", type=_Count, help="Frames from one window to the next.  [default: a window's length]")
@sampling_options
@click.option("--top", type=_Count, default=5, show_default=True, help="Classes of a window.")
@click.option("--windows", type=_Count, help="Stop after so many windows.")
@click.option("--seconds", type=_Seconds, help="Stop after so many seconds of the stream.")
@click.option("--loop", is_flag=True, help="File: start it again at its end.")
@click.option("--realtime", is_flag=True, help="File: play it at its own pace.  [default: as fast as it is answered]")
@click.option(
    "--rtsp-transport", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True, help="Camera: RTSP over."
)
@click.option(
    "--silence",
    type=_Seconds,
    default=10.0,
    show_default=True,
    help="Camera: gone after so many seconds without a frame.",
)
@click.option(
    "--reconnects", type=click.IntRange(min=0), default=20, show_default=True, help="Camera: attempts in a row."
)
@click.option("--in-flight", type=click.IntRange(1, 64), default=2, show_default=True, help="Requests at a time.")
@click.option(
    "--waiting",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Windows that wait before the oldest goes.",
)
@remote_options
@as_json
def command(source: str, server: str, key_file: Path, client_folder: Path, **given: Any) -> None:
    """Watch SOURCE: encrypt its windows, send them to a server, print what each shows.

    SOURCE is rtsp://..., a V4L2 camera /dev/videoN (never tried on hardware), or a video file played as a stream; an
    address with a password is better given in the environment variable LCVE_SOURCE, as others can see command lines.
    One JSON line for every window, in order, where standard output is no terminal or with --json: its frames,
    predictions or an error, latency, and counts so far. SIGINT and SIGTERM end it once the requests on their way are
    answered; a second one ends it at once.
    """
    from lcve_deploy.cli.watching import Display
    from lcve_deploy.client import Client
    from lcve_deploy.keys.secret import SecurityKey
    from lcve_deploy.remote import RemoteSession
    from lcve_deploy.verbs.watch import Watch
    from lcve_deploy.video.live import LiveSource

    display = Display(as_json=given["as_json"])
    client = Client.open(client_folder, SecurityKey.read(key_file))
    frames = LiveSource(source, _live_options(given), told=display.warn)
    classes = len(client.settings.classes)
    with RemoteSession(server, client.settings.binding, to_remote_options(given), classes=classes) as session:
        session.connect()
        with Watch(frames, client, session, _watch_options(client, given)) as watch:
            _show(watch, display)


def _live_options(given: dict[str, Any]) -> LiveOptions:
    from lcve_deploy.video.live import LiveOptions
    from lcve_deploy.video.sources import RtspTransport

    return LiveOptions(
        transport=RtspTransport(given["rtsp_transport"]),
        timeout=given["silence"],
        reconnects=given["reconnects"],
        loop=given["loop"],
        realtime=given["realtime"],
    )


def _watch_options(client: Client, given: dict[str, Any]) -> WatchOptions:
    from lcve_deploy.verbs.watch import WatchOptions

    return WatchOptions(
        **{name: given[name] for name in ("hop", "in_flight", "waiting", "top", "windows", "seconds")},
        preprocess=to_preprocess(client.settings.preprocess, given["sampling"], given["stride"]),
    )


def _show(watch: Watch, display: Display) -> None:
    """Print results up to the end, a signal, or the loss of whoever reads them."""
    from lcve_deploy.cli.watching import StopRequest

    with StopRequest() as stop:
        try:
            for result in watch.results(patience=0.2):
                if stop.requested:
                    watch.stop()
                if result:
                    display.show(result)
                display.status(watch.counts)
                if display.is_closed:
                    return
        finally:
            display.summary(watch.counts)
