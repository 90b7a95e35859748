"""``lcve keyspace``: count the possible orders of a geometry, and state what limits their strength."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click
import cloup

from lcve_deploy.artifact import read_client, read_manifest
from lcve_deploy.cli.command import command as lcve_command
from lcve_deploy.cli.options.common import as_json
from lcve_deploy.cli.show import print_json
from lcve_deploy.errors import LcveError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.keyspace import BOUNDS, KeySpace, key_spaces

__all__ = ["command"]

_PAPER_GEOMETRY: Final = "16x224x224x3/2x16x16"
_WIDTH: Final = 110
_SEE: Final = "docs/evidence/security.md"


class _Geometry(click.ParamType[ClipGeometry]):
    """``TxHxWxC/txhxw``, or an artifact of that geometry."""

    name = "geometry"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ClipGeometry:
        """Read the geometry."""
        if isinstance(value, ClipGeometry):
            return value
        if value and Path(value).is_dir():
            return _of_artifact(Path(value))
        try:
            return ClipGeometry.parse(value)
        except ValueError as error:
            self.fail(f"{error}; the folder of an artifact is accepted too", param, ctx)


def _of_artifact(folder: Path) -> ClipGeometry:
    for side in (folder, folder / "server", folder / "client"):
        if (side / "manifest.json").is_file():
            return read_manifest(side).model.geometry
        if (side / "client.json").is_file():
            return read_client(side).settings.binding.geometry
    raise LcveError(
        f"{folder} is not an artifact: expected a folder with server/ or client/, or one of these two folders"
    )


@lcve_command("lcve keyspace 16x224x224x3/2x16x16", "lcve keyspace service --json")
@cloup.argument(
    "geometry",
    type=_Geometry(),
    default=_PAPER_GEOMETRY,
    help=f"TxHxWxC/txhxw, or an artifact.  [default: {_PAPER_GEOMETRY}]",
)
@as_json
def command(geometry: ClipGeometry, as_json: bool) -> None:
    """Count the possible orders of LCVE and of other methods, and state what limits their strength.

    The size of a key space does not measure its strength.
    """
    spaces = key_spaces(geometry)
    if as_json:
        print_json(_to_json(geometry, spaces))
    else:
        _print(geometry, spaces)


def _to_json(geometry: ClipGeometry, spaces: tuple[KeySpace, ...]) -> dict[str, Any]:
    return {
        "geometry": str(geometry),
        "methods": [_row_to_json(space) for space in spaces],
        "bounds": {bound.name: {"text": bound.text, **bound.figures} for bound in BOUNDS},
        "see": _SEE,
    }


def _row_to_json(space: KeySpace) -> dict[str, Any]:
    size = space.size
    return {
        "method": space.method,
        "level": space.level,
        "order": space.formula,
        "numbers": space.numbers or None,
        "mantissa": size and size.mantissa,
        "exponent": size and size.exponent,
        "bits": size and size.bits,
        "key_file_bits": space.key_file_bits,
        "known_clip": space.known_clip if size else None,
        "chosen_clips": space.chosen_clips,
        "remark": space.remark or None,
    }


def _print(geometry: ClipGeometry, spaces: tuple[KeySpace, ...]) -> None:
    (_, rows, columns), (_, height, width) = geometry.grid, geometry.cube
    frame = f"N_p = {rows * columns}, hwC = {height * width * geometry.channels}"
    click.echo(f"{geometry}: {frame}; N_c = {geometry.cubes}, thwC = {geometry.values}\n")
    head = ("method", "level", "orders", "here", "size", "bits", "key file", "chosen clips")
    click.secho(_columns(head), bold=True)
    for space in spaces:
        click.echo(_line(space))
    for space in spaces:
        if space.size and space.remark:
            click.echo(f"{space.method}, {space.level}: {space.remark}")
    click.echo("\nThe size of a key space does not measure its strength. What limits it:\n")
    for bound in BOUNDS:
        click.echo(click.wrap_text(f"{bound.title}. {bound.text}", _WIDTH, "- ", "  "))
    click.echo(f"\nSee {_SEE}; an attack that is not listed may do better.")


def _line(space: KeySpace) -> str:
    start = (space.method, space.level, space.formula)
    if space.size is None:
        return _columns((*start, f"none: {space.remark}"))
    bits, key_file = f"{space.size.bits:.1f}", f"{space.key_file_bits:.1f}"
    return _columns((*start, space.numbers, str(space.size), bits, key_file, str(space.chosen_clips)))


_WIDTHS: Final = (-15, -7, -20, -18, -15, 10, 10, 14)
"""Widths of the columns; a negative width means left-aligned."""


def _columns(cells: tuple[str, ...]) -> str:
    aligned = (f"{cell:{'<' if width < 0 else '>'}{abs(width)}}" for cell, width in zip(cells, _WIDTHS, strict=False))
    return "".join(aligned).rstrip()
