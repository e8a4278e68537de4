"""`make faults`: every fault under load, and one table that says what was lost."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bridge.development.private_node import NodeError
from bridge.settings.sections import Logs
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.faults import cases, suite

console = Console(width=150)

COLUMNS = (
    "case", "answered 200", "of them spooled", "other answers", "no answer", "arrived", "duplicates", "lost",
    "violations", "worst answer", "p99", "recovery",
)  # fmt: skip

_SHOWN = 10
"""Of many violations of a case, how many are printed."""
BROKEN = (ExceptionGroup, AssertionError, NodeError, OSError, RuntimeError)
"""How a case can fail to run at all."""


def main(
    only: Annotated[str, typer.Option(help="Cases whose name contains this.")] = "",
    events: Annotated[int, typer.Option(help="Events answered 200 in each case, at least.")] = suite.EVENTS,
    rate: Annotated[float, typer.Option(help="Events a second.")] = suite.RATE,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    write: Annotated[Path | None, typer.Option(help="Write the table to this file, as Markdown.")] = None,
    histories: Annotated[
        Path | None, typer.Option(help="Keep the history of each case in this folder.")
    ] = None,
) -> None:
    """Inject every fault under load, and check the history of what was posted, answered, delivered, listed and published.

    Example: python -m tests.programs.faults --only "black hole" --events 5000
    """
    logs.configure(Logs(level="error"))
    chosen = [case for case in cases.ALL if only.lower() in case.name.lower()]
    rows = asyncio.run(_run(chosen, events, rate, histories))
    if as_json:
        json.dump([asdict(row) for row in rows], sys.stdout, indent=2)
    else:
        console.print(_table(rows))
    if write is not None:
        write.write_text(_markdown(rows))
    if not all(row.good for row in rows) or len(rows) < len(chosen):
        raise typer.Exit(1)


async def _run(chosen: list[cases.Case], events: int, rate: float, histories: Path | None) -> list[suite.Row]:
    rows = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, width=150)) as progress:
        bar = progress.add_task("", total=len(chosen))
        for case in chosen:
            progress.update(bar, description=case.name)
            try:
                row = await suite.run(case, events=events, rate=rate, histories=histories)
            except (
                BROKEN
            ) as error:  # the other cases still have something to say; the exit code is 1 all the same
                progress.console.print(f"{case.name}: {_said(error)}", style="bold red", markup=False)
            else:
                rows.append(row)
                progress.console.print(" | ".join(_cells(row)), highlight=False)
                for line in row.violations[:_SHOWN]:
                    progress.console.print(f"  {line}", style="bold red", markup=False, highlight=False)
            progress.advance(bar)
    return rows


def _said(error: BaseException) -> str:
    """What was at the bottom of it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _cells(row: suite.Row) -> list[str]:
    return [
        row.case,
        f"{row.accepted:,}",
        f"{row.spooled:,}",
        f"{row.refused:,}",
        f"{row.unanswered:,}",
        f"{row.arrived:,}",
        f"{row.duplicates:,}",
        f"{row.lost}",
        f"{len(row.violations)}",
        f"{row.worst * 1000:.0f} ms",
        f"{row.p99 * 1000:.0f} ms",
        f"{row.recovery:.1f} s",
    ]


def _table(rows: list[suite.Row]) -> Table:
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*_cells(row), style=None if row.good else "bold red")
    return table


def _markdown(rows: list[suite.Row]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    program.run(main)
