"""`make cost`: instructions in user space for each event, which are the same on a busy machine and on an idle one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bridge.settings.sections import Logs
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.cost import callgrind, checks, receivers, workers
from tests.programs.cost.callgrind import CostError
from tests.programs.cost.figures import (
    MOST_RISE,
    Figures,
    NoFiguresError,
    means,
    other_versions,
    risen,
    spread,
    versions_here,
)
from tests.programs.cost.place import Place
from tests.programs.cost.subject import Subject, measure

SUBJECTS: Final = (
    Subject("aiohttp no-op", receivers.noop, warm=500, first=100, count=1000),
    Subject("receiver confirmed", receivers.confirmed, warm=500, first=100, count=1000),
    Subject("receiver spooled", receivers.spooled, warm=500, first=100, count=1000),
    Subject("traces, none recorded", receivers.no_trace_recorded, warm=500, first=100, count=1000),
    Subject("traces, all recorded", receivers.every_trace_recorded, warm=500, first=100, count=1000),
    Subject("worker SQLite", workers.on_sqlite, warm=500, first=250, count=500),
    Subject("worker PostgreSQL", workers.on_postgresql, warm=500, first=250, count=500),
    Subject(
        "API check", checks.on_sqlite, warm=5, first=1, count=5, unit="address", per_load=checks.ADDRESSES
    ),
)
console = Console(width=130)


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="What has this in its name; may be given several times.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often each is measured; the figures are means.")
    ] = 1,
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit code 1 where an event costs 5% more than with the last release."),
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Make these the figures of the release, in released.json.")
    ] = False,
    functions: Annotated[
        int, typer.Option(help="Show so many functions of C that take most. Python's have no names there.")
    ] = 0,
    at_once: Annotated[
        int,
        typer.Option(
            min=1, help="How many are measured at the same time, which does not change the figures."
        ),
    ] = os.cpu_count() or 1,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file, too.")] = None,
) -> None:
    """Count the instructions that an event costs in user space, by valgrind, against the last release.

    Example: python -m tests.programs.cost --only receiver --rounds 2
    """
    logs.configure(Logs(level="error"))
    subjects = [one for one in SUBJECTS if not only or any(part.lower() in one.name.lower() for part in only)]
    if not subjects:
        raise typer.BadParameter(
            f"nothing is called that; there are: {', '.join(one.name for one in SUBJECTS)}",
            param_hint="--only",
        )
    if absent := callgrind.missing():
        console.print(f"cost: skipped: {absent}")
        raise typer.Exit(1 if write else 0)
    began = time.monotonic()
    try:
        counted = asyncio.run(_counted(subjects, rounds, at_once, functions))
    except CostError as error:
        console.print(f"cost: {error}", markup=False)
        raise typer.Exit(1) from None
    valgrind = subprocess.run(["valgrind", "--version"], check=True, capture_output=True, text=True).stdout
    now = Figures(versions_here(valgrind.strip().removeprefix("valgrind-")), means(counted))
    try:
        before = Figures.read()
    except NoFiguresError as error:
        if not write:
            console.print(f"cost: {error}")
        before = Figures({}, {})
    _show(counted, before, now)
    if json is not None:
        json.write_bytes(now.as_json())
    if write:
        Figures(now.versions, {**before.instructions, **now.instructions}).write()
    _conclude(before, now, check=check, seconds=time.monotonic() - began)


async def _counted(
    subjects: list[Subject], rounds: int, at_once: int, functions: int
) -> list[dict[str, float]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    turns = asyncio.Semaphore(at_once)
    counted: list[dict[str, float]] = [{} for _ in range(rounds)]
    with (
        tempfile.TemporaryDirectory(prefix="bridge-cost-") as directory,
        Progress(*columns, console=Console(stderr=True, width=130)) as progress,
    ):
        bar = progress.add_task("counting instructions", total=rounds * len(subjects))

        async def one(subject: Subject, place: Place, into: dict[str, float]) -> None:
            async with turns:
                cost = await measure(subject, place, with_functions=functions > 0)
            into[subject.name] = cost.instructions
            progress.console.print(f"{subject.name}: {cost.instructions:,.0f} instructions/{subject.unit}")
            for number, name in cost.functions[:functions]:
                progress.console.print(f"  {number:>10,.0f}  {name}", markup=False, highlight=False)
            progress.advance(bar)

        async with Place.made(Path(directory)) as place:
            try:
                async with asyncio.TaskGroup() as group:
                    for into in counted:
                        for subject in subjects:
                            group.create_task(one(subject, place, into))
            except* CostError as errors:
                raise CostError("; ".join(str(error) for error in errors.exceptions)) from None
    return counted


def _show(counted: list[dict[str, float]], before: Figures, now: Figures) -> None:
    table = Table("subject", "instructions", "last release", "change", "spread of the rounds")
    for name, number in now.instructions.items():
        released = before.instructions.get(name)
        table.add_row(
            name,
            f"{number:,.0f}",
            "" if released is None else f"{released:,.0f}",
            "" if released is None else f"{number / released - 1:+.1%}",
            "" if len(counted) == 1 else f"{spread([one[name] for one in counted]):.2%}",
        )
    console.print(table)


def _conclude(before: Figures, now: Figures, *, check: bool, seconds: float) -> None:
    others = other_versions(before.versions, now.versions) if before.versions else []
    if others:
        console.print(f"not counted with the same versions: {'; '.join(others)}", markup=False)
    rises = risen(before.instructions, now.instructions) if check else []
    for line in rises:
        console.print(f"cost: {line}", markup=False)
    if rises:
        console.print(
            f"cost: an event may cost {MOST_RISE:.0%} more than with the last release. Is the rise wanted, say why in the "
            "commit that brings it, with the new figures: make cost ARGS=--write",
            markup=False,
        )
    said = (
        f"{len(rises)} of {len(now.instructions)} rose by more than {MOST_RISE:.0%}" if check else "counted"
    )
    console.print(f"===== cost: {len(now.instructions)} subjects, {said} in {seconds:.1f}s =====")
    if rises:
        raise typer.Exit(1)


if __name__ == "__main__":
    program.run(main)
