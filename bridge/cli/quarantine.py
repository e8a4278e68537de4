"""`bridge quarantine`: bodies that were no events when they came, and what becomes of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from bridge.cli import quarantine_view, queue_messages
from bridge.cli.console import fail, fails_with, people, print_json
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
from bridge.dead_letters.message_file import LetterFile
from bridge.dead_letters.quarantine import WantedBodies, document
from bridge.events import canonical_name
from bridge.operations import quarantine

if TYPE_CHECKING:
    from bridge.dead_letters.quarantine import Body

app = typer.Typer(
    help="The quarantine: bodies that were no events when they came. Look, publish what is one today, let go.",
    epilog=page("quarantine list", *BROKER),
    no_args_is_help=True,
)

Reason = Annotated[str, typer.Option("--reason", help="Only those whose reason contains this.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="Only those that are read as this event today; may be repeated."),
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
    """List the bodies, oldest first, and what each is read as today. None is taken away, and their order stays.

    Looks at the first 10,000, and says where there are more.
    """
    settings = queue_messages.quiet(context)
    wanted = _wanted(None, reason, event, older_than, younger_than)
    found = asyncio.run(quarantine.look(settings, wanted))
    shown = queue_messages.part_of(
        found.letters, limit=limit, after=after, where="the quarantine", as_json=as_json
    )
    now = queue_messages.now()
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
    """Show one body: why it is here, what it is read as today, its headers and its bytes. It stays where it is."""
    settings = queue_messages.quiet(context)
    found = asyncio.run(quarantine.show(settings, body_id))
    if found is None:
        fail(f"there is no body '{body_id}' in the quarantine; see `bridge quarantine list`")
    if as_json:
        print_json(message_file.as_json(document(found)))
        return
    for line in quarantine_view.described(found):
        people.print(Text(line))


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
    """Publish what is an event today under its name, to everybody, as if it came now; what is still none stays.

    Each leaves the quarantine when RabbitMQ has confirmed it. Interrupted, it may simply be run again: an event that is
    published twice has the same id.
    """
    settings = queue_messages.quiet(context)
    wanted = _chosen(ids, reason, event, older_than, younger_than, everything=everything)
    found = asyncio.run(quarantine.look(settings, wanted, to_take_out=True))
    still_none = [body for body in found.letters if body.event is None]
    if dry_run:
        quarantine_view.print_dry_run(found, "replayed", ids, as_json=as_json)
        return
    done: list[str] = []
    unseen: int | None = None
    try:
        with queue_messages.progress("replaying", len(found.letters) - len(still_none)) as advance:

            def moved(body: Body) -> None:
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
            people.print(f"replayed {quarantine_view.counted(len(done))}")
    if still_none and not as_json:
        people.print(f"{quarantine_view.counted(len(still_none))} stayed: still {quarantine_view.NO_EVENT}")
    queue_messages.say_what_is_out_of_reach(unseen)
    if ids and still_none:
        fail("; ".join(f"{body.id}: {body.problem}" for body in still_none))
    queue_messages.missing(ids, done, "the quarantine")


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
    """Let bodies go for good. Each is written to a file first: its bytes, headers and properties, a line each."""
    settings = queue_messages.quiet(context)
    wanted = _chosen(ids, reason, event, older_than, younger_than, everything=everything)
    path = to or message_file.free_name(Path(), "quarantine")
    queue_messages.must_not_exist(path)
    found = asyncio.run(quarantine.look(settings, wanted, to_take_out=True))
    if dry_run or not found.letters:
        quarantine_view.print_dry_run(found, "discarded", ids, as_json=as_json)
        queue_messages.missing(ids, [body.id for body in found.letters], "the quarantine")
        return
    if not yes and not as_json:
        quarantine_view.print_counts(found, f"to be discarded, and kept only in {path}")
    queue_messages.agree("Discard them?", yes=yes, as_json=as_json)
    # Only what was counted, and agreed to: others may have come since.
    agreed = WantedBodies(ids=frozenset(body.id for body in found.letters))
    done: list[str] = []
    unseen: int | None = None
    file = LetterFile(path, document)
    try:
        with queue_messages.progress("discarding", len(found.letters)) as advance, file:

            def kept(body: Body) -> None:
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
            people.print(f"discarded {quarantine_view.counted(len(done))}{where}")
    queue_messages.say_what_is_out_of_reach(unseen)
    queue_messages.missing(ids, done, "the quarantine")


def _wanted(
    ids: list[str] | None,
    reason: str,
    events: list[str] | None,
    older_than: float | None,
    younger_than: float | None,
) -> WantedBodies:
    return WantedBodies(
        ids=frozenset(ids or ()),
        events=frozenset(map(canonical_name, events or ())),
        reason=reason,
        received_before=queue_messages.milliseconds_ago(older_than),
        received_after=queue_messages.milliseconds_ago(younger_than),
    )


def _chosen(
    ids: list[str] | None,
    reason: str,
    events: list[str] | None,
    older_than: float | None,
    younger_than: float | None,
    *,
    everything: bool,
) -> WantedBodies:
    wanted = _wanted(ids, reason, events, older_than, younger_than)
    queue_messages.one_of(ids, conditions=wanted != WantedBodies(ids=wanted.ids), everything=everything)
    return wanted
