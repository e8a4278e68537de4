"""`bridge spool`: what waits on disk for RabbitMQ, what RabbitMQ refuses of it, and moving it by hand."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from bridge.amqp.errors import BrokerRefusedError, BrokerUnavailableError
from bridge.amqp.publish_errors import PublishError
from bridge.cli.console import fail, fails_with, people, print_json, settings_of
from bridge.cli.help_epilog import BROKER, page
from bridge.cli.lists import Cell, Head, print_list, print_rows, print_summary
from bridge.cli.options import AsJson, ListJson
from bridge.diagnostics.alarms import alarm_of
from bridge.roles.receiver import BrokerBlockedError, drain_spools
from bridge.settings.sections import Settings
from bridge.spool.folder import SpoolError, in_use, others
from bridge.spool.refused_entries import AsideSeen, hasten, look
from bridge.spool.spool_file import Contents, peek
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_FILE = Head("File", whole=True)
_ASIDE = (_FILE, "Reason", "Routing key", "Events", "Attempts", "Next", "RabbitMQ says")

app = typer.Typer(
    help="Events that wait on disk for RabbitMQ.",
    epilog=page("spool status", "BRIDGE_SPOOL__DIRECTORY", *BROKER),
    no_args_is_help=True,
)


@app.command(epilog=page("spool status", "BRIDGE_SPOOL__DIRECTORY"))
@fails_with(SpoolError, OSError)
def status(context: typer.Context, as_json: ListJson = False) -> None:
    """Show each spool file: how much is in it, since when, and whether a receiver has it; and what RabbitMQ refuses.

    What it refuses is set aside, so that all other events go, and is tried again later and later.
    """
    settings = settings_of(context)
    files = _files(settings)
    if as_json:
        print_list(map(_document, files))
        return
    if on_terminal():
        people.print(Text(f"{settings.spool.directory}:"))
    print_rows((_FILE, "Events", "Bytes", "Oldest", "Receiver", "Problem"), map(_row, files))
    if any(file.aside for file in files):
        print_summary("set aside, for RabbitMQ refuses it:")
        print_rows(_ASIDE, _rows_of_aside(files))


@app.command(
    epilog=page(
        "spool drain",
        "BRIDGE_SPOOL__DIRECTORY",
        *BROKER,
        codes={
            0: "nothing is left but what running receivers have",
            1: "RabbitMQ is away, blocked by an alarm or has refused some, or a file cannot be read",
        },
    )
)
@fails_with(SpoolError, PublishError, BrokerUnavailableError, BrokerRefusedError, OSError)
def drain(context: typer.Context, as_json: AsJson = False) -> None:
    """Publish what receivers that are gone have left, and remove each event once RabbitMQ has confirmed it.

    A receiver that runs drains its own file, and those left behind in its folder, by itself. What RabbitMQ has refused
    is tried once, now: where a receiver has it, the receiver is told to.
    """
    settings = settings_of(context)
    logs.configure_for(settings, level="warning")
    waiting = _waiting(settings)
    columns = (TextColumn("draining"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("draining", total=waiting)
            moved = asyncio.run(_drained(settings, lambda count: progress.advance(bar, count)))
    except BrokerBlockedError as blocked:
        fail(f"{blocked}; {_all_that_waits(settings):,} events wait in {settings.spool.directory}")
    files = _files(settings)
    left = _waiting(settings)
    if as_json:
        print_json({"moved": moved, "left": left, "files": [_document(file) for file in files]})
    else:
        people.print(f"{moved:,} events are in RabbitMQ")
        for file in files:
            _tell_who_has(file)
    for file in files:
        if file.in_use and file.aside:
            hasten(file.path)
            refused = sum(one.entries for one in file.aside)
            if not as_json:
                people.print(f"{file.path.name}: its receiver tries {refused:,} refused events now")
    if left:
        said = "; ".join(
            dict.fromkeys(_refused(one) for file in files if not file.in_use for one in file.aside)
        )
        fail(
            f"{left:,} events are still in {settings.spool.directory}: RabbitMQ refused them"
            + (f": {said}" if said else "; see its limits")
        )


async def _drained(settings: Settings, moved: Callable[[int], None]) -> int:
    """Also where running receivers have all of it, an alarm of RabbitMQ is what it waits for."""
    if _all_that_waits(settings) and (alarm := await alarm_of(settings.rabbitmq)):
        raise BrokerBlockedError(f"RabbitMQ is blocked: it has a {alarm}, and takes nothing")
    return await drain_spools(settings, moved)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    in_use: bool | None
    """None when it is another user's: only that user can tell."""
    contents: Contents | None
    problem: str
    """Why there are no contents."""
    aside: tuple[AsideSeen, ...] = ()
    """What RabbitMQ refuses."""


def _tell_who_has(file: _File) -> None:
    """Of what still waits, and is not for us to drain."""
    if file.in_use is None:
        people.print(f"{file.path.name}: another user's, who alone can drain it")
    elif file.in_use and file.contents is not None and file.contents.entries:
        people.print(
            f"{file.path.name}: a running receiver has {file.contents.entries:,} events, and drains them itself "
            "while RabbitMQ takes them"
        )


def _files(settings: Settings) -> list[_File]:
    return [_looked_at(path) for path in others(settings.spool.directory, ())]


def _looked_at(path: Path) -> _File:
    busy: bool | None = None
    try:
        busy = in_use(path)
        return _File(path, busy, peek(path), "", look(path))
    except SpoolError as error:
        return _File(path, busy, None, str(error).removeprefix(f"{path}: "))


def _waiting(settings: Settings) -> int:
    return sum(file.contents.entries for file in _files(settings) if file.contents and not file.in_use)


def _all_that_waits(settings: Settings) -> int:
    """In files of running receivers, too."""
    return sum(file.contents.entries for file in _files(settings) if file.contents)


def _document(file: _File) -> dict[str, Any]:
    contents = file.contents
    return {
        "file": str(file.path),
        "in_use": file.in_use,
        "entries": contents.entries if contents else None,
        "bytes": contents.bytes if contents else None,
        "oldest_age": _age(contents) if contents else None,
        "problem": file.problem or None,
        "set_aside": [
            {
                "reason": one.reason,
                "routing_key": one.routing_key,
                "entries": one.entries,
                "attempts": one.attempts,
                "retry_in": _until(one),
                "said": one.said,
            }
            for one in file.aside
        ],
    }


def _row(file: _File) -> tuple[str | int | Cell, ...]:
    receiver = "has it" if file.in_use else "gone" if file.in_use is not None else "?"
    if file.contents is None:
        return _named(file), "?", "?", "", receiver, file.problem
    age = _age(file.contents)
    oldest = "" if age is None else Cell(f"{age} s", age)
    return _named(file), file.contents.entries, file.contents.bytes, oldest, receiver, ""


def _named(file: _File) -> Cell:
    """People have read in which folder."""
    return Cell(file.path.name, str(file.path))


def _rows_of_aside(files: Iterable[_File]) -> Iterator[tuple[str | int | Cell, ...]]:
    for file in files:
        for one in file.aside:
            following = Cell(f"in {_until(one)} s", _until(one))
            yield (
                _named(file), one.reason, one.routing_key, one.entries, one.attempts, following, one.said,
            )  # fmt: skip


def _refused(one: AsideSeen) -> str:
    of_key = f" of '{one.routing_key}'" if one.routing_key else ""
    return f"{one.entries:,} {one.reason}{of_key}: {one.said}"


def _until(one: AsideSeen) -> int:
    """Seconds."""
    return max(0, int(one.retry_at / 1000 - time.time()))


def _age(contents: Contents) -> int | None:
    return None if contents.oldest is None else max(0, int(time.time() - contents.oldest / 1000))
