"""`bridge spool`: shows the events that wait on disk, and drains them to RabbitMQ."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.amqp.publish_errors import PublishError
from bridge.cli.console import (
    fail,
    fails_with,
    on_terminal,
    print_json,
    progress,
    settings_of,
    settings_with_logs,
    terminal,
)
from bridge.cli.help_epilog import BROKER, page
from bridge.cli.lists import Cell, Head, print_list, print_rows, print_summary
from bridge.cli.options import AsJson, DryRun, ListJson
from bridge.cli.times import age_cell, duration_text
from bridge.diagnostics.broker_alarms import alarm_of
from bridge.roles.receiver import BrokerBlockedError, drain_spools
from bridge.settings.sections import Settings
from bridge.spool.entries import SpoolContents
from bridge.spool.errors import SpoolError
from bridge.spool.listing import FileStatus, list_files, retry_now
from bridge.spool.set_aside_entries import SetAsideKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_FILE = Head("File", whole=True)
_SET_ASIDE_HEADS = (_FILE, "Reason", "Routing key", "Events", "Attempts", "Next", "RabbitMQ says")

app = typer.Typer(
    help="Events that wait on disk for RabbitMQ.",
    epilog=page("spool status", "BRIDGE_SPOOL__DIRECTORY", *BROKER),
    no_args_is_help=True,
    add_completion=False,
)


@app.command(epilog=page("spool status", "BRIDGE_SPOOL__DIRECTORY"))
@fails_with(SpoolError, OSError)
def status(context: typer.Context, as_json: ListJson = False) -> None:
    """Show each spool file: its size and age, whether a receiver uses it, and the events that RabbitMQ refuses.

    Refused events are set aside, so that they do not block the others, and are retried with growing pauses.
    """
    settings = settings_of(context)
    files = list_files(settings.spool.directory)
    if as_json:
        print_list(map(_document, files))
        return
    if on_terminal():
        terminal.print(Text(f"{settings.spool.directory}:"))
    print_rows((_FILE, "Events", "Bytes", "Oldest", "Receiver", "Problem"), map(_row, files))
    if any(file.set_aside for file in files):
        print_summary("set aside, because RabbitMQ refuses them:")
        print_rows(_SET_ASIDE_HEADS, _set_aside_rows(files))


@app.command(
    epilog=page(
        "spool drain",
        "BRIDGE_SPOOL__DIRECTORY",
        *BROKER,
        codes={
            0: "nothing is left but what running receivers have",
            1: "RabbitMQ cannot be reached, is blocked by an alarm or refuses events, or a file cannot be read",
        },
    )
)
@fails_with(SpoolError, PublishError, BrokerUnavailableError, TopologyRefusedError, OSError)
def drain(context: typer.Context, *, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Publish the events of receivers that are gone, and remove each once RabbitMQ has confirmed it.

    A running receiver drains its own file, and those that others have left in its folder. Refused events are retried once,
    now: those of a running receiver by that receiver. --dry-run reads the files, and asks RabbitMQ whether it has an alarm.
    """
    settings = settings_with_logs(context, "warning")
    waiting = _waiting(settings)
    try:
        if dry_run:
            asyncio.run(_check_alarm(settings))
            _print_dry_run(list_files(settings.spool.directory), waiting, as_json=as_json)
            return
        with progress("draining", waiting) as advance:
            moved = asyncio.run(_drain(settings, advance))
    except BrokerBlockedError as blocked:
        fail(f"{blocked}; {_all_waiting(settings):,} events wait in {settings.spool.directory}")
    files = list_files(settings.spool.directory)
    left = _waiting(settings)
    if as_json:
        print_json({"moved": moved, "left": left, "files": [_document(file) for file in files]})
    else:
        terminal.print(f"{moved:,} events are in RabbitMQ")
        for file in files:
            _print_owner(file)
    for file in files:
        if file.in_use and file.set_aside:
            retry_now(file.path)
            set_aside = sum(one.entries for one in file.set_aside)
            if not as_json:
                terminal.print(f"{file.path.name}: its receiver retries {set_aside:,} set-aside events now")
    if left:
        refusals = "; ".join(
            dict.fromkeys(_refusal_text(one) for file in files if not file.in_use for one in file.set_aside)
        )
        fail(
            f"{left:,} events are still in {settings.spool.directory}: RabbitMQ refused them"
            + (f": {refusals}" if refusals else "; see its limits")
        )


async def _drain(settings: Settings, moved: Callable[[int], None]) -> int:
    """Reports an alarm even if there is nothing for us to drain: the receivers wait for it, too."""
    if _all_waiting(settings):
        await _check_alarm(settings)
    return await drain_spools(settings, moved)


async def _check_alarm(settings: Settings) -> None:
    if alarm := await alarm_of(settings.rabbitmq):
        raise BrokerBlockedError(f"RabbitMQ is blocked: it has a {alarm}, and blocks publishers")


def _print_dry_run(files: list[FileStatus], waiting: int, *, as_json: bool) -> None:
    if as_json:
        documents = [_document(file) for file in files]
        print_json({"dry_run": True, "chosen": waiting, "moved": 0, "files": documents})
    else:
        terminal.print(f"would publish {waiting:,} events")
        for file in files:
            _print_owner(file)
            if file.in_use and file.set_aside:
                set_aside = sum(one.entries for one in file.set_aside)
                terminal.print(
                    f"{file.path.name}: its receiver would retry {set_aside:,} set-aside events now"
                )
            if file.problem:
                terminal.print(Text(f"{file.path.name}: it cannot be read: {file.problem}"))


def _print_owner(file: FileStatus) -> None:
    """Print who has to drain a file that we cannot drain."""
    if file.in_use is None:
        terminal.print(f"{file.path.name}: it belongs to another user, who must drain it")
    elif file.in_use and file.contents is not None and file.contents.entries:
        terminal.print(
            f"{file.path.name}: a running receiver has {file.contents.entries:,} events, and drains them itself "
            "while RabbitMQ takes them"
        )


def _waiting(settings: Settings) -> int:
    return sum(
        file.contents.entries
        for file in list_files(settings.spool.directory)
        if file.contents and not file.in_use
    )


def _all_waiting(settings: Settings) -> int:
    """Events in all files, also those of running receivers."""
    return sum(file.contents.entries for file in list_files(settings.spool.directory) if file.contents)


def _document(file: FileStatus) -> dict[str, Any]:
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
                "reply_text": one.reply_text,
            }
            for one in file.set_aside
        ],
    }


def _row(file: FileStatus) -> tuple[str | int | Cell, ...]:
    receiver = "running" if file.in_use else "gone" if file.in_use is not None else "?"
    if file.contents is None:
        return _named(file), "?", "?", "", receiver, file.problem
    age = _age(file.contents)
    oldest = "" if age is None else age_cell(age)
    return _named(file), file.contents.entries, file.contents.bytes, oldest, receiver, ""


def _named(file: FileStatus) -> Cell:
    """For people without the folder, which is printed above the table."""
    return Cell(file.path.name, str(file.path))


def _set_aside_rows(files: Iterable[FileStatus]) -> Iterator[tuple[str | int | Cell, ...]]:
    for file in files:
        for one in file.set_aside:
            following = Cell(f"in {duration_text(_until(one))}", _until(one))
            yield (
                _named(file), one.reason, one.routing_key, one.entries, one.attempts, following, one.reply_text,
            )  # fmt: skip


def _refusal_text(one: SetAsideKind) -> str:
    of_key = f" of '{one.routing_key}'" if one.routing_key else ""
    return f"{one.entries:,} {one.reason}{of_key}: {one.reply_text}"


def _until(one: SetAsideKind) -> int:
    """Seconds."""
    return max(0, int(one.retry_at / 1000 - time.time()))


def _age(contents: SpoolContents) -> int | None:
    return None if contents.oldest is None else max(0, int(time.time() - contents.oldest / 1000))
