"""`bridge replay`: archived events once more, to one queue or to everybody."""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bridge.amqp.errors import BrokerUnavailableError
from bridge.broker.archive_selection import InvalidMomentError, Selection, moment
from bridge.cli.console import BAD_USAGE, fail, fails_with, print_json, settings_of
from bridge.cli.help_epilog import BROKER, page
from bridge.cli.lists import print_rows, print_summary
from bridge.cli.options import AsJson
from bridge.operations import replay as role
from bridge.roles.lifetime import running, until
from bridge.roles.shutdown import until_signal
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.settings.sections import Settings

INTERRUPTED: Final = 130
"""Exit code: stopped by Ctrl-C before the end, as a shell counts it."""

_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_.:@#,/+ -]{1,255}")
"""What our library can send of those that RabbitMQ allows."""

app = typer.Typer()


@app.command(
    epilog=page(
        "replay --since 2h --event clicked --to analytics --dry-run",
        *BROKER,
        codes={
            INTERRUPTED: "interrupted; the offset that is printed is where to go on, and nothing before it is missing"
        },
        ends_in_order=True,
    )
)
@fails_with()
def replay(
    context: typer.Context,
    *,
    since: Annotated[
        str, typer.Option(help="Received at this time or later: 90s, 30m, 2h, 7d ago, or ISO 8601.")
    ] = "",
    before: Annotated[str, typer.Option("--until", help="Received before this time.")] = "",
    event: Annotated[
        list[str] | None, typer.Option(help="Events of this name; may be given several times.")
    ] = None,
    message_id: Annotated[
        list[str] | None, typer.Option(help="About this message of the provider; several times, too.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Publish to this queue, and to nobody else.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Publish through the exchange, to everybody, as at first.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Publish nothing; count.")] = False,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Events a second at the most.")] = None,
    from_offset: Annotated[
        int | None, typer.Option(min=0, help="Go on where a replay was interrupted, as it has printed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish events from the archive once more, with their own bytes and ids; at least once.

    Time is that at which the bridge received an event (its header `received-at`), to the millisecond. Reading starts
    in the archive a little before --since, and goes on to its end: what has waited in a spool was archived later.
    With --again the events are archived once more, too.
    """
    if (again and to is not None) or not (again or to is not None or dry_run):
        fail("say where to: either --to QUEUE or --again (or --dry-run, to count)", BAD_USAGE)
    if to is not None and not _QUEUE_NAME.fullmatch(to):
        fail(f"--to: no queue can be called '{to}'", BAD_USAGE)
    settings = settings_of(context)
    logs.configure_for(settings, level="warning")
    selection = Selection.of(event or (), message_id or (), since=_moment(since), until=_moment(before))
    order = role.Order(selection, to, from_offset=from_offset, rate=rate, dry_run=dry_run)
    progress = role.Progress()
    try:
        whole = _replayed(settings, order, progress)
    except (role.ReplayError, BrokerUnavailableError) as error:
        if progress.next is not None:
            _tell(order, progress, as_json=as_json, whole=False)
        fail(str(error))
    _tell(order, progress, as_json=as_json, whole=whole)
    if not whole:
        raise typer.Exit(INTERRUPTED)


def _moment(text: str) -> datetime | None:
    try:
        return moment(text, now=datetime.now(UTC)) if text else None
    except InvalidMomentError as error:
        fail(str(error), BAD_USAGE)


def _replayed(settings: Settings, order: role.Order, progress: role.Progress) -> bool:
    """Whether it came to its end before it was interrupted."""
    whole = False

    async def main(stop: asyncio.Event) -> None:
        nonlocal whole
        with _bar(progress) as moved:
            async with running(role.replay(settings, order, progress, moved), name="replay") as replaying:
                await until(stop, replaying)
                whole = replaying.done()

    until_signal(main)
    return whole


@contextmanager
def _bar(progress: role.Progress) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("reading"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[selected]:,} selected"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        bar = shown.add_task("reading", total=None, selected=0)

        def moved() -> None:
            first, last, then = progress.first, progress.last, progress.next
            if first is not None and last is not None and then is not None:
                shown.update(
                    bar, total=last - first + 1, completed=then - first, selected=progress.selected.total()
                )

        yield moved


def _tell(order: role.Order, progress: role.Progress, *, as_json: bool, whole: bool) -> None:
    if as_json:
        print_json(
            {
                "scanned": progress.scanned,
                "events": dict(progress.selected),
                "total": progress.selected.total(),
                "published": not order.dry_run,
                "finished": whole,
                "next_offset": progress.next,
            }
        )
        return
    heads = ("Event", "Would be replayed" if order.dry_run else "Replayed")
    print_rows(heads, progress.selected.most_common())
    print_summary(
        f"{progress.selected.total():,} of {progress.scanned:,} archived events"
        + (" would be replayed" if order.dry_run else f" are in {_destination(order)}")
    )
    if progress.next is not None:
        what = "what is archived from now on" if whole else "interrupted; to go on"
        print_summary(f"{what}: {_from_there(order, progress.next)}")


def _destination(order: role.Order) -> str:
    return "RabbitMQ again, for everybody" if order.queue is None else f"the queue '{order.queue}'"


def _from_there(order: role.Order, offset: int) -> str:
    """The options that change; times that were said as so long ago are fixed now."""
    times = {"--since": order.selection.since, "--until": order.selection.until}
    fixed = [f"{option} {at.isoformat()} " for option, at in times.items() if at is not None]
    return f"the same with {''.join(fixed)}--from-offset {offset}"
