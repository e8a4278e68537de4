"""`make others`: our bridge and two that one would write with well-known packages, under the same faults; one table."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bridge.development.private_node import NodeError
from bridge.settings.sections import Logs
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.others import bridges, faults, suite, tables
from tests.support.disk.mounting import FUSE_MISSING

if TYPE_CHECKING:
    from tests.programs.others.comparison import Row

    Run = tuple[bridges.Bridge, faults.Fault]

console = Console(width=200)

BROKEN: Final = (ExceptionGroup, AssertionError, NodeError, OSError, RuntimeError)
"""How a run can fail to run at all."""


def main(
    only: Annotated[str, typer.Option(help="Faults whose name contains this.")] = "",
    bridge: Annotated[str, typer.Option(help="Bridges whose name contains this.")] = "",
    first_pages: Annotated[
        bool, typer.Option(help="The others, too, as their first pages have them.")
    ] = False,
    rate: Annotated[float, typer.Option(help="Events a second.")] = suite.RATE,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    write: Annotated[Path | None, typer.Option(help="Write the table to this file, as Markdown.")] = None,
) -> None:
    """Put each bridge under each fault; exit code 1 where ours loses something or hangs, or a run fails.

    Example: python -m tests.programs.others --only killed --bridge Fastify
    """
    logs.configure(Logs(level="error"))
    compared = bridges.ALL + (bridges.FIRST_PAGES if first_pages else ())
    chosen = [one for one in compared if bridge.lower() in one.name.lower()]
    runs = [(one, fault) for fault in faults.ALL if only.lower() in fault.name.lower() for one in chosen]
    rows, versions, failed = asyncio.run(_run(runs, rate))
    if as_json:
        document = {"versions": versions, "rows": [asdict(row) for row in rows]}
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        console.print(_table(rows))
        for said in versions.values():
            console.print(said, highlight=False)
    if write is not None:
        write.write_text(tables.markdown(rows))
    if failed or not all(_good(row) for row in rows):
        raise typer.Exit(1)


async def _run(runs: list[Run], rate: float) -> tuple[list[Row], dict[str, str], bool]:
    """The rows, the versions of the bridges, and whether a run has failed. What cannot be here is left out."""
    rows: list[Row] = []
    versions: dict[str, str] = {}
    failed = False
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, width=200)) as progress:
        bar = progress.add_task("", total=len(runs))
        for one, fault in runs:
            what = f"{fault.name}: {one.name}"
            progress.update(bar, description=what)
            try:
                if reason := await _missing(one, fault):
                    progress.console.print(f"{what}: left out: {reason}", style="yellow", markup=False)
                else:
                    versions[one.name] = await one.versions()
                    rows.append(row := await suite.run(one, fault, rate=rate))
                    progress.console.print(" | ".join(tables.cells(row)), highlight=False)
            except BROKEN as error:  # the others still have something to say; the exit code is 1 all the same
                progress.console.print(f"{what}: {_said(error)}", style="bold red", markup=False)
                failed = True
            progress.advance(bar)
    return rows, versions, failed


async def _missing(bridge: bridges.Bridge, fault: faults.Fault) -> str | None:
    return (FUSE_MISSING if fault.cuts_power else None) or await bridge.missing()


def _good(row: Row) -> bool:
    """What the others do is for the table; what ours promises has to hold."""
    return row.bridge != bridges.OURS.name or not (row.lost or row.hangs or row.did_not_stop or row.broken)


def _said(error: BaseException) -> str:
    """What was at the bottom of it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _table(rows: list[Row]) -> Table:
    table = Table(*tables.COLUMNS)
    for row in rows:
        table.add_row(*tables.cells(row), style=None if _good(row) else "bold red")
    return table


if __name__ == "__main__":
    program.run(main)
