"""``lcve serve``: the embedded server, on the operator's side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lcve_deploy.cli.options import AnyPath, as_json, session_options, signed_by_option, to_session_options

if TYPE_CHECKING:
    from lcve_deploy.serving.server import Ports
    from lcve_deploy.serving.settings import ServerSettings, TlsFiles

__all__ = ["command"]

_MEBIBYTE: Final = 2**20

_OPTIONS: Final = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option(
        "--http-port", type=click.IntRange(-1, 65535), default=8000, show_default=True, help="0: any; -1: none."
    ),
    click.option(
        "--grpc-port", type=click.IntRange(-1, 65535), default=8001, show_default=True, help="0: any; -1: none."
    ),
    click.option(
        "--metrics-port",
        type=click.IntRange(-1, 65535),
        default=8002,
        show_default=True,
        help="Health and Prometheus metrics, always plain HTTP.  0: any; -1: none.",
    ),
    click.option("--max-batch", type=click.IntRange(min=1), default=8, show_default=True, help="Clips of one run."),
    click.option(
        "--queue-delay",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        help="Milliseconds that a clip may wait for others.",
    ),
    click.option(
        "--max-queue", type=click.IntRange(min=1), default=64, show_default=True, help="Clips of a model that may wait."
    ),
    click.option(
        "--instances", type=click.IntRange(min=1), default=1, show_default=True, help="Runs of a model at once."
    ),
    click.option(
        "--max-requests", type=click.IntRange(min=1), default=128, show_default=True, help="Requests in work at once."
    ),
    click.option(
        "--max-connections", type=click.IntRange(min=1), default=512, show_default=True, help="HTTP connections."
    ),
    click.option(
        "--max-request-mib", type=click.IntRange(min=1, max=1024), default=64, show_default=True, help="Of one request."
    ),
    click.option(
        "--read-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default=True,
        help="Seconds for a request to arrive.",
    ),
    click.option(
        "--rate", type=click.FloatRange(min=0), default=0.0, help="Requests a second of one client.  [default: any]"
    ),
    click.option("--shared-memory", is_flag=True, help="Let clients on this machine register shared memory."),
    click.option(
        "--versions", type=click.IntRange(min=1), default=1, show_default=True, help="Versions of a model, the highest."
    ),
    click.option(
        "--poll",
        type=click.FloatRange(min=0),
        default=5.0,
        show_default=True,
        help="Seconds between looks at the folders; 0: never.",
    ),
    click.option(
        "--grace", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds to finish at the end."
    ),
    click.option("--token-file", type=AnyPath, help="Names and tokens of clients, one pair a line."),
    click.option("--tls-cert", type=AnyPath, help="Certificate of the server, PEM."),
    click.option("--tls-key", type=AnyPath, help="Private key of the certificate, PEM."),
    click.option("--tls-client-ca", type=AnyPath, help="Mutual TLS: the authority of clients' certificates, PEM."),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="Of the log on standard error.",
    ),
)


def _serving_options(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]DIR...")
@_serving_options
@session_options
@signed_by_option
@as_json
def command(models: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Serve artifacts over the Open Inference Protocol (v2), by HTTP and gRPC; no key is needed or taken.

    DIR is the server/ of an artifact, or a folder of such folders that are named by version numbers. It is looked at
    again and again: a new version takes over once it has answered its probe, and a broken one never does. Without
    NAME, the model has the name of the folder, or of its parent where it is called server.

    The log, one JSON object a line, goes to standard error. SIGTERM ends the server once it has answered what it
    accepted; SIGHUP loads all models again.
    """
    from lcve_deploy.serving.server import serve
    from lcve_deploy.serving.telemetry.logs import logging_to_stderr

    settings = _settings(models, given)
    if not settings.is_local and (settings.token_file is None or settings.tls is None):
        missing = " and ".join(
            name
            for name, there in (("--tls-cert", settings.tls), ("--token-file", settings.token_file))
            if there is None
        )
        click.echo(f"warning: other machines can connect to {settings.host}, without {missing}", err=True)
    with logging_to_stderr(given["log_level"]):
        serve(settings, lambda ports: _started(settings, ports, as_json=as_json))


def _settings(models: tuple[str, ...], given: dict[str, Any]) -> ServerSettings:
    from lcve_deploy.serving.models.versions import parse_source, require_distinct
    from lcve_deploy.serving.settings import Batching, Limits, ServerSettings

    try:
        batching = Batching(
            largest=given["max_batch"],
            delay=given["queue_delay"] / 1e3,
            most_waiting=given["max_queue"],
            instances=given["instances"],
        )
    except ValueError:
        raise click.UsageError("--max-queue must be at least --max-batch") from None
    return ServerSettings(
        sources=require_distinct(parse_source(model) for model in models),
        host=given["host"],
        http_port=_port(given["http_port"]),
        grpc_port=_port(given["grpc_port"]),
        metrics_port=_port(given["metrics_port"]),
        session=to_session_options(given),
        batching=batching,
        limits=Limits(
            request_bytes=given["max_request_mib"] * _MEBIBYTE,
            requests=given["max_requests"],
            connections=given["max_connections"],
            read_seconds=given["read_timeout"],
            rate=given["rate"],
            shared_memory=given["shared_memory"],
        ),
        versions=given["versions"],
        poll=given["poll"],
        grace=given["grace"],
        token_file=given["token_file"],
        tls=_tls(given["tls_cert"], given["tls_key"], given["tls_client_ca"]),
    )


def _port(number: int) -> int | None:
    return None if number < 0 else number


def _tls(certificate: Path | None, private_key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    from lcve_deploy.serving.settings import TlsFiles

    if (certificate is None) != (private_key is None) or (client_ca is not None and certificate is None):
        raise click.UsageError("--tls-cert and --tls-key are given together, and --tls-client-ca only beside them")
    if certificate is None or private_key is None:
        return None
    return TlsFiles(certificate=certificate, private_key=private_key, client_ca=client_ca)


def _started(settings: ServerSettings, ports: Ports, *, as_json: bool) -> None:
    """Say where the server listens: one line a port, or one JSON object."""
    import dataclasses
    import json

    if as_json:
        models = [source.name for source in settings.sources]
        click.echo(json.dumps({"host": settings.host, **dataclasses.asdict(ports), "models": models}))
        return
    schemes = {
        "http": "https" if settings.tls else "http",
        "grpc": "grpcs" if settings.tls else "grpc",
        "metrics": "http",
    }
    for name, port in dataclasses.asdict(ports).items():
        if port is None:
            continue
        address = f"{schemes[name]}://{settings.host}:{port}"
        for end in ["/metrics"] if name == "metrics" else [f"/{source.name}" for source in settings.sources]:
            click.echo(f"{address}{end}")
