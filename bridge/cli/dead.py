"""`bridge dead`: list, show, replay and discard the dead letters."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from bridge.cli import dead_letters_view, queue_messages
from bridge.cli.console import fail, fails_with, print_json, terminal
from bridge.cli.help_epilog import BROKER, page
from bridge.cli.lists import print_list
from bridge.cli.options import AsJson, ListJson
from bridge.cli.queue_messages import (
    ERRORS,
    After,
    DryRun,
    Everything,
    Ids,
    Limit,
    Older,
    Rate,
    To,
    Yes,
    Younger,
)
from bridge.dead_letters import message_file
from bridge.dead_letters.message_file import MessageFile
from bridge.dead_letters.queue_reader import DeadLetterFilter
from bridge.events import canonical_name
from bridge.operations import dead_letters
from bridge.timestamps import unix_ms_now

if TYPE_CHECKING:
    from bridge.dead_letters.queue_reader import DeadLetter

app = typer.Typer(
    help="Dead letters: messages that could not be handled. List, show, replay and discard them.",
    epilog=page("dead list", *BROKER),
    no_args_is_help=True,
)

_WHERE = "the dead letters"

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
    settings = queue_messages.load_settings(context)
    found = asyncio.run(
        dead_letters.list_dead_letters(settings, _filter(None, reason, event, older_than, younger_than))
    )
    shown = queue_messages.part_of(found.letters, limit=limit, after=after, where=_WHERE, as_json=as_json)
    now = unix_ms_now()
    if as_json:
        rows = (dead_letters_view.row(letter, now) for letter in shown.rows)
        print_list(rows, total=len(found.letters), following=shown.following, out_of_reach=found.unseen)
        return
    dead_letters_view.print_letters(shown.rows, now)
    queue_messages.print_shown(shown, dead_letters_view.counted(len(found.letters)), found.unseen)


@app.command(epilog=page("dead show 5f2b6c0d9e8a7f6b5c4d3e2f1a0b9c8d", *BROKER))
@fails_with(*ERRORS)
def show(
    context: typer.Context,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Event id, as `list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: why it died, what was tried, its headers and its body. It stays in the queue."""
    settings = queue_messages.load_settings(context)
    found = asyncio.run(dead_letters.show(settings, letter_id))
    if found is None:
        fail(f"there is no dead letter '{letter_id}'; see `bridge dead list`")
    if as_json:
        print_json(message_file.as_json(message_file.dead_letter_document(found)))
        return
    for line in dead_letters_view.describe(found, unix_ms_now()):
        terminal.print(Text(line))


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
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Move dead letters back to the worker's queue, with the same event id and without attempts.

    Each is removed from the dead letters after RabbitMQ has confirmed it in the other queue. After an interruption the
    command can be run again: the worker ignores an event that it has handled.
    """
    settings = queue_messages.load_settings(context)
    wanted = _required_filter(ids, reason, event, older_than, younger_than, everything)
    found = asyncio.run(dead_letters.list_dead_letters(settings, wanted, to_take_out=True))
    if dry_run:
        dead_letters_view.print_dry_run(found, "replayed", ids, as_json=as_json)
        return
    done: list[str] = []
    unseen: int | None = None
    try:
        with queue_messages.progress("replaying", len(found.letters)) as advance:

            def moved(letter: DeadLetter) -> None:
                done.append(letter.id)
                advance()

            unseen = asyncio.run(dead_letters.replay(settings, wanted, rate=rate, moved=moved))
    finally:
        if as_json:
            gone = queue_messages.absent(ids, done)
            print_json(
                queue_messages.outcome(
                    "replayed", chosen=len(found.letters), done=len(done), missing=gone, unseen=unseen
                )
            )
        else:
            terminal.print(f"replayed {dead_letters_view.counted(len(done))}")
    queue_messages.print_unread(unseen)
    queue_messages.fail_for_missing_ids(ids, done, _WHERE)


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
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove dead letters for good. Each is written to a file first, one line with body, headers and properties."""
    settings = queue_messages.load_settings(context)
    wanted = _required_filter(ids, reason, event, older_than, younger_than, everything)
    path = to or message_file.unused_path(Path(), "dead-letters")
    queue_messages.must_not_exist(path)
    found = asyncio.run(dead_letters.list_dead_letters(settings, wanted, to_take_out=True))
    if dry_run or not found.letters:
        dead_letters_view.print_dry_run(found, "discarded", ids, as_json=as_json)
        queue_messages.fail_for_missing_ids(ids, [letter.id for letter in found.letters], _WHERE)
        return
    if not yes and not as_json:
        dead_letters_view.print_counts(found, f"to be discarded, and kept only in {path}")
    queue_messages.agree("Discard them?", yes=yes, as_json=as_json)
    # Only those that were counted and confirmed: others may have come since.
    agreed = DeadLetterFilter(ids=frozenset(letter.id for letter in found.letters))
    done: list[str] = []
    unseen: int | None = None
    file = MessageFile(path, message_file.dead_letter_document)
    try:
        with queue_messages.progress("discarding", len(found.letters)) as advance, file:

            def kept(letter: DeadLetter) -> None:
                done.append(letter.id)
                advance()

            unseen = asyncio.run(dead_letters.discard(settings, agreed, file=file, kept=kept))
    finally:
        if as_json:
            told = queue_messages.outcome(
                "discarded",
                chosen=len(found.letters),
                done=len(done),
                missing=queue_messages.absent(ids, done),
                unseen=unseen,
                file=str(file.path) if done else None,
            )
            print_json(told)
        else:
            where = f", kept in {file.path}" if done else ""
            terminal.print(f"discarded {dead_letters_view.counted(len(done))}{where}")
    queue_messages.print_unread(unseen)
    queue_messages.fail_for_missing_ids(ids, done, _WHERE)


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
        died_before=queue_messages.milliseconds_ago(older_than),
        died_after=queue_messages.milliseconds_ago(younger_than),
    )


def _required_filter(
    ids: list[str] | None,
    reasons: list[str] | None,
    events: list[str] | None,
    older_than: float | None,
    younger_than: float | None,
    everything: bool,  # noqa: FBT001 -- the command's own flag, passed on in its order
) -> DeadLetterFilter:
    wanted = _filter(ids, reasons, events, older_than, younger_than)
    queue_messages.require_one_selection(
        ids, conditions=wanted != DeadLetterFilter(ids=wanted.ids), everything=everything
    )
    return wanted
