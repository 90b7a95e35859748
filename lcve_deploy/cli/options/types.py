"""Types of options and arguments. Each parses text from the command line, or reports what it expected."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from lcve_deploy.artifact import Profile, PublicKey
from lcve_deploy.clips import SALT_BYTES, Views
from lcve_deploy.packing import MAX_PAD
from lcve_deploy.sealing import SealingKey, SealingPublicKey

if TYPE_CHECKING:
    from lcve_deploy.keys.signing import SigningKey

__all__ = [
    "ABOVE_ZERO",
    "COUNT",
    "PADDING",
    "PATH",
    "PATH_OR_PIPE",
    "POSITIVE",
    "BatchSizes",
    "ChannelValues",
    "EnumChoice",
    "PathOrAddress",
    "PublicKeyFile",
    "Quality",
    "SaltBytes",
    "SealingKeyFile",
    "SealingPublicKeyFile",
    "Setting",
    "SigningKeyFile",
    "ViewCounts",
]

_NO_PIPE: Final = "- is standard input or output, which cannot be used here; for a file of this name, write ./-"


class _NamedPath(click.Path):
    """The path of a file or folder, but not ``-``, which stands for standard input or output."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the path."""
        if value == "-":
            self.fail(_NO_PIPE, param, ctx)
        return super().convert(value, param, ctx)


PATH: Final = _NamedPath(path_type=Path)
PATH_OR_PIPE: Final = click.Path(path_type=Path)
"""A path, or ``-``; see ``lcve_deploy.cli.pipes``."""
POSITIVE: Final = click.IntRange(min=1)
COUNT: Final = click.IntRange(min=0)
PADDING: Final = click.IntRange(1, MAX_PAD)
ABOVE_ZERO: Final = click.FloatRange(min=0, min_open=True)

QUALITIES: Final = {"fine": 6.0, "normal": 16.0, "small": 40.0}
"""Quantisation steps by name."""

_Choice = TypeVar("_Choice", bound=StrEnum)


class EnumChoice(click.Choice[_Choice]):
    """Members of an enumeration, by their values."""

    def normalize_choice(self, choice: Any, ctx: click.Context | None) -> str:
        """Return the value of a member, or the text itself."""
        return choice.value if isinstance(choice, StrEnum) else str(choice)


class ChannelValues(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas, one for each channel."""

    name = "R,G,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers separated by commas, such as 0.5,0.5,0.5, received {value!r}", param, ctx)


class Quality(click.ParamType[float]):
    """The quality of a clip: a name or a quantisation step."""

    name = "quality"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the step."""
        try:
            return QUALITIES.get(value) or float(value)
        except ValueError:
            self.fail(f"expected {', '.join(QUALITIES)}, or a step such as 16, received {value!r}", param, ctx)


class ViewCounts(click.ParamType[Views]):
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


class BatchSizes(click.ParamType[Profile]):
    """``MIN:OPT:MAX``."""

    name = "MIN:OPT:MAX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Profile:
        """Read the batch sizes."""
        if isinstance(value, Profile):
            return value
        try:
            minimum, optimum, maximum = map(int, value.split(":"))
            return Profile(minimum=minimum, optimum=optimum, maximum=maximum)
        except ValueError:
            self.fail(f"expected increasing batch sizes, such as 1:4:16, received {value!r}", param, ctx)


class Setting(click.ParamType[tuple[str, str]]):
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


class SaltBytes(click.ParamType[bytes]):
    """16 bytes as hex digits."""

    name = "HEX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Read the bytes."""
        try:
            salt = value if isinstance(value, bytes) else bytes.fromhex(value)
        except ValueError:
            salt = b""
        if len(salt) != SALT_BYTES:
            self.fail("expected 32 hex digits (16 bytes)", param, ctx)
        return salt


class PathOrAddress(click.ParamType[Path | str]):
    """A folder, as a path, or the address of a model on a server, as text."""

    name = "path or address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Distinguish them by the scheme."""
        from lcve_deploy.remote import is_address

        if isinstance(value, Path):
            return value
        if value == "-":
            self.fail(_NO_PIPE, param, ctx)
        return str(value) if is_address(value) else Path(value)


class PublicKeyFile(click.ParamType[PublicKey]):
    """A public key file, read while options are parsed."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PublicKey:
        """Read the key."""
        if not value:
            self.fail("expected a public key file, received an empty name", param, ctx)
        return value if isinstance(value, PublicKey) else PublicKey.read(value)


class SigningKeyFile(click.ParamType["SigningKey"]):
    """A private key file for signing, read while options are parsed."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SigningKey:
        """Read the key."""
        from lcve_deploy.keys.signing import SigningKey

        return value if isinstance(value, SigningKey) else SigningKey.read(value)


class SealingPublicKeyFile(click.ParamType[SealingPublicKey]):
    """A public sealing key file, read before any work begins."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SealingPublicKey:
        """Read the key."""
        return value if isinstance(value, SealingPublicKey) else SealingPublicKey.read(value)


class SealingKeyFile(click.ParamType[SealingKey]):
    """A private sealing key file, read before any work begins."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SealingKey:
        """Read the key."""
        return value if isinstance(value, SealingKey) else SealingKey.read(value)
