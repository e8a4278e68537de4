"""`python -m tests.programs.faults.figures`: what slow and hostile clients, a broker that is away and a long drain cost."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from bridge.settings.sections import Logs
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.faults import measures, stage

console = Console(width=150)

COLUMNS: Final = ("figure", "measured", "target", "")
_MEASURE_SECONDS: Final = 900.0


def main(
    only: Annotated[str, typer.Option(help="Measures whose name contains this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,  # noqa: FBT002 -- a flag of the command line
    write: Annotated[Path | None, typer.Option(help="Write the table to this file, as Markdown.")] = None,
) -> None:
    """Measure it on real processes, each measure on a broker of its own; exit code 1 where a target is missed.

    Example: python -m tests.programs.faults.figures --only "slow clients"
    """
    logs.configure(Logs(level="error"))
    chosen = {name: measure for name, measure in measures.ALL.items() if only.lower() in name}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(_run(chosen))
    if as_json:
        sys.stdout.write(
            orjson.dumps([asdict(figure) for figure in figures], option=orjson.OPT_INDENT_2).decode()
        )
    else:
        console.print(_table(figures))
    if write is not None:
        write.write_text(_markdown(figures))
    if not all(figure.good for figure in figures):
        raise typer.Exit(1)


async def _run(chosen: dict[str, measures.Measure]) -> list[measures.Figure]:
    figures = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, width=150)) as progress:
        for name, measure in chosen.items():
            bar = progress.add_task(name, total=None)

            def tell(what: str, bar: TaskID = bar, name: str = name) -> None:
                progress.update(bar, description=f"{name}: {what}")

            with tempfile.TemporaryDirectory(prefix="bridge-figures-") as directory:
                async with asyncio.timeout(_MEASURE_SECONDS), stage.set_up(Path(directory)) as set_up:
                    measured = await measure(set_up, tell)
            for figure in measured:
                progress.console.print(" | ".join(_cells(figure)), style=_style(figure), highlight=False)
            progress.remove_task(bar)
            figures += measured
    return figures


def _cells(figure: measures.Figure) -> tuple[str, ...]:
    verdict = ("met" if figure.good else "MISSED") if figure.target else ""
    return figure.what, figure.measured, figure.target, verdict


def _style(figure: measures.Figure) -> str | None:
    return None if figure.good else "bold red"


def _table(figures: list[measures.Figure]) -> Table:
    table = Table(*COLUMNS)
    for figure in figures:
        table.add_row(*_cells(figure), style=_style(figure))
    return table


def _markdown(figures: list[measures.Figure]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(_cells(figure))} |" for figure in figures]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    program.run(main)
