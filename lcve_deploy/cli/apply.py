"""``lcve apply``: add keys from the owner to a model folder, or remove one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from lcve_deploy.artifact.names import KEY_MANIFEST
from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.options.signing import signed_by_option
from lcve_deploy.cli.options.types import PATH
from lcve_deploy.cli.progress import StageProgress
from lcve_deploy.cli.show import print_json, print_signature, say, signature_state

if TYPE_CHECKING:
    from lcve_deploy.artifact import PublicKey
    from lcve_deploy.verbs.apply import AddedKey

__all__ = ["command"]

_SERVER = "server"


@lcve_command(
    "lcve apply server camera-7/server",
    "lcve apply server rotated/server --name main-2 --replace main",
    "lcve apply server enrolled/*/server",
)
@cloup.argument("server", type=PATH, metavar="DIR", help="server/ of an artifact: the model folder.")
@cloup.argument(
    "key_folders", type=PATH, nargs=-1, required=True, metavar="KEYFOLDER...", help="Key folders from the owner."
)
@cloup.option(
    "--name",
    metavar="NAME",
    help="Name in DIR/keys, for one key folder.  [default: that of KEYFOLDER, or if this is server, of its parent]",
)
@cloup.option("--replace", metavar="OLD", help="Then remove the key folder OLD from DIR/keys.")
@signed_by_option
@as_json
def command(
    server: Path,
    key_folders: tuple[Path, ...],
    name: str | None,
    replace: str | None,
    signed_by: PublicKey | None,
    as_json: bool,
) -> None:
    """Add key folders to a model folder, after the model has answered the probe of each. Needs no key.

    Servers that run the model use the new keys without a restart. Model and engines do not change. With --replace,
    clips under the old key are refused from then on; without it, both keys can be used. To remove a key, delete its
    folder.
    """
    from lcve_deploy.verbs.apply import add_keys, remove_key, require_key

    folders = _named(key_folders, name)
    if replace is not None:
        if len(folders) > 1:
            raise click.UsageError("--replace is for one key folder")
        require_key(server, replace)
    added = add_keys(server, folders, signed_by=signed_by, progress=StageProgress())
    if replace is not None:
        remove_key(server, replace)
    signature = signature_state(server, signed_by)
    if as_json:
        print_json({"signature": signature, "keys": [key.to_json() for key in added], "removed": replace})
        return
    print_signature(signature)
    for key in added:
        say(_line(key))
    if replace is not None:
        say(f"{replace}: removed")


def _named(folders: tuple[Path, ...], name: str | None) -> dict[str, Path]:
    """Return the key folders by their names in ``keys/``."""
    if name is not None:
        if len(folders) > 1:
            raise click.UsageError("--name is for one key folder; each of several has its own name")
        return {name: _inner(folders[0])}
    named: dict[str, Path] = {}
    for folder in folders:
        absolute = _inner(folder).absolute()
        own = absolute.parent.name if absolute.name == _SERVER else absolute.name
        if own in named:
            raise click.UsageError(f"two key folders are called {own}; add them one after the other, with --name")
        named[own] = _inner(folder)
    return named


def _inner(folder: Path) -> Path:
    """Return the key folder in the folder of an enrolled key, or the folder itself."""
    return folder / _SERVER if (folder / _SERVER / KEY_MANIFEST).is_file() else folder


def _line(key: AddedKey) -> str:
    if key.probe is None:
        return f"{key.name}: was added before"
    return (
        f"{key.name}: ok, max |Δlogit| {key.probe.max_difference:.2e} (tolerance {key.probe.tolerance:.2e}), key id "
        f"{key.key.key_id}"
    )
