"""Makes untrusted text safe for a terminal: control characters are replaced."""

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
    """The text with control characters replaced. New lines and tabs stay."""
    if text.isprintable():
        return text
    return _STEERING.sub(_SHOWN_AS, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The same as one line, for a field of a line or of a table."""
    return text if text.isprintable() else clean(text).translate(_BREAKS)


def escaped(document: str) -> str:
    """The same JSON with every control character escaped. JSON encoders leave some unescaped."""
    if document.isprintable():
        return document
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
