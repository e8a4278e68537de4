"""How bodies in quarantine are shown: lists, counts, and one with all that is known of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from bridge.cli import queue_messages
from bridge.cli.console import print_json
from bridge.cli.lists import Head, print_rows, print_summary
from bridge.dead_letters.quarantine import quarantine_document
from bridge.telemetry.terminal import one_line
from bridge.timestamps import rfc3339_of_milliseconds, unix_ms_now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.dead_letters.quarantine import QuarantinedBody
    from bridge.dead_letters.queue_reader import HeldMessage
    from bridge.operations.queue_messages import MessageList

NO_EVENT: Final = "no event"


def print_bodies(bodies: list[QuarantinedBody], now: int) -> None:
    rows = [
        (body.id, body.event or NO_EVENT, body.reason, body.size, queue_messages.age(body.age(now)))
        for body in bodies
    ]
    print_rows((Head("ID", whole=True), "Now", "Reason", "Bytes", "Age"), rows)


def print_dry_run(
    found: MessageList[QuarantinedBody], verb: str, ids: list[str] | None, *, as_json: bool
) -> None:
    if not as_json:
        would = "chosen; what is an event now would be published"
        print_counts(found, would if verb == "replayed" else f"to be {verb}")
        return
    told = queue_messages.outcome(
        verb,
        chosen=len(found.letters),
        done=0,
        missing=queue_messages.absent(ids, [body.id for body in found.letters]),
        unseen=found.unseen,
        dry_run=True,
        counts=[
            {"event": event, "reason": reason, "count": number} for (event, reason), number in _counts(found)
        ],
    )
    print_json(told)


def print_counts(found: MessageList[QuarantinedBody], what: str) -> None:
    rows = [(event or NO_EVENT, reason, number) for (event, reason), number in _counts(found)]
    print_rows(("Now", "Reason", "Bodies"), rows)
    print_summary(f"{counted(len(found.letters))} {what}")
    queue_messages.print_unread(found.unseen)


def _counts(found: MessageList[QuarantinedBody]) -> list[tuple[tuple[str | None, str], int]]:
    counts = Counter((body.event, body.reason) for body in found.letters)
    return sorted(counts.items(), key=lambda counted: (counted[0][0] or NO_EVENT, counted[0][1]))


def described(found: HeldMessage[QuarantinedBody]) -> Iterator[str]:
    body = found.summary
    whole = quarantine_document(found)
    yield f"id:       {body.id}"
    yield one_line(f"reason:   {body.reason}")
    yield one_line(f"now:      {body.event or f'{NO_EVENT}: {body.problem}'}")
    yield f"received: {queue_messages.time_text(body.received_at)}, {queue_messages.duration_text(body.age(unix_ms_now()))} ago"
    yield from queue_messages.message_lines(whole, body.size)


def row(body: QuarantinedBody, now: int) -> dict[str, Any]:
    return {
        "id": body.id,
        "reason": body.reason,
        "event": body.event,
        "problem": body.problem,
        "received_at": rfc3339_of_milliseconds(body.received_at),
        "age": body.age(now),
        "bytes": body.size,
    }


def counted(number: int) -> str:
    """1 -> `1 body`."""
    return f"{number:,} bod{'y' if number == 1 else 'ies'}"
