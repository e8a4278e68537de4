"""`bridge policy`: tries another policy on the events of the archive."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bridge.amqp.errors import BrokerUnavailableError
from bridge.broker.archive_selection import ArchiveSelection, InvalidTimeError, parse_time
from bridge.cli.console import BAD_USAGE, fail, fails_with, print_json, settings_with_logs
from bridge.cli.help_epilog import BROKER, LIST, page
from bridge.cli.lists import Head, print_rows, print_summary
from bridge.cli.options import AsJson
from bridge.cli.times import time_cell
from bridge.operations import policy as operations
from bridge.roles.shutdown import run_until_signal
from bridge.suppression.errors import StoreError
from bridge.tasks import background_task, wait_while_running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.cli.lists import Cell
    from bridge.operations.policy import DryRun
    from bridge.settings.list_sections import Suppression
    from bridge.settings.sections import Settings
    from bridge.suppression.entries import Entry
    from bridge.suppression.rehearsal import Difference

INTERRUPTED: Final = 130
"""Exit code: interrupted by Ctrl-C, as in a shell."""

_HEADS: Final = (
    "What",
    Head("Address", whole=True),
    Head("Reason", min_width=11),
    "Count",
    Head("Last, UTC", min_width=10),
    "Expires",
)

app = typer.Typer(
    help="What puts an address on the list: try other settings on past events.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    epilog=page("policy dry-run --since 7d", *BROKER, *LIST),
)


@app.callback()
def policy() -> None:
    """What puts an address on the list: try other settings on past events."""


@app.command(
    "dry-run",
    epilog=page(
        "policy dry-run --since 7d --set events=hard_bounced,complained,soft_bounced --set soft_bounce_threshold=5",
        *BROKER,
        *LIST,
        codes={INTERRUPTED: "interrupted: nothing is said, as not all events were read"},
        ends_in_order=True,
    ),
)
@fails_with(StoreError, BrokerUnavailableError, operations.NoArchiveError)
def dry_run(
    context: typer.Context,
    *,
    since: Annotated[
        str, typer.Option(help="Received at this time or later: 90s, 30m, 2h, 7d ago, or ISO 8601.")
    ] = "",
    before: Annotated[str, typer.Option("--until", help="Received before this time.")] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of [suppression] with another value; may be given several times.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play the archive against changed settings, and say what the list would be instead. Nothing is changed.

    The settings are those in force: of --config, or of the environment; and on top of them those of --set. The list that
    they would make of these events is compared with the list as it is: what would be added, be gone, or end at another
    time. It is what `bridge replay` of the same events would make of an empty list; what persons have taken off stays
    off, and what they have put on stays. The provider is not asked: events whose address is not known are left out.
    """
    settings = settings_with_logs(context, "warning")
    section = operations.changed_section(settings.suppression, _values(changes or []))
    selection = ArchiveSelection.of(operations.NAMES, (), since=_moment(since), until=_moment(before))
    done = operations.DryRun()
    if not _run(settings, section, selection, done) or done.difference is None:
        fail("interrupted before all events were read", INTERRUPTED)
    if as_json:
        print_json(_document(done, done.difference))
    else:
        _print(done, done.difference)


def _values(changes: list[str]) -> dict[str, str]:
    values = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            fail(f"--set is written as NAME=VALUE; '{change}' is not", BAD_USAGE)
        values[name.strip().removeprefix("suppression.")] = value
    return values


def _moment(text: str) -> datetime | None:
    try:
        return parse_time(text, now=datetime.now(UTC)) if text else None
    except InvalidTimeError as error:
        fail(str(error), BAD_USAGE)


def _run(settings: Settings, section: Suppression, selection: ArchiveSelection, done: DryRun) -> bool:
    """Read the archive. Returns whether that was finished, not interrupted."""
    finished = False

    async def main(stop: asyncio.Event) -> None:
        nonlocal finished
        with _progress_bar(done) as moved:
            trying = operations.dry_run(settings, section, selection, done, moved)
            async with background_task(trying, name="policy.dry_run") as task:
                await wait_while_running(stop, task)
                finished = task.done()

    run_until_signal(main)
    return finished


@contextmanager
def _progress_bar(done: DryRun) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("reading"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[used]:,} used"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        bar = shown.add_task("reading", total=None, used=0)

        def moved() -> None:
            first, last, then = done.progress.first, done.progress.last, done.progress.next
            if first is not None and last is not None and then is not None:
                shown.update(bar, total=last - first + 1, completed=then - first, used=done.used)

        yield moved


def _document(done: DryRun, difference: Difference) -> dict[str, Any]:
    return {
        "scanned": done.progress.scanned,
        "events": dict(done.progress.selected),
        "used": done.used,
        "unknown": done.unknown,
        "added": [_entry(entry) for entry in difference.added],
        "gone": [_entry(entry) for entry in difference.gone],
        "changed": [{"before": _entry(one.before), "after": _entry(one.after)} for one in difference.changed],
        "same": difference.same,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    document = entry.document()
    for name in ("evidence", "created_at", "updated_at"):  # of no entry that only might be
        del document[name]
    return document


def _print(done: DryRun, difference: Difference) -> None:
    rows = [
        *(_row("would be added", entry) for entry in difference.added),
        *(_row("would be gone", entry) for entry in difference.gone),
        *(_row("would end then", one.after) for one in difference.changed),
    ]
    if rows:
        print_rows(_HEADS, rows)
    print_summary(
        f"{len(difference.added):,} entries would be added, {len(difference.gone):,} gone, "
        f"{len(difference.changed):,} end at another time, {difference.same:,} as they are; by {done.used:,} events of "
        f"{done.progress.scanned:,} in the archive"
    )
    if done.unknown:
        print_summary(f"left out: {done.unknown:,} events whose address is not known")


def _row(what: str, entry: Entry) -> tuple[str | int | Cell, ...]:
    expires = "never" if entry.expires_at is None else time_cell(entry.expires_at)
    return what, entry.address, entry.reason.value, entry.count, time_cell(entry.last_event_at), expires
