"""`bridge replay`: publishes archived events again, to one queue or to all."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bridge.amqp.errors import BrokerUnavailableError
from bridge.broker.archive_selection import ArchiveSelection, InvalidTimeError, parse_time
from bridge.cli.console import BAD_USAGE, fail, fails_with, print_json, settings_with_logs
from bridge.cli.help_epilog import BROKER, page
from bridge.cli.lists import print_rows, print_summary
from bridge.cli.options import AsJson
from bridge.operations import replay as role
from bridge.operations.archive_scan import ArchiveProgress
from bridge.roles.shutdown import run_until_signal
from bridge.tasks import background_task, wait_while_running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.settings.sections import Settings

INTERRUPTED: Final = 130
"""Exit code: interrupted by Ctrl-C, as in a shell."""

app = typer.Typer(add_completion=False)


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
        list[str] | None, typer.Option(help="Only events of this message; may be given several times.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Publish to this queue only.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Publish through the exchange, to all queues, as at first.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="The maximum number of events a second.")
    ] = None,
    from_offset: Annotated[
        int | None, typer.Option(min=0, help="Go on at this offset, which an interrupted replay has printed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish events from the archive again, at least once, with the same bodies and ids.

    --since and --until refer to the time at which the bridge received an event (its header `received-at`). The archive is
    read from a little before --since to its end: events that have waited in a spool were archived later. With --again the
    events are also archived again.
    """
    if (again and to is not None) or not (again or to is not None or dry_run):
        fail("give either --to QUEUE or --again (or --dry-run, to count)", BAD_USAGE)
    if to is not None and not role.is_queue_name(to):
        fail(f"--to: '{to}' cannot be the name of a queue", BAD_USAGE)
    settings = settings_with_logs(context, "warning")
    selection = ArchiveSelection.of(
        event or (), message_id or (), since=_moment(since), until=_moment(before)
    )
    order = role.ReplayOrder(selection, to, from_offset=from_offset, rate=rate, dry_run=dry_run)
    progress = ArchiveProgress()
    try:
        finished = _replay(settings, order, progress)
    except (role.ReplayError, BrokerUnavailableError) as error:
        if progress.next is not None:
            _print_result(order, progress, as_json=as_json, finished=False)
        fail(str(error))
    _print_result(order, progress, as_json=as_json, finished=finished)
    if not finished:
        raise typer.Exit(INTERRUPTED)


def _moment(text: str) -> datetime | None:
    try:
        return parse_time(text, now=datetime.now(UTC)) if text else None
    except InvalidTimeError as error:
        fail(str(error), BAD_USAGE)


def _replay(settings: Settings, order: role.ReplayOrder, progress: ArchiveProgress) -> bool:
    """Replay. Returns whether it was finished, not interrupted."""
    finished = False

    async def main(stop: asyncio.Event) -> None:
        nonlocal finished
        with _progress_bar(progress) as moved:
            async with background_task(
                role.replay(settings, order, progress, moved), name="replay"
            ) as replaying:
                await wait_while_running(stop, replaying)
                finished = replaying.done()

    run_until_signal(main)
    return finished


@contextmanager
def _progress_bar(progress: ArchiveProgress) -> Iterator[Callable[[], None]]:
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


def _print_result(
    order: role.ReplayOrder, progress: ArchiveProgress, *, as_json: bool, finished: bool
) -> None:
    if as_json:
        print_json(
            {
                "scanned": progress.scanned,
                "events": dict(progress.selected),
                "total": progress.selected.total(),
                "published": not order.dry_run,
                "finished": finished,
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
        what = "for events archived from now on" if finished else "interrupted; to go on"
        print_summary(f"{what}: {_options_to_continue(order, progress.next)}")


def _destination(order: role.ReplayOrder) -> str:
    return "RabbitMQ again, for all queues" if order.queue is None else f"the queue '{order.queue}'"


def _options_to_continue(order: role.ReplayOrder, offset: int) -> str:
    """The options to go on with: relative times are replaced by absolute ones."""
    times = {"--since": order.selection.since, "--until": order.selection.until}
    fixed = [f"{option} {at.isoformat()} " for option, at in times.items() if at is not None]
    return f"the same options with {''.join(fixed)}--from-offset {offset}"
