"""Pages and the text of the package keep to the words of the house; see prose."""

from __future__ import annotations

import pytest

from tests import prose


def test_pages_and_text_of_the_package_use_the_words_of_the_house() -> None:
    """If this fails: ``python -m tests.prose`` lists the findings."""
    assert {name: lines for name, lines in prose.findings().items() if name not in prose.ALLOWED} == {}


def test_the_list_of_files_that_may_have_such_words_only_shrinks() -> None:
    """A file without findings must leave ``tests/prose_allowed.txt``: ``python -m tests.prose --shrink``."""
    assert set(prose.ALLOWED) <= set(prose.findings())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Whoever asks", ["whoever"]),
        ("it does\nnot", []),
        ("The folder does not hold.", ["does not hold"]),
        ("beside the file, and besides", ["beside", "besides"]),
        ("`room` and ``floor``\n\n```\nhe\n```\n[x](beside.md)", []),
        ("the header, the cache, others", []),
        ("He's", ["he"]),
    ],
)
def test_words_are_found_in_prose_and_not_in_code(text: str, found: list[str]) -> None:
    assert [finding.split("'")[1].lower() for finding in prose.words(prose.in_markdown(text))] == found


def test_strings_and_comments_of_a_module_are_looked_at_on_their_lines() -> None:
    source = '"""Doc.\n\nIn a room.\n"""\nhe = 1  # whoever\nraise ValueError(f"{he} does not hold")\n'
    assert [finding.split(", ")[0] for finding in prose.words(prose.in_python(source))] == [
        "3: 'room'",
        "5: 'whoever'",
        "6: 'does not hold'",
    ]
