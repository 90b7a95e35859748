"""README and the pages of docs, followed word by word from a fresh clone: every block of code is run, or says why not.

``tests/pages/blocks.py`` lists the marks by which a page says how a block is run, ``tests/pages/output.py`` how what is
printed is compared with what the page says, and ``tests/pages/terminal.py`` what the terminal is like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pages.blocks import Block, Mode, PageError, read_page
from tests.pages.output import matches
from tests.pages.terminal import REPOSITORY, Terminal, terminal

PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("owner", "operator", "edge")),
)
"""In the order in which they are followed: later pages work with what earlier ones made."""

CLONE = "lcve-deploy"

pytestmark = pytest.mark.xdist_group("pages")


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What came of following all pages.

    Args:
        terminal: the terminal, still open.
        problems: of every page, one text for each block that failed or printed something else.
        later: slow blocks that have not run yet, each with the folder where it runs.
    """

    terminal: Terminal
    problems: dict[str, list[str]]
    later: list[tuple[Block, Path]]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    root, state = tmp_path_factory.mktemp("stranger"), tmp_path_factory.mktemp("terminal")
    (state / "gitconfig").write_text("[safe]\n\tdirectory = *\n")  # a clone of a checkout that is another user's
    environment = {"REPOSITORY": str(REPOSITORY), "PYTHONPATH": str(REPOSITORY)}
    environment |= {"GIT_CONFIG_GLOBAL": str(state / "gitconfig")}
    with terminal(state, environment) as opened:
        result = Followed(terminal=opened, problems={name: [] for name in PAGES}, later=[])
        for name in PAGES:
            _follow(name, root, result)
        yield result


def _follow(name: str, root: Path, result: Followed) -> None:
    """Run what a page asks for, up to its first failure."""
    try:
        page = read_page(REPOSITORY / name, name)
        result.terminal.go_to(root if name == PAGES[0] else root / CLONE / page.start)
        for block in page.blocks:
            _do(block, result)
    except (AssertionError, PageError) as error:
        result.problems[name].append(str(error))


def _do(block: Block, result: Followed) -> None:
    match block.mode:
        case Mode.SLOW:
            result.later.append((block, result.terminal.folder))
        case Mode.SAVE:
            (result.terminal.folder / block.detail).write_text(block.text)
        case Mode.RUN:
            _compare(block, result.terminal.run(block))
        case Mode.BACKGROUND:
            _compare(block, result.terminal.start(block))
        case Mode.SKIP:
            pass


def _compare(block: Block, printed: str) -> None:
    if block.expected is not None and not matches(block.expected, printed):
        raise AssertionError(f"{block} should print\n{block.expected}\nand printed\n{printed}")


@pytest.mark.parametrize("name", PAGES)
def test_a_stranger_can_follow_the_page(name: str, followed: Followed) -> None:
    assert not followed.problems[name], "\n".join(followed.problems[name])


@pytest.mark.slow
def test_a_stranger_can_run_the_slow_blocks_too(followed: Followed) -> None:
    assert not any(followed.problems.values())
    for block, folder in followed.later:
        followed.terminal.go_to(folder)
        _compare(block, followed.terminal.run(block))
    assert followed.later
