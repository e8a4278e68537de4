"""Columns of a table on a narrow terminal: how wide they are, so that no word is broken, and the lines of each cell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

if TYPE_CHECKING:
    from collections.abc import Sequence

_PARTS: Final = re.compile(r"(?<=[-/.,=&])(?=\w)")
"""Where a word may be broken if it must be: behind a hyphen and the like."""


def column_widths(
    columns: Sequence[Sequence[str]], whole: Sequence[bool], available: int, *, parts: bool
) -> list[int] | None:
    """The width of each column, or None where they do not fit beside each other.

    Args:
        columns: the cells of each, with its head.
        whole: which columns have no line breaks at all.
        available: characters for all of them, without what is between them.
        parts: whether words may be broken behind a hyphen and the like.
    """
    chosen = [max(map(cell_len, cells)) for cells in columns]
    least = [
        width if is_whole else max(_longest(cell, parts=parts) for cell in cells)
        for cells, is_whole, width in zip(columns, whole, chosen, strict=True)
    ]
    for _ in range(sum(chosen) - available):
        at = max(range(len(chosen)), key=lambda index: chosen[index] - least[index])
        if chosen[at] == least[at]:
            return None
        chosen[at] -= 1
    return chosen


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of this width. A word is broken only where it is wider than that."""
    if cell_len(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        pieces = [word] if cell_len(word) <= width else _PARTS.split(word)
        space = " " if lines[-1] else ""
        for piece in pieces:
            if lines[-1] and cell_len(lines[-1] + space + piece) > width:
                lines.append(piece)
            else:
                lines[-1] += space + piece
            space = ""
    return lines


def _longest(cell: str, *, parts: bool) -> int:
    words = _PARTS.split(cell) if parts else [cell]
    return max((cell_len(word) for part in words for word in part.split()), default=0)
