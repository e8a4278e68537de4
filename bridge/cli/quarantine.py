"""`bridge quarantine`: bodies that were no events when they came, and what becomes of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.text import Text

from bridge.broker import letterfile
from bridge.broker.letterfile import LetterFile
from bridge.broker.quarantine import WantedBodies, document
from bridge.cli import by_hand
from bridge.cli.by_hand import (
    ERRORS,
    WHERE,
    DryRun,
    Everything,
    Ids,
    Json,
    Limit,
    Older,
    Rate,
    To,
    Yes,
    Younger,
)  # fmt: skip
from bridge.cli.console import fail, fails_with, people, print_json, print_rows
from bridge.events import canonical_name
from bridge.roles import quarantine
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.broker.parked import Found
    from bridge.broker.quarantine import Body
    from bridge.roles.by_hand import Look

app = typer.Typer(
    help="The quarantine: bodies that were no events when they came. Look, publish what is one today, let go.",
    no_args_is_help=True,
)

_NO_EVENT = "no event"

Reason = Annotated[str, typer.Option("--reason", help="Only those whose reason contains this.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="Only those that are read as this event today; may be repeated."),
]


@app.command(name="list", epilog=f"Example: bridge quarantine list --older-than 2h\n\n{WHERE}")
@fails_with(*ERRORS)
def list_(
    context: typer.Context,
    *,
    reason: Reason = "",
    event: Events = None,
    older_than: Older = None,
    younger_than: Younger = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the bodies, oldest first, and what each is read as today. None is taken away, and their order stays.

    Looks at the first 10,000, and says where there are more.
    """
    settings = by_hand.quiet(context)
    wanted = _wanted(None, reason, event, older_than, younger_than)
    found = asyncio.run(quarantine.look(settings, wanted, limit=limit))
    now = by_hand.now()
    if as_json:
        rows = [_row(body, now) for body in found.letters]
        print_json(
            {"total": found.total, "looked_at": found.seen, "matching": found.matching, "bodies": rows}
        )
        return
    if found.letters:
        print_rows(
            ("ID", "Today", "Reason", "Bytes", "Age"),
            [
                (
                    body.id,
                    body.event or _NO_EVENT,
                    body.reason,
                    f"{body.size:,}",
                    by_hand.readable(body.age(now)),
                )
                for body in found.letters
            ],
        )
    people.print(f"{len(found.letters):,} of {_counted(found.matching)}")
    by_hand.say_what_is_out_of_reach(found.unseen)


@app.command(epilog=f"Example: bridge quarantine show 5f2b6c0d9e8a7f6b5c4d3e2f1a0b9c8d\n\n{WHERE}")
@fails_with(*ERRORS)
def show(
    context: typer.Context,
    body_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    as_json: Json = False,
) -> None:
    """Show one body: why it is here, what it is read as today, its headers and its bytes. It stays where it is."""
    settings = by_hand.quiet(context)
    found = asyncio.run(quarantine.show(settings, body_id))
    if found is None:
        fail(f"there is no body '{body_id}' in the quarantine; see `bridge quarantine list`")
    if as_json:
        print_json(orjson.loads(orjson.dumps(document(found), default=letterfile.plain)))
        return
    for line in _described(found):
        people.print(Text(line))


@app.command(epilog=f"Example: bridge quarantine replay --event hard_bounced\n\n{WHERE}")
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
) -> None:
    """Publish what is an event today under its name, to everybody, as if it came now; what is still none stays.

    Each leaves the quarantine when RabbitMQ has confirmed it. Interrupted, it may simply be run again: an event that is
    published twice has the same id.
    """
    settings = by_hand.quiet(context)
    wanted = _chosen(ids, reason, event, older_than, younger_than, everything=everything)
    found = asyncio.run(quarantine.look(settings, wanted, to_take_out=True))
    still_none = [body for body in found.letters if body.event is None]
    if dry_run:
        _print_counts(found, "chosen; what is an event today would be published")
        return
    done: list[str] = []
    try:
        with by_hand.progress("replaying", found.matching - len(still_none)) as advance:

            def moved(body: Body) -> None:
                done.append(body.id)
                advance()

            unseen = asyncio.run(quarantine.replay(settings, wanted, rate=rate, moved=moved))
    finally:
        people.print(f"replayed {_counted(len(done))}")
    if still_none:
        people.print(f"{_counted(len(still_none))} stayed: still {_NO_EVENT}")
    by_hand.say_what_is_out_of_reach(unseen)
    if ids and still_none:
        fail("; ".join(f"{body.id}: {body.problem}" for body in still_none))
    by_hand.missing(ids, done, "the quarantine")


@app.command(epilog=f"Example: bridge quarantine discard --older-than 7d --to old.jsonl\n\n{WHERE}")
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
) -> None:
    """Let bodies go for good. Each is written to a file first: its bytes, headers and properties, a line each."""
    settings = by_hand.quiet(context)
    wanted = _chosen(ids, reason, event, older_than, younger_than, everything=everything)
    path = to or letterfile.free_name(Path(), "quarantine")
    by_hand.must_not_exist(path)
    found = asyncio.run(quarantine.look(settings, wanted, to_take_out=True))
    if dry_run or not found.letters:
        _print_counts(found, "to be discarded")
        by_hand.missing(ids, [body.id for body in found.letters], "the quarantine")
        return
    if not yes:
        _print_counts(found, f"to be discarded, and kept only in {path}")
        typer.confirm("Discard them?", abort=True)
    # Only what was counted, and agreed to: others may have come since.
    agreed = WantedBodies(ids=frozenset(body.id for body in found.letters))
    done: list[str] = []
    file = LetterFile(path, document)
    try:
        with by_hand.progress("discarding", found.matching) as advance, file:

            def kept(body: Body) -> None:
                done.append(body.id)
                advance()

            unseen = asyncio.run(quarantine.discard(settings, agreed, file=file, kept=kept))
    finally:
        where = f", kept in {file.path}" if done else ""
        people.print(f"discarded {_counted(len(done))}{where}")
    by_hand.say_what_is_out_of_reach(unseen)
    by_hand.missing(ids, done, "the quarantine")


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
        received_before=by_hand.milliseconds_ago(older_than),
        received_after=by_hand.milliseconds_ago(younger_than),
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
    by_hand.one_of(ids, conditions=wanted != WantedBodies(ids=wanted.ids), everything=everything)
    return wanted


def _print_counts(found: Look[Body], what: str) -> None:
    counts = Counter((body.event or _NO_EVENT, body.reason) for body in found.letters)
    if counts:
        rows = [(event, reason, f"{number:,}") for (event, reason), number in sorted(counts.items())]
        print_rows(("Today", "Reason", "Bodies"), rows)
    people.print(f"{_counted(found.matching)} {what}")
    by_hand.say_what_is_out_of_reach(found.unseen)


def _described(found: Found[Body]) -> Iterator[str]:
    body = found.letter
    whole = document(found)
    yield f"id:       {body.id}"
    yield one_line(f"reason:   {body.reason}")
    yield one_line(f"today:    {body.event or f'{_NO_EVENT}: {body.problem}'}")
    yield f"received: {by_hand.at(body.received_at)}, {by_hand.readable(body.age(by_hand.now()))} ago"
    yield from by_hand.message_lines(whole, body.size)


def _row(body: Body, now: int) -> dict[str, Any]:
    return {
        "id": body.id,
        "reason": body.reason,
        "event": body.event,
        "problem": body.problem,
        "received_at": body.received_at,
        "age": body.age(now),
        "bytes": body.size,
    }


def _counted(number: int) -> str:
    """1 -> `1 body`."""
    return f"{number:,} bod{'y' if number == 1 else 'ies'}"
