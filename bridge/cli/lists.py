"""Lists: a table on a terminal, lines with tabs in a pipe, and one JSON document, of one shape, for programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.table import Table
from rich.text import Text

from bridge.cli.columns import column_widths, wrap
from bridge.cli.console import json_text, on_terminal, print_to_stderr, terminal, write_json
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_TERMINAL_ROWS: Final = 100
"""Rows of a table on a terminal, unless `--limit` says how many. Output for programs is not limited."""

_CELL_GAP: Final = 3
"""Characters between two cells: two blanks and a line."""
_EDGES_WIDTH: Final = 4
"""Characters of both edges of a table."""
_INDENT: Final = 2

_JSON_START: Final = '{"items": ['


class Head(NamedTuple):
    """The head of a column."""

    name: str
    whole: bool = False
    """Whether its cells are never broken or shortened: ids, addresses and names, which people copy."""
    min_width: int = 0
    """Characters: so that a time breaks between date and clock time."""


class Cell(NamedTuple):
    """A cell that differs for people (`shown`) and programs (`exact`)."""

    shown: str
    exact: str | int


class RowPrinter:
    """Prints rows: on a terminal as one table at the end, elsewhere each at once, as a line with tabs."""

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
        """No row follows. An empty table is not printed; lines always start with the heads."""
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
        """None if the columns do not fit, even if words are split."""
        for parts, edges in ((False, True), (False, False), (True, False)):
            between = _CELL_GAP * (len(self._heads) - 1) + (_EDGES_WIDTH if edges else 0)
            if chosen := self._widths(rows, terminal.width - between, parts=parts):
                return self._table_of(rows, chosen, edges=edges)
        return None

    def _widths(self, rows: list[list[str]], available: int, *, parts: bool) -> list[int] | None:
        columns = [
            [head.name, " " * head.min_width, *(row[at] for row in rows)]
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
        """Each row as several lines. The terminal breaks cells that people copy, so that they can be copied whole."""
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
    printer = RowPrinter(*heads)
    for row in rows:
        printer.add(*row)
    printer.end()


def print_summary(line: str) -> None:
    """A line below a list; on standard error if the list is for programs."""
    if on_terminal():
        terminal.print(_wrapped(one_line(line), terminal.width))
    else:
        print_to_stderr(line)


class JsonList:
    """`{"items": [...], "total": ..., "next": ...}`, an item a line, written as they come.

    `total` is how many there are; `next` is the value of `--after` for the next page, null on the last page. Interrupted output is not valid JSON, so that it is not mistaken for the whole list.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many were written."""

    def add(self, item: Any) -> None:
        write_json(f"{',' if self.count else _JSON_START}\n{json_text(item)}")
        self.count += 1

    def end(self, *, total: int, following: str | None = None, **more: Any) -> None:
        """No item follows on this page. Args: `more`: further keys of the document."""
        rest = json_text({"total": total, "next": following, **more}).removeprefix("{")
        write_json(("\n" if self.count else _JSON_START) + f"], {rest}\n", at_once=True)


def print_list(
    items: Iterable[Any], *, total: int | None = None, following: str | None = None, **more: Any
) -> None:
    """A whole list for programs; `total` is the number of items unless it is given."""
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
