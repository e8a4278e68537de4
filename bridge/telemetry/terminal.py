"""Text that somebody else wrote, made harmless for a terminal: it is shown, and steers nothing."""

from __future__ import annotations

import re
from typing import Final

_SHOWN_AS: Final = "?"

_STEERING: Final = re.compile(
    "["
    "\x00-\x08\x0b-\x1f"  # C0 with the escape character; but new lines and tabs
    "\x7f-\x9f"  # DEL and C1, which some terminals obey as they do escape sequences
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the marks that turn the direction of text
    "\u2028\u2029"  # separators of lines and paragraphs
    "\ud800-\udfff"  # lone surrogates, which cannot be written at all
    "]"
)
_BREAKS: Final = str.maketrans("\n\t", "  ")


def clean(text: str) -> str:
    """This text without what steers a terminal; its new lines and tabs stay."""
    if text.isprintable():
        return text
    return _STEERING.sub(_SHOWN_AS, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The same in one line, for a field of a line or of a table."""
    return text if text.isprintable() else clean(text).translate(_BREAKS)


def escaped(document: str) -> str:
    """JSON that says the same, with each character that steers written as an escape. JSON's own writers leave some."""
    if document.isprintable():
        return document
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
