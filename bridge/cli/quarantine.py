"""`bridge quarantine`: list, show, replay and discard bodies that could not be read as events."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from bridge.cli import quarantine_view, queue_messages
from bridge.cli.console import fail, fails_with, print_json, terminal
from bridge.cli.help_epilog import BROKER, page
from bridge.cli.lists import print_list
from bridge.cli.options import AsJson, ListJson
from bridge.cli.queue_messages import (  # fmt: skip
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
from bridge.dead_letters.quarantine import QuarantineFilter, quarantine_document
from bridge.events import canonical_name
from bridge.operations import quarantine
from bridge.timestamps import unix_ms_now

if TYPE_CHECKING:
    from bridge.dead_letters.quarantine import QuarantinedBody

app = typer.Typer(
    help="The quarantine: bodies that could not be read as events. List, show, replay and discard them.",
    epilog=page("quarantine list", *BROKER),
    no_args_is_help=True,
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
    settings = queue_messages.load_settings(context)
    wanted = _filter(None, reason, event, older_than, younger_than)
    found = asyncio.run(quarantine.list_bodies(settings, wanted))
    shown = queue_messages.part_of(
        found.letters, limit=limit, after=after, where="the quarantine", as_json=as_json
    )
    now = unix_ms_now()
    if as_json:
        rows = (quarantine_view.row(body, now) for body in shown.rows)
        print_list(rows, total=len(found.letters), following=shown.following, out_of_reach=found.unseen)
        return
    quarantine_view.print_bodies(shown.rows, now)
    queue_messages.print_shown(shown, quarantine_view.counted(len(found.letters)), found.unseen)


@app.command(epilog=page("quarantine show 5f2b6c0d9e8a7f6b5c4d3e2f1a0b9c8d", *BROKER))
@fails_with(*ERRORS)
def show(
    context: typer.Context,
    body_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show one body: why it is here, what it can be read as now, its headers and its bytes. It stays in the queue."""
    settings = queue_messages.load_settings(context)
    found = asyncio.run(quarantine.show(settings, body_id))
    if found is None:
        fail(f"there is no body '{body_id}' in the quarantine; see `bridge quarantine list`")
    if as_json:
        print_json(message_file.as_json(quarantine_document(found)))
        return
    for line in quarantine_view.described(found):
        terminal.print(Text(line))


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
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Publish bodies that can be read as events now, under their names, to all queues. The others stay.

    Each is removed from the quarantine after RabbitMQ has confirmed it. After an interruption the command can be run again:
    an event that is published twice has the same id.
    """
    settings = queue_messages.load_settings(context)
    wanted = _required_filter(ids, reason, event, older_than, younger_than, everything=everything)
    found = asyncio.run(quarantine.list_bodies(settings, wanted, to_take_out=True))
    still_none = [body for body in found.letters if body.event is None]
    if dry_run:
        quarantine_view.print_dry_run(found, "replayed", ids, as_json=as_json)
        return
    done: list[str] = []
    unseen: int | None = None
    try:
        with queue_messages.progress("replaying", len(found.letters) - len(still_none)) as advance:

            def moved(body: QuarantinedBody) -> None:
                done.append(body.id)
                advance()

            unseen = asyncio.run(quarantine.replay(settings, wanted, rate=rate, moved=moved))
    finally:
        if as_json:
            told = queue_messages.outcome(
                "replayed",
                chosen=len(found.letters),
                done=len(done),
                missing=queue_messages.absent(ids, [body.id for body in found.letters]),
                unseen=unseen,
                still_no_event=len(still_none),
            )
            print_json(told)
        else:
            terminal.print(f"replayed {quarantine_view.counted(len(done))}")
    if still_none and not as_json:
        terminal.print(f"{quarantine_view.counted(len(still_none))} stayed: still {quarantine_view.NO_EVENT}")
    queue_messages.print_unread(unseen)
    if ids and still_none:
        fail("; ".join(f"{body.id}: {body.problem}" for body in still_none))
    queue_messages.fail_for_missing_ids(ids, done, "the quarantine")


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
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove bodies for good. Each is written to a file first, one line with bytes, headers and properties."""
    settings = queue_messages.load_settings(context)
    wanted = _required_filter(ids, reason, event, older_than, younger_than, everything=everything)
    path = to or message_file.unused_path(Path(), "quarantine")
    queue_messages.must_not_exist(path)
    found = asyncio.run(quarantine.list_bodies(settings, wanted, to_take_out=True))
    if dry_run or not found.letters:
        quarantine_view.print_dry_run(found, "discarded", ids, as_json=as_json)
        queue_messages.fail_for_missing_ids(ids, [body.id for body in found.letters], "the quarantine")
        return
    if not yes and not as_json:
        quarantine_view.print_counts(found, f"to be discarded, and kept only in {path}")
    queue_messages.agree("Discard them?", yes=yes, as_json=as_json)
    # Only those that were counted and confirmed: others may have come since.
    agreed = QuarantineFilter(ids=frozenset(body.id for body in found.letters))
    done: list[str] = []
    unseen: int | None = None
    file = MessageFile(path, quarantine_document)
    try:
        with queue_messages.progress("discarding", len(found.letters)) as advance, file:

            def kept(body: QuarantinedBody) -> None:
                done.append(body.id)
                advance()

            unseen = asyncio.run(quarantine.discard(settings, agreed, file=file, kept=kept))
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
            terminal.print(f"discarded {quarantine_view.counted(len(done))}{where}")
    queue_messages.print_unread(unseen)
    queue_messages.fail_for_missing_ids(ids, done, "the quarantine")


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
        received_before=queue_messages.milliseconds_ago(older_than),
        received_after=queue_messages.milliseconds_ago(younger_than),
    )


def _required_filter(
    ids: list[str] | None,
    reason: str,
    events: list[str] | None,
    older_than: float | None,
    younger_than: float | None,
    *,
    everything: bool,
) -> QuarantineFilter:
    wanted = _filter(ids, reason, events, older_than, younger_than)
    queue_messages.require_one_selection(
        ids, conditions=wanted != QuarantineFilter(ids=wanted.ids), everything=everything
    )
    return wanted
