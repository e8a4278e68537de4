"""A table of figures: for the terminal, and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table as RichTable


@dataclass(frozen=True, slots=True)
class Line:
    cells: tuple[str, ...]
    good: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]

    def rich(self) -> RichTable:
        table = RichTable(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for line in self.lines:
            table.add_row(*line.cells, style=None if line.good else "bold red")
        return table

    def markdown(self) -> str:
        aligned = ["---", *["---:"] * (len(self.columns) - 1)]
        rows = [self.columns, *(line.cells for line in self.lines)]
        first, *others = (f"| {' | '.join(row)} |" for row in rows)
        return "\n".join([f"**{self.title}**", "", first, f"|{'|'.join(aligned)}|", *others, ""])
