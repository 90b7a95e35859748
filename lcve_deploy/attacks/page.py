"""Render an audit report as one HTML page with embedded pictures and no external resources."""

from __future__ import annotations

import base64
import importlib.resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import HELD
from lcve_deploy.attacks.report import AuditReport
from lcve_deploy.attacks.running import AttackResult

__all__ = ["CAUTION", "render_page"]

CAUTION: Final = (
    "If an attack fails here, this shows only that this attack fails. Every attack must first solve a planted case; "
    "if it does not, it is reported as not working, never as safety."
)


def render_page(report: AuditReport) -> str:
    """Render the page; file names and other external text are escaped."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"picture": _picture, "percent": lambda share: f"{share:.1%}"}
    source = importlib.resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    template = environment.from_string(source)
    return template.render(report=report, orders=report.orders, needs=_needs, caution=CAUTION, points=_points)


def _needs(result: AttackResult) -> str:
    return ", ".join(HELD[name] for name in result.attack.needs)


def _points(result: AttackResult, name: str, width: int, height: int) -> list[tuple[float, float]]:
    """Return the points of a curve in a picture of this size, in pixels; levels are evenly spaced."""
    last = max(len(result.curve) - 1, 1)
    return [
        (round(i * width / last, 1), round((1 - scores.get(name, 0.0)) * height, 1))
        for i, (_, scores) in enumerate(result.curve)
    ]


def _picture(pixels: npt.NDArray[np.uint8] | None) -> Any:
    """Return a picture as a data URL; None if there is none."""
    from lcve_deploy.video import encode_png

    return None if pixels is None else "data:image/png;base64," + base64.b64encode(encode_png(pixels)).decode()
