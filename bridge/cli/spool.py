"""`bridge spool`: what waits on disk for RabbitMQ, and moving it by hand."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bridge import roles
from bridge.broker.connection import BrokerRefusedError, BrokerUnavailableError
from bridge.broker.publisher import PublishError
from bridge.cli.console import fails_with, people, print_json, settings_of
from bridge.receiver.spool_file import Contents, SpoolError, in_use, others, peek
from bridge.settings import Settings
from bridge.telemetry import logs

app = typer.Typer(help="Events that wait on disk for RabbitMQ.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
@fails_with(SpoolError, OSError)
def status(context: typer.Context, as_json: Json = False) -> None:
    """Show each spool file: how much is in it, since when, and whether a receiver has it.

    Environment: BRIDGE_SPOOL__DIRECTORY.

    Example: bridge spool status
    """
    files = [
        {
            "file": str(path),
            "in_use": in_use(path),
            "entries": contents.entries,
            "bytes": contents.bytes,
            "oldest_age": _age(contents),
        }
        for path, contents in _files(settings_of(context))
    ]
    if as_json:
        print_json(files)
        return
    table = Table("File", "Events", "Bytes", "Oldest", "Receiver")
    for file in files:
        table.add_row(
            str(file["file"]),
            f"{file['entries']:,}",
            f"{file['bytes']:,}",
            "" if file["oldest_age"] is None else f"{file['oldest_age']} s",
            "has it" if file["in_use"] else "gone",
        )
    people.print(table)


@app.command()
@fails_with(SpoolError, PublishError, BrokerUnavailableError, BrokerRefusedError, OSError)
def drain(context: typer.Context) -> None:
    """Publish what receivers that are gone have left, and remove each event once RabbitMQ has confirmed it.

    A receiver that runs drains its own file, and those left behind in its folder, by itself.

    Environment: BRIDGE_SPOOL__DIRECTORY, BRIDGE_RABBITMQ__URLS.

    Example: bridge spool drain
    """
    settings = settings_of(context)
    logs.configure(settings.logs.model_copy(update={"level": "warning"}))
    waiting = sum(contents.entries for path, contents in _files(settings) if not in_use(path))
    columns = (TextColumn("draining"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("draining", total=waiting)
        moved = asyncio.run(roles.drain_spools(settings, lambda count: progress.advance(bar, count)))
    people.print(f"{moved:,} events are in RabbitMQ")


def _files(settings: Settings) -> list[tuple[Path, Contents]]:
    if not settings.spool.directory.is_dir():
        return []
    return [(path, peek(path)) for path in others(settings.spool.directory, ())]


def _age(contents: Contents) -> int | None:
    return None if contents.oldest is None else max(0, int(time.time() - contents.oldest / 1000))
