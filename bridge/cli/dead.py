"""`bridge dead`: list, show, replay, discard and restore the dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.console import fails_with, settings_with_logs
from bridge.cli.dead_letters_view import DEAD_LETTERS
from bridge.cli.help_epilog import BROKER, page
from bridge.cli.options import AsJson, ListJson
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
from bridge.dead_letters.dead_letter_description import DeadLetterFilter
from bridge.events import canonical_name
from bridge.operations.dead_letters import dead_letter_operations

if TYPE_CHECKING:
    from bridge.dead_letters.dead_letter_description import DeadLetter

app = typer.Typer(
    help="Dead letters: messages that could not be handled. List, show, replay and discard them, and put them back.",
    epilog=page("dead list", *BROKER),
    no_args_is_help=True,
    add_completion=False,
)

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only these; may be repeated.")]
Events = Annotated[list[str] | None, typer.Option("--event", help="Only these; may be repeated.")]


@app.command(name="list", epilog=page("dead list --reason unknown-message --older-than 2h", *BROKER))
@fails_with(*ERRORS)
def list_(
    context: typer.Context,
    *,
    reason: Reasons = None,
    event: Events = None,
    older_than: Older = None,
    younger_than: Younger = None,
    limit: Limit = None,
    after: After = None,
    as_json: ListJson = False,
) -> None:
    """List the dead letters, oldest first. They stay in the queue, in their order.

    Reads the first 10,000 messages, and says if there are more.
    """
    wanted = _filter(None, reason, event, older_than, younger_than)
    _commands(context, as_json=as_json).list_messages(wanted.matches, limit=limit, after=after)


@app.command(epilog=page("dead show 5f2b6c0d9e8a7f6b5c4d3e2f1a0b9c8d", *BROKER))
@fails_with(*ERRORS)
def show(
    context: typer.Context,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Event id, as `list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: why it died, what was tried, its headers and its body. It stays in the queue."""
    _commands(context, as_json=as_json).show(letter_id)


@app.command(epilog=page("dead replay --reason unresolved --rate 20", *BROKER))
@fails_with(*ERRORS)
def replay(
    context: typer.Context,
    ids: Ids = None,
    *,
    reason: Reasons = None,
    event: Events = None,
    older_than: Older = None,
    younger_than: Younger = None,
    everything: Everything = False,
    rate: Rate = 100.0,
    dry_run: CountOnly = False,
    as_json: AsJson = False,
) -> None:
    """Move dead letters back to the worker's queue, with the same event id and without attempts.

    Each is removed from the dead letters after RabbitMQ has confirmed it in the other queue. After an interruption the
    command can be run again: the worker ignores an event that it has handled.
    """
    commands = _commands(context, as_json=as_json)
    wanted = _required(_filter(ids, reason, event, older_than, younger_than), everything=everything)
    commands.replay(wanted.matches, ids=ids, rate=rate, dry_run=dry_run)


@app.command(epilog=page("dead discard --reason malformed --to malformed.jsonl", *BROKER))
@fails_with(*ERRORS)
def discard(
    context: typer.Context,
    ids: Ids = None,
    *,
    reason: Reasons = None,
    event: Events = None,
    older_than: Older = None,
    younger_than: Younger = None,
    everything: Everything = False,
    to: To = None,
    yes: Yes = False,
    dry_run: CountOnly = False,
    as_json: AsJson = False,
) -> None:
    """Remove dead letters for good. Each is written to a file first, one line with body, headers and properties."""
    commands = _commands(context, as_json=as_json)
    wanted = _required(_filter(ids, reason, event, older_than, younger_than), everything=everything)
    commands.discard(wanted.matches, ids=ids, to=to, yes=yes, dry_run=dry_run)


@app.command(epilog=page("dead restore dead-letters-20260102T030405Z.jsonl", *BROKER))
@fails_with(*ERRORS)
def restore(
    context: typer.Context,
    file: KeptFile,
    *,
    dry_run: CountOnly = False,
    as_json: AsJson = False,
) -> None:
    """Put discarded dead letters back, from the file that `discard` or the console has written.

    They come back with their bodies, ids, headers and history, behind those that are there. One whose id is there already is
    left out, so the command can be run again after an interruption.
    """
    operations = dead_letter_operations(settings_with_logs(context, "warning"))
    restore_messages(operations, DEAD_LETTERS, file, dry_run=dry_run, as_json=as_json)


def _commands(context: typer.Context, *, as_json: bool) -> QueueCommands[DeadLetter]:
    settings = settings_with_logs(context, "warning")
    return QueueCommands(dead_letter_operations(settings), DEAD_LETTERS, as_json)


def _filter(
    ids: list[str] | None,
    reasons: list[str] | None,
    events: list[str] | None,
    older_than: float | None,
    younger_than: float | None,
) -> DeadLetterFilter:
    return DeadLetterFilter(
        ids=frozenset(ids or ()),
        reasons=frozenset(reasons or ()),
        events=frozenset(map(canonical_name, events or ())),
        died_before=milliseconds_ago(older_than),
        died_after=milliseconds_ago(younger_than),
    )


def _required(wanted: DeadLetterFilter, *, everything: bool) -> DeadLetterFilter:
    conditions = wanted != DeadLetterFilter(ids=wanted.ids)
    require_one_selection(wanted.ids, conditions=conditions, everything=everything)
    return wanted
