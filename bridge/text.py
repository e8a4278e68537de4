"""Text of errors and of other programs as one line, for logs, headers and people."""

from __future__ import annotations


def collapse(text: str) -> str:
    """The text as one line: line breaks, tabs and repeated spaces become one space each."""
    return " ".join(text.split())


def error_line(error: BaseException) -> str:
    """The text of an error as one line; the name of its class if it has none."""
    return collapse(str(error)) or type(error).__name__


def first_line(text: object) -> str:
    """The first line of a text: in a database driver's message the lines after it quote rows and statements."""
    return next(iter(str(text).splitlines()), "")
