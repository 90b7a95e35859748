"""``lcve keygen``: create a key file or a key pair for signing."""

from __future__ import annotations

from pathlib import Path

import click
import cloup

from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.options.types import PATH
from lcve_deploy.cli.show import print_json, say

__all__ = ["command"]


@lcve_command(
    "lcve keygen -o key.bin",
    "lcve keygen --from key.bin --name camera-7 -o camera-7.bin",
    "lcve keygen --signing -o signing.pem",
    "lcve keygen --sealing -o serve.key",
)
@cloup.option("-o", "--output", type=PATH, required=True, metavar="FILE", help="Key file to create.")
@cloup.option_group(
    "Derived key",
    cloup.option("--from", "master", type=PATH, metavar="FILE", help="Key file to derive the new key from."),
    cloup.option("--name", metavar="NAME", help="Name of the derived key, such as camera-7."),
)
@cloup.option_group(
    "Signing",
    cloup.option(
        "--signing", is_flag=True, help="Create a key pair for signing: FILE, and the public key next to it, as .pub."
    ),
)
@cloup.option_group(
    "Sealing",
    cloup.option(
        "--sealing", is_flag=True, help="Create a key pair for sealing: FILE, and the public key next to it, as .pub."
    ),
    cloup.option("--hybrid", is_flag=True, help="With --sealing: ML-KEM-768 and X25519 instead of X25519 alone."),
)
@as_json
def command(
    output: Path, master: Path | None, name: str | None, signing: bool, sealing: bool, hybrid: bool, as_json: bool
) -> None:
    """Create a key file, derive one for a camera or client, or create a key pair for signing artifacts or for sealing.

    Only the holder of a private sealing key can read what is sealed to the public one. An existing file is never
    overwritten.
    """
    if signing and sealing:
        raise click.UsageError("--signing and --sealing create different key pairs: pass one of them")
    if (signing or sealing) and (master or name):
        pair = "--signing" if signing else "--sealing"
        raise click.UsageError(f"{pair} creates a new key pair and cannot be used with --from or --name")
    if hybrid and not sealing:
        raise click.UsageError("--hybrid is only for --sealing")
    if (master is None) != (name is None):
        raise click.UsageError("--from and --name must be used together")
    if signing:
        _create_signing_key(output, as_json=as_json)
    elif sealing:
        _create_sealing_key(output, hybrid=hybrid, as_json=as_json)
    else:
        _create_key(output, master, name or "", as_json=as_json)


def _create_key(output: Path, master: Path | None, name: str, *, as_json: bool) -> None:
    from lcve_deploy.keys.secret import SecurityKey

    key = SecurityKey.create() if master is None else SecurityKey.read(master).derive(name)
    key.write(output)
    if as_json:
        print_json({"output": str(output), "key_id": key.key_id})
        return
    say(f"{output}: key id {key.key_id}")


def _create_signing_key(output: Path, *, as_json: bool) -> None:
    from lcve_deploy.keys.signing import SigningKey, public_path

    key = SigningKey.create()
    key.write(output)
    public, fingerprint = public_path(output), key.public_key.fingerprint
    if as_json:
        print_json({"output": str(output), "public_key": str(public), "sha256": fingerprint})
        return
    say(f"{output}: private, stays with the owner")
    say(f"{public}: public, for everyone who pins it; SHA-256 {fingerprint}")


def _create_sealing_key(output: Path, *, hybrid: bool, as_json: bool) -> None:
    from lcve_deploy.sealing import SealingKey, Suite

    key = SealingKey.create(Suite.HYBRID if hybrid else Suite.X25519)
    key.write(output)
    public, fingerprint = output.with_suffix(".pub"), key.public_key.fingerprint
    if as_json:
        fields = {"output": str(output), "public_key": str(public), "suite": key.suite.value, "sha256": fingerprint}
        print_json(fields)
        return
    say(f"{output}: private, opens what is sealed; suite {key.suite}")
    say(f"{public}: public, to seal to; SHA-256 {fingerprint}")
