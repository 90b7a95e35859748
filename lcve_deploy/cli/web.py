"""``lcve web``: serve a page that encrypts clips in the browser, on the machine of the key's holder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.options.groups import as_usage_error, require_unused, value_from_options
from lcve_deploy.cli.options.remote import REMOTE, RemoteRequest, remote_options
from lcve_deploy.cli.options.session import SESSION, SessionRequest, session_options
from lcve_deploy.cli.options.types import PATH, PathOrAddress
from lcve_deploy.cli.show import warn

if TYPE_CHECKING:
    from lcve_deploy.web.models import PageModel
    from lcve_deploy.web.settings import PageSettings

__all__ = ["command"]

_MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class _Listening:
    """Address, port and accepted names of this machine."""

    host: str
    port: int
    allow_host: tuple[str, ...]

    def settings(self, client: bytes | None) -> PageSettings:
        """Return the settings of the page."""
        from lcve_deploy.web.settings import PageSettings

        with as_usage_error():
            return PageSettings(host=self.host, port=self.port, hosts=self.allow_host, client=client)


_LISTENING: Final = cloup.option_group(
    "Listening",
    cloup.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on."),
    cloup.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=8010,
        show_default=True,
        metavar="N",
        help="Port to listen on; 0: any free port.",
    ),
    cloup.option(
        "--allow-host",
        multiple=True,
        metavar="NAME",
        help="Name of this machine that browsers may use, in addition to localhost; repeatable.",
    ),
)


@lcve_command(
    "lcve web service",
    "lcve web grpcs://host:8001/actions --client client --token-file token",
)
@cloup.argument(
    "model", type=PathOrAddress(), metavar="MODEL", help="Artifact or its server/, or the address of a model."
)
@cloup.option(
    "--client",
    "client_folder",
    type=PATH,
    metavar="DIR",
    help="client/ of the key, so that users need not choose client.json.  [default: that of the artifact]",
)
@as_json
@value_from_options("listening", _Listening, _LISTENING)
@session_options
@remote_options
def command(
    model: Path | str,
    client_folder: Path | None,
    listening: _Listening,
    session: SessionRequest,
    remote: RemoteRequest,
    as_json: bool,
) -> None:
    """Serve a page that encrypts videos and camera pictures in the browser, and shows what the model answers.

    The user chooses the key file on the page. The key stays in the memory of that page: this command neither reads nor
    receives it. It passes encrypted clips on to the model, which is an artifact on this machine, or on a server.

    Run it on the machine of the key's holder, never on the operator's: those who serve the page can change it and take
    the key. Any program on this machine that can connect to the port can use the model, with the token of this command.
    """
    import json

    from lcve_deploy.web.server import serve_page

    settings = listening.settings(_client_bytes(model, client_folder))
    opened = _open(model, session, remote)
    if not settings.is_local:
        warn(
            f"other machines can connect to {settings.host}; browsers give the page a key and a camera only on "
            "localhost or over https, so put a proxy with TLS in front"
        )

    def show(port: int) -> None:
        host = "127.0.0.1" if settings.host in ("", "0.0.0.0") else settings.host  # noqa: S104
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        click.echo(json.dumps({"url": url}) if as_json else url)

    serve_page(settings, opened, show)


def _client_bytes(model: Path | str, client_folder: Path | None) -> bytes | None:
    """Return the content of ``client.json``, checked; None if none is known.

    Raises:
        ArtifactError: it is invalid.
    """
    from lcve_deploy.artifact import read_client

    folder = client_folder
    if folder is None and isinstance(model, Path) and (model / "client").is_dir():
        folder = model / "client"
    if folder is None:
        return None
    read_client(folder)
    return (folder / "client.json").read_bytes()


def _open(model: Path | str, session: SessionRequest, remote: RemoteRequest) -> PageModel:
    """Open the model folder, or prepare the connection to a server."""
    from lcve_deploy.web.models import LocalModel, ServerModel

    if isinstance(model, str):
        require_unused(SESSION, "only for an artifact on this machine, but MODEL is an address")
        return ServerModel(model, remote.options())
    require_unused(REMOTE, "only for a server, but MODEL is a folder")
    from lcve_deploy.runtime.opening import open_server

    folder = model if (model / _MANIFEST).is_file() else model / "server"
    options = session.options()
    manifest, opened = open_server(folder, options)
    return LocalModel(folder, manifest, opened, signed_by=options.signed_by)
