"""Options that several commands share, and the types that read them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from lcve_deploy.artifact import EngineKind, PublicKey
from lcve_deploy.artifact.engines import FASTEST
from lcve_deploy.clips import Views
from lcve_deploy.model.precision import Precision
from lcve_deploy.model.preprocess import Preprocess, Sampling

if TYPE_CHECKING:
    from lcve_deploy.exporters.checkpoints import CheckpointOptions
    from lcve_deploy.keys.signing import SigningKey
    from lcve_deploy.remote import RemoteOptions
    from lcve_deploy.runtime import SessionOptions
    from lcve_deploy.verbs.build import BuildOptions
    from lcve_deploy.verbs.fastest import EngineChoice

__all__ = [
    "AUTO",
    "FASTEST",
    "REMOTE",
    "SESSION",
    "AnyPath",
    "PathOrAddress",
    "SigningKeyFile",
    "as_json",
    "checkpoint_options",
    "engine_options",
    "key_option",
    "provider_options",
    "remote_options",
    "require_unused",
    "salt_option",
    "sampling_options",
    "session_options",
    "signed_by_option",
    "signing_key_option",
    "to_checkpoint_options",
    "to_engine_choice",
    "to_preprocess",
    "to_remote_options",
    "to_session_options",
    "tolerance_option",
    "verify_clip_option",
    "views_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_PIN_VARIABLE: Final = "LCVE_SIGNED_BY"

_FAMILIES: Final = ("videomae", "videomae-v2", "mvd", "umt", "internvideo")
_READOUTS: Final = ("mean", "first-token")

AnyPath = click.Path(path_type=Path)

AUTO: Final = "auto"


class _Channels(click.ParamType):  # type: ignore[type-arg]
    """Numbers with commas, one a channel."""

    name = "a,b,c"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers with commas, such as 0.5,0.5,0.5, received {value!r}", param, ctx)


class _Views(click.ParamType):  # type: ignore[type-arg]
    """``TxS``."""

    name = "TxS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Views:
        """Read the views."""
        if isinstance(value, Views):
            return value
        try:
            return Views.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Setting(click.ParamType):  # type: ignore[type-arg]
    """``NAME=VALUE``."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split at the first equals sign."""
        if isinstance(value, tuple):
            return value
        name, equals, setting = value.partition("=")
        if not name or not equals:
            self.fail(f"expected NAME=VALUE, such as device_id=0, received {value!r}", param, ctx)
        return name, setting


class _Salt(click.ParamType):  # type: ignore[type-arg]
    """16 bytes as hex digits."""

    name = "HEX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Read the bytes."""
        from lcve_deploy.clips import SALT_BYTES

        try:
            salt = value if isinstance(value, bytes) else bytes.fromhex(value)
        except ValueError:
            salt = b""
        if len(salt) != SALT_BYTES:
            self.fail("expected 32 hex digits (16 bytes)", param, ctx)
        return salt


class _PublicKeyFile(click.ParamType):  # type: ignore[type-arg]
    """A public key file, read before any work begins."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PublicKey:
        """Read the key."""
        if not value:
            self.fail("expected a public key file, received an empty name", param, ctx)
        return value if isinstance(value, PublicKey) else PublicKey.read(value)


class _Pin(click.Option):
    """An option whose variable counts where it is set and empty: a pin must not be lost silently."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """What the variable says; None only where there is no such variable."""
        return os.environ.get(_PIN_VARIABLE)


class PathOrAddress(click.ParamType):  # type: ignore[type-arg]
    """A folder, as a path, or the address of a model at a server, as text."""

    name = "path or address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Tell them apart by the scheme."""
        from lcve_deploy.remote import is_address

        return value if isinstance(value, Path) or is_address(value) else Path(value)


class SigningKeyFile(click.ParamType):  # type: ignore[type-arg]
    """A private key file for signing, read before any work begins."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SigningKey:
        """Read the key."""
        from lcve_deploy.keys.signing import SigningKey

        return value if isinstance(value, SigningKey) else SigningKey.read(value)


key_option = click.option("--key", "key_file", type=AnyPath, required=True, help="Key file.")
salt_option = click.option(
    "--salt", type=_Salt(), help="16 bytes, to reproduce an artifact or let two share their clips."
)
signed_by_option = click.option(
    "--signed-by",
    cls=_Pin,
    type=_PublicKeyFile(),
    envvar=_PIN_VARIABLE,
    show_envvar=True,
    help="Public key of the owner; refuse what it has not signed.",
)
signing_key_option = click.option(
    "--signing-key", type=SigningKeyFile(), help="Sign the manifest with this key of lcve keygen --signing."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
views_option = click.option(
    "--views", type=_Views(), default="1x1", show_default=True, help="Temporal x spatial views, such as 5x3."
)
tolerance_option = click.option(
    "--tolerance", type=click.FloatRange(min=0, min_open=True), help="Largest |Δlogit| that counts as equal."
)
verify_clip_option = click.option(
    "--verify-clip", "verify_clips", type=AnyPath, multiple=True, help="Video to compare on; may be repeated."
)


def provider_options(command: _Command) -> _Command:
    """``--provider`` and ``--provider-option``."""
    choice = click.Choice(["cpu", "cuda", "tensorrt", "tensorrt-rtx"])
    command = click.option(
        "--provider-option", type=_Setting(), multiple=True, help="Of the execution provider; may be repeated."
    )(command)
    return click.option(
        "--provider", type=choice, default="cpu", show_default=True, help="ONNX Runtime: execution provider."
    )(command)


def engine_options(command: _Command) -> _Command:
    """``--engine``, ``--precision`` and ``--budget``."""
    kinds, precisions = [kind.value for kind in EngineKind], [precision.value for precision in Precision]
    options = (
        click.option(
            "--engine", type=click.Choice([*kinds, FASTEST]), help="Runtime; fastest tries all that are installed."
        ),
        click.option(
            "--precision",
            type=click.Choice([*precisions, AUTO]),
            default="fp32",
            show_default=True,
            help="Of the matrix products; auto tries all of them within --budget.",
        ),
        click.option("--budget", type=click.FloatRange(min=0, min_open=True), help="Largest |Δlogit| to accept."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def to_engine_choice(given: dict[str, Any], options: BuildOptions) -> EngineChoice:
    """What to build, as ``build_fastest`` takes it."""
    from lcve_deploy.verbs.fastest import EngineChoice

    engine, precision = given["engine"], given["precision"]
    if precision == AUTO and given["budget"] is None:
        raise click.UsageError("--precision auto needs --budget: the largest |Δlogit| that you accept")
    try:
        return EngineChoice(
            kinds=tuple(EngineKind) if engine == FASTEST else (EngineKind(engine),),
            precisions=tuple(Precision) if precision == AUTO else (Precision(precision),),
            options=options,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def session_options(command: _Command) -> _Command:
    """How a session is opened: ``--engine``, ``--provider``, ``--provider-option`` and ``--threads``."""
    command = click.option("--threads", type=click.IntRange(min=1), help="Threads of one inference, on a CPU.")(command)
    command = provider_options(command)
    return click.option("--engine", help="Engine of lcve build, or fastest.  [default: the graph, in ONNX Runtime]")(
        command
    )


def to_session_options(given: dict[str, Any]) -> SessionOptions:
    """The options as ``open_session`` takes them, with the pin."""
    from lcve_deploy.runtime import Provider, SessionOptions

    if given["engine"] and (given["provider"] != "cpu" or given["provider_option"]):
        raise click.UsageError("an engine was built for its provider; --provider is for the graph itself")
    return SessionOptions(
        engine=given["engine"],
        provider=Provider(given["provider"]),
        provider_options=dict(given["provider_option"]),
        threads=given["threads"],
        signed_by=given["signed_by"],
    )


SESSION: Final = ("engine", "provider", "provider_option", "threads", "signed_by")
"""Names of what says how an artifact is opened on this machine."""
REMOTE: Final = ("deadline", "retries", "token_file", "tls_ca", "tls_cert", "tls_key", "shared_memory")
"""Names of the options of ``remote_options``."""


def remote_options(command: _Command) -> _Command:
    """How a server is asked: ``--deadline``, ``--retries``, ``--token-file``, ``--tls-*`` and ``--shared-memory``."""
    options = (
        click.option(
            "--deadline",
            type=click.FloatRange(min=0, min_open=True),
            help="Server: seconds for a request, retries included.  [default: 60]",
        ),
        click.option(
            "--retries",
            type=click.IntRange(min=0),
            help="Server: how often to ask again, at another endpoint where there is one.  [default: 4]",
        ),
        click.option("--token-file", type=AnyPath, help="Server: file with a bearer token.  [env var: LCVE_TOKEN]"),
        click.option("--tls-ca", type=AnyPath, help="Server: root certificates, PEM.  [default: public ones]"),
        click.option("--tls-cert", type=AnyPath, help="Server: certificate of this client, PEM, with --tls-key."),
        click.option("--tls-key", type=AnyPath, help="Server: private key of that certificate, PEM."),
        click.option(
            "--shared-memory", is_flag=True, help="Server: hand clips over in memory; for gRPC on this machine."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def to_remote_options(given: dict[str, Any]) -> RemoteOptions:
    """The options as ``RemoteSession`` takes them; what is not given has its default."""
    from lcve_deploy.remote import RemoteOptions

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would print lines of its own before our one error
    try:
        return RemoteOptions(**{name: given[name] for name in REMOTE if given[name] is not None})
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def require_unused(names: Iterable[str], why: str) -> None:
    """Refuse options that the command line names and that mean nothing here.

    One that the environment sets for all commands is let be.
    """
    ctx = click.get_current_context()
    named = [
        parameter.opts[-1]
        for parameter in ctx.command.params
        if parameter.name in names and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if named:
        raise click.UsageError(f"{', '.join(named)}: {why}")


def sampling_options(command: _Command) -> _Command:
    """``--sampling`` and ``--stride``."""
    choice = click.Choice([s.value for s in Sampling])
    command = click.option("--stride", type=click.IntRange(min=1), help="Distance between the frames of a clip.")(
        command
    )
    return click.option("--sampling", type=choice, help="How the frames of a clip are chosen.")(command)


def to_preprocess(preprocess: Preprocess, sampling: str | None, stride: int | None) -> Preprocess:
    """The artifact's own preprocessing, with what the user asked for instead."""
    return preprocess.with_sampling(Sampling(sampling) if sampling else None, stride)


def checkpoint_options(command: _Command) -> _Command:
    """What a checkpoint may not say itself."""
    options = (
        click.option("--num-heads", type=click.IntRange(min=1), help="Number of attention heads, if it is not known."),
        click.option("--family", type=click.Choice(_FAMILIES), help="Codebase that an official file is from."),
        click.option("--readout", type=click.Choice(_READOUTS), help="What the classifier of an official file reads."),
        click.option("--weights", help="Set of weights, if an official file has several, such as model_ema."),
        click.option("--frames", type=click.IntRange(min=1), help="Frames of a clip.  [official files: 16]"),
        click.option("--size", type=click.IntRange(min=1), help="Height and width, pixels.  [official files: 224]"),
        click.option("--short-side", type=click.IntRange(min=1), help="Shorter side of a resized frame, pixels."),
        click.option("--mean", type=_Channels(), help="Mean of each channel, for values 0..1.  [VideoMAE: ImageNet]"),
        click.option("--std", type=_Channels(), help="Standard deviation of each channel.  [VideoMAE: ImageNet]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def to_checkpoint_options(given: dict[str, Any]) -> CheckpointOptions:
    """The options as the loader takes them."""
    from lcve_deploy.exporters.checkpoints import CheckpointOptions
    from lcve_deploy.exporters.checkpoints.families import Family
    from lcve_deploy.exporters.checkpoints.options import ReadoutChoice
    from lcve_deploy.model.transformer import Normalisation

    mean, std = given["mean"], given["std"]
    if (mean is None) != (std is None):
        raise click.UsageError("--mean and --std are given together, or not at all")
    return CheckpointOptions(
        heads=given["num_heads"],
        frames=given["frames"],
        size=given["size"],
        short_side=given["short_side"],
        normalisation=Normalisation(mean=mean, std=std) if mean is not None else None,
        family=Family(given["family"]) if given["family"] else None,
        readout=ReadoutChoice(given["readout"]) if given["readout"] else None,
        weights=given["weights"],
    )
