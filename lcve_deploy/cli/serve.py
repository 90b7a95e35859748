"""``lcve serve``: run the embedded server, without a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.options.groups import value_from_options
from lcve_deploy.cli.options.models import models_argument
from lcve_deploy.cli.options.serving import (
    AccessOptions,
    ListeningOptions,
    LoadingOptions,
    SealingOptions,
    access_options,
    batching_options,
    limits_options,
    listening_options,
    loading_options,
    sealing_options,
)
from lcve_deploy.cli.options.session import SessionRequest, session_options
from lcve_deploy.cli.show import warn
from lcve_deploy.cli.verbosity import VERBOSITY, Verbosity

if TYPE_CHECKING:
    from lcve_deploy.serving.server import Ports
    from lcve_deploy.serving.settings import Batching, Limits, ServerSettings
    from lcve_deploy.serving.signals import Signals

__all__ = ["command"]

_LOG_LEVELS: Final = {Verbosity.QUIET: "error", Verbosity.NORMAL: "info", Verbosity.VERBOSE: "debug"}


def _remembered_signals() -> Signals:
    """Return the signals that the command group remembers; remember them from now on if it does not."""
    from lcve_deploy.serving.signals import Signals, early_signals

    ctx = click.get_current_context()
    return ctx.find_object(Signals) or ctx.with_resource(early_signals())


@lcve_command(
    "lcve serve actions=service/server",
    "lcve serve actions=server --engine fastest --host 0.0.0.0 \\\n"
    "    --tokens tokens --tls-cert cert.pem --tls-key key.pem",
)
@value_from_options("signals", _remembered_signals)
@models_argument
@cloup.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Level of the log on standard error.  [default: info; -q: error; -v: debug]",
)
@as_json
@listening_options
@access_options
@sealing_options
@batching_options
@limits_options
@loading_options
@session_options
def command(
    models: tuple[str, ...],
    log_level: str | None,
    listening: ListeningOptions,
    access: AccessOptions,
    sealing: SealingOptions,
    batching: Batching,
    limits: Limits,
    loading: LoadingOptions,
    session: SessionRequest,
    signals: Signals,
    as_json: bool,
) -> None:
    """Serve artifacts over the Open Inference Protocol (v2), over HTTP and gRPC. Needs and accepts no key.

    DIR may also be a folder of server folders that are named by version numbers. The folders are polled: a new version
    replaces the old one only after it passes its probe. Keys are folders in keys/ of a model: one that is copied there
    is used once it has passed its probe, and one that is removed is refused.

    The log goes to standard error, with one JSON object on each line. On SIGTERM, the server answers the requests that
    it has accepted, and exits. On SIGHUP, it reloads tokens, TLS files, sealing keys and all models.

    With --open-with, it also answers requests that are sealed to the public half of that key. Sealing protects clips
    from everyone between the client and this process, but not from the holder of the private key.
    """
    import dataclasses

    from lcve_deploy.serving.models.versions import parse_source, require_distinct
    from lcve_deploy.serving.server import serve
    from lcve_deploy.serving.settings import ServerSettings
    from lcve_deploy.serving.telemetry.logs import logging_to_stderr

    settings = ServerSettings(
        sources=require_distinct(parse_source(model) for model in models),
        host=listening.host,
        http_port=listening.http_port,
        grpc_port=listening.grpc_port,
        metrics_port=listening.metrics_port,
        session=dataclasses.replace(session.options(), max_keys=loading.max_keys),
        batching=batching,
        limits=limits,
        versions=loading.versions,
        poll=loading.poll,
        grace=loading.grace,
        token_file=access.tokens,
        web=access.web,
        tls=access.tls,
        sealing=sealing.settings(),
    )
    _warn_if_unprotected(settings)
    with logging_to_stderr(log_level or _LOG_LEVELS[VERBOSITY.get()]):
        serve(settings, lambda ports: _show_addresses(settings, ports, as_json=as_json), signals)


def _warn_if_unprotected(settings: ServerSettings) -> None:
    """Warn if other machines can connect without TLS or tokens."""
    options = (("--tls-cert", settings.tls), ("--tokens", settings.token_file))
    missing = " and ".join(name for name, value in options if value is None)
    if missing and not settings.is_local:
        warn(f"other machines can connect to {settings.host}, without {missing}")
    if settings.limits.shared_memory is not None and settings.token_file is None:
        warn("without --tokens, all clients of this machine share their shared memory regions")


def _show_addresses(settings: ServerSettings, ports: Ports, *, as_json: bool) -> None:
    """Print the addresses of all models and of the metrics, or one JSON object."""
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
        for path in ["/metrics"] if name == "metrics" else [f"/{source.name}" for source in settings.sources]:
            click.echo(f"{address}{path}")
