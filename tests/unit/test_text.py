"""One line out of any text."""

from __future__ import annotations

import pytest

from bridge.text import collapse, error_line


@pytest.mark.parametrize("text", ["a b", "  a\n b ", "a\r\n\tb", "a\u2028b"])
def test_breaks_and_repeated_spaces_become_one_space(text: str) -> None:
    """The text stays readable, and is one line."""
    assert collapse(text) == "a b"


def test_an_error_without_a_text_is_named_by_its_class() -> None:
    """`TimeoutError()` has no text of its own."""
    assert error_line(TimeoutError()) == "TimeoutError"
    assert error_line(OSError("no\nroute")) == "no route"
