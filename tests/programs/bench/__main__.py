"""`make bench`: the bridge against what people would use instead, in one run on one machine, and what it says."""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bridge.settings.sections import Logs
from bridge.settings.sources import ENVIRONMENT_PREFIX
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.bench import growth, machine, report, run
from tests.programs.bench.load import CHECKOUT
from tests.programs.bench.results import Results, bars

console = Console(width=180)

_INTO: Final = Path(__file__).with_name("results.md")
_GROWTH_INTO: Final = Path(__file__).with_name("growth.md")
_REDRAWS_A_SECOND: Final = 1
"""What draws on the terminal takes from the cores that are measured on."""


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="What has this in its name; may be given several times.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="The tables show the medians of so many.")] = 3,
    seconds: Annotated[int, typer.Option(min=1, help="Of each measurement, after a warm-up.")] = 6,
    into: Annotated[
        Path | None,
        typer.Option(
            help="The Markdown's file; without it results.md beside this program, if all is measured. "
            "The tables of growth are in growth.md."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all numbers to this file, too.")] = None,
    scratch: Annotated[
        Path, typer.Option(help="For the broker's data and the spool: a folder on a real disk.")
    ] = CHECKOUT / ".dev",
    *,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Growth of a list of 10,000,000 entries, too, which takes half an hour more."
        ),
    ] = False,
) -> None:
    """Measure the bridge and its contenders on this machine; exit code 1 where something was answered wrong.

    Example: python -m tests.programs.bench --only noop --only bridge --rounds 1
    """
    logs.configure(Logs(level="error"))
    names = run.chosen(only or [])
    if not names:
        raise typer.BadParameter(
            f"nothing is called that; there are: {', '.join(run.ALL)}", param_hint="--only"
        )
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
        del os.environ[name]  # the bridge is measured as shipped, whatever is set for one that runs here
    scratch.mkdir(parents=True, exist_ok=True)
    if (kind := machine.filesystem(scratch)) in machine.IN_MEMORY:
        raise typer.BadParameter(
            f"{scratch} is on {kind}, where an fsync costs nothing", param_hint="--scratch"
        )
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=scratch) as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        choice = run.Choice(names, rounds=rounds, seconds=seconds, scratch=Path(directory), full=full)
        results = runner.run(_measured(choice))
    if into is not None or len(names) == len(run.ALL):
        (into or _INTO).write_text(report.markdown(results))
    if names >= {part.name for part in growth.PARTS} and results.growth:
        _GROWTH_INTO.write_text(report.growth_markdown(results))
    if json is not None:
        everything = asdict(results) | {"bars": [asdict(bar) | {"holds": bar.holds} for bar in bars(results)]}
        json.write_bytes(orjson.dumps(everything, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    _show(results)
    if not results.good:
        raise typer.Exit(1)


async def _measured(choice: run.Choice) -> Results:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    on = Console(stderr=True, width=180)
    with Progress(*columns, console=on, refresh_per_second=_REDRAWS_A_SECOND) as progress:
        progress.add_task("measuring", total=None)
        return await run.everything(
            choice, lambda said: progress.console.print(said, highlight=False, markup=False)
        )


def _show(results: Results) -> None:
    for table in report.tables(results):
        console.print(table.rich())
    for error in results.errors:
        console.print(f"not measured: {error}", style="bold red", markup=False)


if __name__ == "__main__":
    program.run(main)
