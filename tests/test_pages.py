"""README and the pages of docs, followed word by word from a fresh clone: every block of code is run, or says why not.

``tests/pages/blocks.py`` lists the marks by which a page says how a block is run, ``tests/pages/output.py`` how what is
printed is compared with what the page says, and ``tests/pages/terminal.py`` what the terminal is like.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pages import cli_page
from tests.pages.blocks import Block, Mode, Page, PageError, read_page
from tests.pages.output import matches
from tests.pages.terminal import REPOSITORY, BlockError, Terminal, terminal

PAGES = (
    "README.md",
    *(f"docs/guides/{name}.md" for name in ("web", "python", "fleet", "rotation", "signing", "sealing", "audit")),
    *(f"docs/guides/{name}.md" for name in ("owner", "operator", "edge", "wire")),
    *(f"docs/guides/{name}.md" for name in ("serving", "triton", "kubernetes", "features", "engines")),
    *(f"docs/reference/{name}.md" for name in ("parity", "format")),
    *("docs/guides/batches.md", "docs/guides/images.md", "docs/guides/install.md", "docs/evidence/fuzzing.md"),
    *("CONTRIBUTING.md", "paper/README.md"),
)
"""In the order in which they are followed: later pages work with what earlier ones made."""

WRITTEN_BY_SCRIPTS = {
    "docs/reference/cli.md": "its blocks are the examples of the help; the guides run their like",
    "docs/evidence/families.md": "its command runs for an hour; tests/test_families_figures.py checks the page",
    "docs/evidence/fleet.md": "its commands run for minutes; tests/test_fleet.py checks the page",
    "docs/evidence/gpu.md": "its command needs a GPU; tests/test_benchmarks.py checks the page",
    "docs/evidence/mutants.md": "its command runs the tests on every mutation, for an hour",
    "docs/evidence/paper.md": "its commands train for an hour; tests/test_paper_page.py checks the page",
}
"""Pages that a script writes, with commands that are not run, and why."""

STARTED = ("README.md",)
"""Pages of which every command starts Python; for those of the others a process with most libraries is forked."""

CLONE = "lcve-deploy"
README_WORDS = 1200
"""What the README may have at most: it is read in one go."""

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
    if not (REPOSITORY / ".git").exists():
        pytest.skip("the pages begin with a clone, and this is an unpacked source distribution")
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
        start = root if name == PAGES[0] else root / CLONE / page.start
        result.terminal.go_to(start, forked=name not in STARTED)
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


def _pages() -> list[Path]:
    """All Markdown pages of README, docs and the folders beside the package."""
    return [
        path
        for glob in ("*.md", "docs/**/*.md", "*/README.md", "clients/*/README.md")
        for path in sorted(REPOSITORY.glob(glob))
    ]


def test_every_page_is_followed_or_says_why_not() -> None:
    pages = {path.relative_to(REPOSITORY).as_posix() for path in _pages()}
    with_blocks = {name for name in pages if read_page(REPOSITORY / name, name).blocks}
    assert with_blocks | {*WRITTEN_BY_SCRIPTS} == {*PAGES, *WRITTEN_BY_SCRIPTS}


def _anchors(path: Path) -> set[str]:
    """Of the headings of a page, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").split()) <= README_WORDS


def test_paths_in_the_map_of_the_readme_exist() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    block = text.split("## What is in this repository")[1].split("```")[1]
    lines = [line for line in block.splitlines() if line]
    assert len(lines) > 8
    for line in lines:
        folder = REPOSITORY / "lcve_deploy" if line.startswith(" ") else REPOSITORY
        for name in re.findall(r"(?:^ *|\s)([a-z_]+(?:/|\.py|\.toml)|Dockerfile)(?=\s|$)", line):
            assert (folder / name).exists(), line


def test_the_layers_of_the_architecture_page_are_those_of_the_contract() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = [contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers"]
    expected = {
        (number, module.strip().removeprefix("lcve_deploy."))
        for number, layer in enumerate(reversed(layers), start=1)
        for module in layer.split("|")
    }
    text = (REPOSITORY / "docs/contributing/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)
    assert {(int(number), module) for number, module in rows} == expected
    assert all(contract["name"] in text for contract in settings["contracts"])


def test_the_page_of_commands_is_made_from_the_commands() -> None:
    """If this fails: ``python -m tests.pages.cli_page``."""
    assert cli_page.PAGE.read_text(encoding="utf-8") == cli_page.render()


def test_links_between_pages_lead_somewhere() -> None:
    for page in _pages():
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if ":" in target:
                continue
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            assert path.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in _anchors(path), f"{page.name}: {target}"


PAGE = """# A page

<!-- test: start in a/b -->

```bash
lcve keygen -o key.bin
```

It prints:

```text
key.bin: key id 00ff
```

<!-- test: skip, it needs a GPU -->
```bash
make gpu
```

```
server/
  model.onnx
```
"""


def read(tmp_path: Path, text: str) -> Page:
    (tmp_path / "page.md").write_text(text)
    return read_page(tmp_path / "page.md", "page.md")


def test_blocks_are_found_with_their_marks_and_outputs(tmp_path: Path) -> None:
    page = read(tmp_path, PAGE)
    assert page.start == "a/b"
    found = [(block.line, block.mode, block.text, block.expected, block.detail) for block in page.blocks]
    assert found == [
        (5, Mode.RUN, "lcve keygen -o key.bin\n", "key.bin: key id 00ff\n", ""),
        (16, Mode.SKIP, "make gpu\n", None, "it needs a GPU"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("skip, it needs a GPU", "skip", "needs a reason"),
        ("skip, it needs a GPU", "skip, slow", "needs a reason"),
        ("skip, it needs a GPU", "later", "received 'later'"),
        ("it needs a GPU -->\n", "it needs a GPU -->\n\n", "stands above no block"),
        ("```bash\nlcve", "```sh\nlcve", "received 'sh'"),
        ("```bash\nlcve", "```\nlcve", "make it bash"),
        ("```bash\nlcve", "```text\nlcve", "make it bash"),
        ("```bash\nlcve keygen -o key.bin\n```", "  ```bash\n  lcve keygen -o key.bin\n  ```", "start of a line"),
    ],
)
def test_a_block_that_would_be_passed_over_is_an_error(tmp_path: Path, before: str, after: str, problem: str) -> None:
    assert before in PAGE
    with pytest.raises(PageError, match=problem):
        read(tmp_path, PAGE.replace(before, after))


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("key id 80ba603d9e6d0217", "key id f2a21c4872323012", True),
        ("max 3.76e-06  (tolerance 6.77e-04)", "max  1e-7 (tolerance 1.0)", True),
        (" 99.69%  circles", " 12%  circles", True),
        (" 99.69%  circles", " 99.69%  grows", False),
        ("parity: ok", "parity: FAILED", False),
        ("one\n...\nfour", "one\ntwo\nthree\nfour", True),
        ("one\n...", "one", True),
        ("one", "one\ntwo", False),
        ("one\ntwo", "one", False),
        ("kept: ...", "kept: openvino-fp32", True),
        ("kept: ...", "lost: openvino-fp32", False),
        ("", "something", False),
    ],
)
def test_output_is_compared_but_for_what_varies(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


def test_a_page_that_promises_something_else_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    block = read(tmp_path, "```bash\ncd /\necho one\n```\n\n```text\ntwo\n```\n").blocks[0]
    with terminal(tmp_path / "state", {}) as opened:
        opened.go_to(tmp_path)
        with pytest.raises(AssertionError, match="should print\ntwo"):
            _compare(block, opened.run(block))
        assert opened.folder == Path("/")
        failing = read(tmp_path, "```bash\nfalse\necho on\n```\n").blocks[0]
        with pytest.raises(BlockError, match="ended with 1"):
            opened.run(failing)


@pytest.mark.slow
def test_a_stranger_can_run_the_slow_blocks_too(followed: Followed) -> None:
    assert not any(followed.problems.values())
    for block, folder in followed.later:
        followed.terminal.go_to(folder, forked=block.page not in STARTED)
        _compare(block, followed.terminal.run(block))
    assert followed.later
