"""``docs/reference/models.md``: every class of transformers for images or videos, with what this package does with it.

    python -m tests.pages.models_page

The classes are those of transformers' own lists; the reasons are those of ``refusal_table``. A test compares the page
with both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lcve_deploy.exporters.checkpoints.folders import Output
from lcve_deploy.exporters.checkpoints.huggingface import FAMILIES
from lcve_deploy.exporters.checkpoints.refusal_table import Reason, reason_for

__all__ = ["PAGE", "Listed", "classes", "render", "stated_version"]

PAGE: Final = Path(__file__).parents[2] / "docs/reference/models.md"

_LISTS: Final = re.compile(
    r"MODEL_FOR_(VIDEO|IMAGE_(?!TEXT)|ZERO_SHOT_(IMAGE|OBJECT)|MASKED_IMAGE|BACKBONE|DEPTH|OBJECT|SEMANTIC|INSTANCE|"
    r"UNIVERSAL|KEYPOINT|MASK_GENERATION|NORMAL|POINTMAP|POSE).*_MAPPING_NAMES"
)
_TOWERS: Final = re.compile(r"\w+_vision(_model)?|\w*video\w*|xclip|vjepa2")
"""Model types of ``MODEL_MAPPING_NAMES`` that read images or videos and may be missing in the other lists."""

_INTRODUCTION: Final = """<!-- made by python -m tests.pages.models_page; do not edit -->
# Models of transformers

This page lists every class for images or videos in the lists of transformers {version}, and what this package does with
a folder of such a model. `config.json` decides: its `model_type`, and the class in `architectures`.
[Checkpoints](checkpoints.md) explains the formats, and [what can be exact](checkpoints.md#what-can-be-exact) why some
models cannot be exported.

- **logits**, **features**: read; the output of the exported model.
- **could be exact**: by its structure; not read by this version.
- **only a restricted key could be exact**: not read by this version.
- **cannot be exact**: no version can read it.
- **depends on its architecture**: some are read.
- **another task**: it is neither a classifier nor an encoder.
- **not examined**: not read, and nobody has checked whether it could be exact."""

_READ: Final = {Output.LOGITS: "logits"}


class Listed(NamedTuple):
    """A class of transformers."""

    model_type: str
    name: str


def classes() -> list[Listed]:
    """Return every class for images or videos, and the towers of larger models, by model type and name."""
    from transformers.models.auto import modeling_auto

    found = set()
    for name, models in vars(modeling_auto).items():
        if _LISTS.fullmatch(name):
            found |= {Listed(kind, each) for kind, names in models.items() for each in _each(names)}
    towers = modeling_auto.MODEL_MAPPING_NAMES.items()
    found |= {Listed(kind, each) for kind, names in towers if _TOWERS.fullmatch(kind) for each in _each(names)}
    found |= {Listed(kind, name) for kind, family in FAMILIES.items() for name in family.architectures}
    return sorted(found)


def _each(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def render() -> str:
    """Return the whole page, as Markdown."""
    from transformers import __version__

    listed = classes()
    refused = {one: reason for one in listed if (reason := _reason(one))}
    reasons = list(dict.fromkeys(refused.values()))
    parts = [
        _INTRODUCTION.format(version=__version__),
        "## Classes",
        "\n".join(_rows(listed, refused, reasons)),
        "## Reasons",
        "\n".join(f"{number}. {reason.text[0].upper()}{reason.text[1:]}." for number, reason in enumerate(reasons, 1)),
    ]
    return "\n\n".join(parts) + "\n"


def _reason(one: Listed) -> Reason | None:
    """Return why a class is not read; None if it is."""
    family = FAMILIES.get(one.model_type)
    if family and one.name in family.architectures:
        return None
    return reason_for(one.model_type, one.name, is_read=family is not None)


def _rows(listed: list[Listed], refused: dict[Listed, Reason], reasons: list[Reason]) -> Iterator[str]:
    yield "| model type | class | status | reason |"
    yield "|---|---|---|---|"
    for one in listed:
        reason = refused.get(one)
        if reason is None:
            output = FAMILIES[one.model_type].architectures[one.name].output
            yield f"| `{one.model_type}` | `{one.name}` | **{_READ.get(output, 'features')}** | |"
        else:
            yield f"| `{one.model_type}` | `{one.name}` | {reason.status} | {reasons.index(reason) + 1} |"


def stated_version() -> str | None:
    """Return the version of transformers that the page is made for."""
    found = re.search(r"lists of transformers (\S+),", PAGE.read_text(encoding="utf-8"))
    return found and found[1]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
