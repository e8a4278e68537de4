"""Text in the cells of a CSV file, so that a spreadsheet shows it and does not calculate with it."""

from __future__ import annotations

import re
from typing import Final

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
"""What a spreadsheet takes for a formula, and what `escaped` has made of it."""


def escaped(text: str) -> str:
    """The text with an apostrophe in front, where a spreadsheet would take it for a formula (OWASP: CSV injection)."""
    return f"'{text}" if _FORMULA.match(text) else text


def unescaped(text: str) -> str:
    """The text that `escaped` was given."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text
