"""Lists: a table on a terminal, lines with tabs in a pipe, and one JSON document, of one shape, for programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.table import Table
from rich.text import Text

from bridge.cli.columns import column_widths, wrap
from bridge.cli.console import json_text, on_terminal, say_beside, terminal, write_json
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_TERMINAL_ROWS: Final = 100
"""Rows of a table on a terminal, unless `--limit` says how many. Output for programs is not limited."""

_BETWEEN: Final = 3
"""Characters between two cells: two blanks and a line."""
_EDGES: Final = 4
"""Characters of both edges of a table."""
_INDENT: Final = 2

_BEGUN: Final = '{"items": ['


class Head(NamedTuple):
    """Of a column."""

    name: str
    whole: bool = False
    """It has ids, addresses or names, which people copy: none is broken or shortened."""
    narrowest: int = 0
    """Characters that it has at least: so that a time breaks between day and clock."""


class Cell(NamedTuple):
    """What people and programs read differently."""

    shown: str
    exact: str | int


class Sheet:
    """Rows for people: a table when all are there; where it is no terminal, a line each, as they come."""

    def __init__(self, *heads: Head | str) -> None:
        self._heads = [Head(head) if isinstance(head, str) else head for head in heads]
        self._rows: list[list[str]] | None = [] if on_terminal() else None
        self._is_begun = False

    def add(self, *cells: str | int | Cell) -> None:
        if self._rows is not None:
            self._rows.append([one_line(_for_people(cell)) for cell in cells])
            return
        self._begin()
        _write_line(one_line(_for_programs(cell)) for cell in cells)

    def end(self) -> None:
        """There are no more. A table without any is not shown; lines have their heads in any case."""
        if self._rows is None:
            self._begin()
        elif self._rows and (table := self._table(self._rows)):
            terminal.print(table)
        else:
            self._print_records(self._rows)

    def _begin(self) -> None:
        if not self._is_begun:
            self._is_begun = True
            _write_line(head.name for head in self._heads)

    def _table(self, rows: list[list[str]]) -> Table | None:
        """None where not even the longest words fit beside each other."""
        for parts, edges in ((False, True), (False, False), (True, False)):
            between = _BETWEEN * (len(self._heads) - 1) + (_EDGES if edges else 0)
            if chosen := self._widths(rows, terminal.width - between, parts=parts):
                return self._table_of(rows, chosen, edges=edges)
        return None

    def _widths(self, rows: list[list[str]], available: int, *, parts: bool) -> list[int] | None:
        columns = [
            [head.name, " " * head.narrowest, *(row[at] for row in rows)]
            for at, head in enumerate(self._heads)
        ]
        return column_widths(columns, [head.whole for head in self._heads], available, parts=parts)

    def _table_of(self, rows: list[list[str]], chosen: list[int], *, edges: bool) -> Table:
        table = Table(show_edge=edges, pad_edge=edges)
        for head, width in zip(self._heads, chosen, strict=True):
            table.add_column(head.name, no_wrap=True, width=width)
        for row in rows:
            table.add_row(*map(_wrapped, row, chosen))
        return table

    def _print_records(self, rows: list[list[str]]) -> None:
        """Each row as lines. What people copy is left to the terminal's own way of breaking lines."""
        width = max(len(head.name) for head in self._heads) + _INDENT
        for row in rows:
            for head, cell in zip(self._heads, row, strict=True):
                lines = [cell] if head.whole else wrap(cell, terminal.width - width)
                terminal.print(Text(f"{head.name:<{width}}{lines[0]}"))
                for line in lines[1:]:
                    terminal.print(Text(f"{'':<{width}}{line}"))
            terminal.print()


def print_rows(heads: Sequence[Head | str], rows: Iterable[Sequence[str | int | Cell]]) -> None:
    """A whole list for people."""
    sheet = Sheet(*heads)
    for row in rows:
        sheet.add(*row)
    sheet.end()


def print_summary(line: str) -> None:
    """A line below a list; on standard error where programs read the list itself."""
    if on_terminal():
        terminal.print(_wrapped(one_line(line), terminal.width))
    else:
        say_beside(line)


class JsonList:
    """`{"items": [...], "total": ..., "next": ...}`, an item a line, written as they come.

    `total` is how many there are, and `next` from where to go on with `--after`: null where these were all that
    remained. What is cut short is no JSON, so that nobody takes a part for the whole.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many were written."""

    def add(self, item: Any) -> None:
        write_json(f"{',' if self.count else _BEGUN}\n{json_text(item)}")
        self.count += 1

    def end(self, *, total: int, following: str | None = None, **more: Any) -> None:
        """There are no more here; `more` is what else the document says."""
        rest = json_text({"total": total, "next": following, **more}).removeprefix("{")
        write_json(("\n" if self.count else _BEGUN) + f"], {rest}\n", at_once=True)


def print_list(
    items: Iterable[Any], *, total: int | None = None, following: str | None = None, **more: Any
) -> None:
    """A whole list for programs; `total` is their number unless it is said."""
    document = JsonList()
    for item in items:
        document.add(item)
    document.end(total=document.count if total is None else total, following=following, **more)


def _wrapped(cell: str, width: int) -> Text:
    return Text("\n".join(wrap(cell, width)))


def _for_people(cell: str | int | Cell) -> str:
    if isinstance(cell, Cell):
        return cell.shown
    return f"{cell:,}" if isinstance(cell, int) else cell


def _for_programs(cell: str | int | Cell) -> str:
    return str(cell.exact if isinstance(cell, Cell) else cell)


def _write_line(cells: Iterable[str]) -> None:
    sys.stdout.write("\t".join(cells) + "\n")
