"""How long the list takes from a file and into one: a million rows in no order, by the commands that people run."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from bridge.settings import sections
from bridge.suppression.store import Store
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.bench.working import every_store
from tests.support.commands import environment_without_settings

if TYPE_CHECKING:
    import resource
    from collections.abc import Callable

ROWS: Final = 1_000_000
SECONDS: Final = 60.0
"""The bar, for each of both ways."""
BYTES: Final = 150_000_000
"""The bar: what the command may take of the memory."""
_DOMAINS: Final = 5000


@dataclass(frozen=True, slots=True)
class TransferRow:
    """One command on one store: medians over the rounds."""

    command: str
    store: str
    rows: int
    seconds: float
    cpu: float
    """Seconds of the command's own; PostgreSQL's are not in it."""
    peak: int
    """Bytes of memory that were the command's at the same time."""


async def measure(*, rounds: int, say: Callable[[str], None], rows: int = ROWS) -> list[TransferRow]:
    """Import a file of so many rows into an empty list, and export that list.

    Args:
        rounds: how often each.
        say: told of each figure as it comes, one line.
        rows: of the file, each with an address of its own.

    Raises:
        RuntimeError: a command failed.
    """
    found = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-bench-")))
        await asyncio.to_thread(_write, folder / "ses.csv", rows)
        for store, url_in in await stack.enter_async_context(every_store()):
            taken: dict[str, list[TransferRow]] = {"import": [], "export": []}
            for turn in range(rounds):
                place = folder / f"{store}-{turn}"
                place.mkdir()
                url = await url_in(place)
                async with Store.open(url):
                    pass
                for command, arguments in (("import", ["../ses.csv"]), ("export", ["--output", "list.csv"])):
                    row = await asyncio.to_thread(_run, command, arguments, place, url, store, rows)
                    taken[command].append(row)
                    say(f"{command}, {store}: {row.seconds:.1f} s, {row.peak / 1e6:.0f} MB")
            found += [_middle(some) for some in taken.values()]
    return found


def _write(file: Path, rows: int) -> None:
    chance = random.Random(1)  # noqa: S311 -- the same file in each run
    with file.open("w", encoding="utf-8") as written:
        written.write("EmailAddress,Reason,LastUpdateTime\n")
        for number in range(rows):
            address = f"r{chance.randrange(10**9):09}.{number}@d{number % _DOMAINS}.example.org"
            written.write(f"{address},{'COMPLAINT' if number % 5 else 'BOUNCE'},{1539062173 + number}\n")


def _run(command: str, arguments: list[str], place: Path, url: str, store: str, rows: int) -> TransferRow:
    environment = environment_without_settings() | {"BRIDGE_SUPPRESSION__DATABASE_URL": url}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "suppressions", command, *arguments],
        cwd=place, env=environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} into {store} ended with {process.returncode}")
    return TransferRow(
        command, store, rows, time.monotonic() - began, used.ru_utime + used.ru_stime, _bytes(used)
    )


def _bytes(used: resource.struct_rusage) -> int:
    return used.ru_maxrss * 1024  # Linux counts KiB


def _middle(taken: list[TransferRow]) -> TransferRow:
    first = taken[0]
    return TransferRow(
        first.command,
        first.store,
        first.rows,
        statistics.median(row.seconds for row in taken),
        statistics.median(row.cpu for row in taken),
        max(row.peak for row in taken),
    )


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 1,
    rows: Annotated[int, typer.Option(min=1, help="Of the file.")] = ROWS,
) -> None:
    """Import and export of a long list, on both stores.

    Example: python -m tests.programs.bench.transfer --rows 100000
    """
    logs.configure(sections.Logs(level="error"))
    console = Console(width=110)
    found = asyncio.run(
        measure(rounds=rounds, say=lambda line: console.print(line, highlight=False), rows=rows)
    )
    table = Table("command", "store", "rows", "seconds", "CPU", "peak memory")
    for row in found:
        table.add_row(
            row.command,
            row.store,
            f"{row.rows:,}",
            f"{row.seconds:.1f}",
            f"{row.cpu:.1f} s",
            f"{row.peak / 1e6:.0f} MB",
        )
    console.print(table)


if __name__ == "__main__":
    program.run(main)
