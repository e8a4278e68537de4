"""`bridge quarantine`: list, show, replay, discard and restore bodies that could not be read as events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.console import fails_with, settings_with_logs
from bridge.cli.help_epilog import BROKER, page
from bridge.cli.options import AsJson, ListJson
from bridge.cli.quarantine_view import QUARANTINE
from bridge.cli.queue_commands import ERRORS, QueueCommands, require_one_selection
from bridge.cli.queue_options import (
    After,
    CountOnly,
    Everything,
    Ids,
    KeptFile,
    Limit,
    Older,
    Rate,
    To,
    Yes,
    Younger,
)
from bridge.cli.queue_restore import restore_messages
from bridge.cli.times import milliseconds_ago
from bridge.dead_letters.quarantine import QuarantineFilter
from bridge.events import canonical_name
from bridge.operations.quarantine import quarantine_operations

if TYPE_CHECKING:
    from bridge.dead_letters.quarantine import QuarantinedBody

app = typer.Typer(
    help="The quarantine: bodies that could not be read as events. List, show, replay and discard them, and put them back.",
    epilog=page("quarantine list", *BROKER),
    no_args_is_help=True,
    add_completion=False,
)

Reason = Annotated[str, typer.Option("--reason", help="Only those whose reason contains this text.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="Only those that can be read as this event now; may be repeated."),
]


@app.command(name="list", epilog=page("quarantine list --older-than 2h", *BROKER))
@fails_with(*ERRORS)
def list_(
    context: typer.Context,
    *,
    reason: Reason = "",
    event: Events = None,
    older_than: Older = None,
    younger_than: Younger = None,
    limit: Limit = None,
    after: After = None,
    as_json: ListJson = False,
) -> None:
    """List the bodies, oldest first, and the event that each can be read as now. They stay in the queue, in their order.

    Reads the first 10,000 messages, and says if there are more.
    """
    wanted = _filter(None, reason, event, older_than, younger_than)
    _commands(context, as_json=as_json).list_messages(wanted.matches, limit=limit, after=after)


@app.command(epilog=page("quarantine show 5f2b6c0d9e8a7f6b5c4d3e2f1a0b9c8d", *BROKER))
@fails_with(*ERRORS)
def show(
    context: typer.Context,
    body_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show one body: why it is here, what it can be read as now, its headers and its bytes. It stays in the queue."""
    _commands(context, as_json=as_json).show(body_id)


@app.command(epilog=page("quarantine replay --event hard_bounced", *BROKER))
@fails_with(*ERRORS)
def replay(
    context: typer.Context,
    ids: Ids = None,
    *,
    reason: Reason = "",
    event: Events = None,
    older_than: Older = None,
    younger_than: Younger = None,
    everything: Everything = False,
    rate: Rate = 100.0,
    dry_run: CountOnly = False,
    as_json: AsJson = False,
) -> None:
    """Publish bodies that can be read as events now, under their names, to all queues. The others stay.

    Each is removed from the quarantine after RabbitMQ has confirmed it. After an interruption the command can be run again:
    an event that is published twice has the same id.
    """
    commands = _commands(context, as_json=as_json)
    wanted = _required(_filter(ids, reason, event, older_than, younger_than), everything=everything)
    commands.replay(wanted.matches, ids=ids, rate=rate, dry_run=dry_run)


@app.command(epilog=page("quarantine discard --older-than 7d --to old.jsonl", *BROKER))
@fails_with(*ERRORS)
def discard(
    context: typer.Context,
    ids: Ids = None,
    *,
    reason: Reason = "",
    event: Events = None,
    older_than: Older = None,
    younger_than: Younger = None,
    everything: Everything = False,
    to: To = None,
    yes: Yes = False,
    dry_run: CountOnly = False,
    as_json: AsJson = False,
) -> None:
    """Remove bodies for good. Each is written to a file first, one line with bytes, headers and properties."""
    commands = _commands(context, as_json=as_json)
    wanted = _required(_filter(ids, reason, event, older_than, younger_than), everything=everything)
    commands.discard(wanted.matches, ids=ids, to=to, yes=yes, dry_run=dry_run)


@app.command(epilog=page("quarantine restore quarantine-20260102T030405Z.jsonl", *BROKER))
@fails_with(*ERRORS)
def restore(
    context: typer.Context,
    file: KeptFile,
    *,
    dry_run: CountOnly = False,
    as_json: AsJson = False,
) -> None:
    """Put discarded bodies back into the quarantine, from the file that `discard` has written.

    They come back with their headers, behind those that are there. A body that is there already is left out, so the command
    can be run again after an interruption.
    """
    operations = quarantine_operations(settings_with_logs(context, "warning"))
    restore_messages(operations, QUARANTINE, file, dry_run=dry_run, as_json=as_json)


def _commands(context: typer.Context, *, as_json: bool) -> QueueCommands[QuarantinedBody]:
    settings = settings_with_logs(context, "warning")
    return QueueCommands(quarantine_operations(settings), QUARANTINE, as_json)


def _filter(
    ids: list[str] | None,
    reason: str,
    events: list[str] | None,
    older_than: float | None,
    younger_than: float | None,
) -> QuarantineFilter:
    return QuarantineFilter(
        ids=frozenset(ids or ()),
        events=frozenset(map(canonical_name, events or ())),
        reason=reason,
        received_before=milliseconds_ago(older_than),
        received_after=milliseconds_ago(younger_than),
    )


def _required(wanted: QuarantineFilter, *, everything: bool) -> QuarantineFilter:
    conditions = wanted != QuarantineFilter(ids=wanted.ids)
    require_one_selection(wanted.ids, conditions=conditions, everything=everything)
    return wanted
