"""`make chaos`: random schedules of faults, each printed with its seed; what fails is shrunk to what still fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from bridge.settings.sections import Logs
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.chaos import results, schedule
from tests.programs.chaos.disks import NO_POWER_CUTS
from tests.programs.chaos.series import Series

console = Console(width=150, highlight=False, markup=False, soft_wrap=True)
FIXED: Final = (2, 8, 13, 39, 77)
"""The seeds of CI: those that have found something that is mended, and others with other faults."""


def main(
    *,
    seed: Annotated[int | None, typer.Option(help="One seed.")] = None,
    seeds: Annotated[str, typer.Option(help="Several: 1..200, or 1,5,7.")] = "",
    minutes: Annotated[
        float, typer.Option(min=0.05, help="How long a seed's load runs, and how many faults it draws.")
    ] = 0.2,
    nodes: Annotated[int, typer.Option(help="Nodes of RabbitMQ: 1 or 3.")] = 1,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 100,
    jobs: Annotated[
        int, typer.Option(min=1, help="Seeds at the same time, each job on servers of its own.")
    ] = 1,
    shrink: Annotated[bool, typer.Option(help="Shrink a schedule that fails.")] = True,
    tries: Annotated[
        int,
        typer.Option(
            min=1, help="How often a shorter schedule is run before it counts as one that does not fail."
        ),
    ] = 2,
    keep: Annotated[Path, typer.Option(help="Where history and logs of what fails are put.")] = Path(
        ".dev/chaos"
    ),
    into: Annotated[
        Path | None, typer.Option("--json", help="Append what came of each seed to this file, a line each.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Run nothing: print this file of results as a table in Markdown.")
    ] = None,
    show: Annotated[bool, typer.Option(help="Run nothing: print the schedules.")] = False,
) -> None:
    """Break a stack of two receivers and three workers at random, as a seed says, and prove from its history what held.

    Exit code 1: a promise was broken, or a seed could not be run.

    Example: python -m tests.programs.chaos --seed 7 --minutes 10
    """
    logs.configure(Logs(level="error"))
    if table is not None:
        console.print(results.markdown(results.read(table)))
        return
    chosen = _chosen(seed, seeds)
    if show:
        for one in chosen:
            console.print(
                f"seed {one}, {nodes} nodes of RabbitMQ\n{schedule.shown(schedule.draw(one, seconds=minutes * 60, nodes=nodes))}\n"
            )
        return
    if NO_POWER_CUTS is not None:
        console.print(f"chaos: power cuts and full disks: skipped: {NO_POWER_CUTS}")
    series = Series(
        seconds=minutes * 60,
        nodes=nodes,
        rate=rate,
        keep=keep,
        into=into,
        tries=tries if shrink else 0,
        say=console.print,
    )
    outcomes = asyncio.run(series.run(chosen, jobs=jobs))
    console.print(f"chaos: {results.summary(outcomes)}")
    if not all(one.good for one in outcomes):
        raise typer.Exit(1)


def _chosen(seed: int | None, seeds: str) -> list[int]:
    if seed is not None:
        return [seed]
    if ".." in seeds:
        first, _, last = seeds.partition("..")
        return list(range(int(first), int(last) + 1))
    return [int(one) for one in seeds.split(",") if one] or list(FIXED)


if __name__ == "__main__":
    program.run(main)
