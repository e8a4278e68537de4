"""`make power-cuts`: the power of a whole machine is cut under load, again and again, and a table says what that cost."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bridge.settings.sections import Logs
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.power_cuts.one_cut import Row, one_cut
from tests.programs.power_cuts.table import markdown, summary
from tests.support.disk.mounting import FUSE_MISSING

console = Console(width=150, highlight=False, markup=False, soft_wrap=True)
DATABASES = ("sqlite", "postgresql")


def main(
    *,
    times: Annotated[int, typer.Option(min=1, help="How many cuts, on SQLite and PostgreSQL in turn.")] = 20,
    first: Annotated[int, typer.Option(min=1, help="Seed of the first one; each next has the next.")] = 1,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 1000,
    into: Annotated[
        Path | None, typer.Option("--json", help="Append what came of each to this file.")
    ] = None,
) -> None:
    """Cut the power of RabbitMQ, the database, a receiver and a worker at once, and see what of the answered is missing.

    Exit code 1: something that was answered 200 is missing where it must not be, or another promise was broken.

    Example: python -m tests.programs.power_cuts --times 3
    """
    logs.configure(Logs(level="error"))
    if FUSE_MISSING is not None:
        console.print(f"power-cuts: skipped: {FUSE_MISSING}")
        return
    rows = []
    for seed in range(first, first + times):
        row = _one(seed, rate)
        rows.append(row)
        console.print(summary(row))
        if into is not None:
            with into.open("a") as file:
                file.write(json.dumps(row.as_json()) + "\n")
    console.print(markdown(rows))
    if any(row.violations for row in rows):
        raise typer.Exit(1)


def _one(seed: int, rate: float) -> Row:
    with tempfile.TemporaryDirectory(prefix="bridge-power-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user where this runs as root
        return asyncio.run(one_cut(folder, seed=seed, database=DATABASES[seed // 2 % 2], rate=rate))


if __name__ == "__main__":
    program.run(main)
