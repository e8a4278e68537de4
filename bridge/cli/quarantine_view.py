"""How bodies in quarantine are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.cli.lists import Head
from bridge.cli.queue_view import NO_EVENT, QueueView, message_lines
from bridge.cli.times import age_cell, duration_text, utc_text_of_milliseconds
from bridge.dead_letters.quarantine import quarantine_document
from bridge.telemetry.terminal import one_line
from bridge.timestamps import rfc3339_of_milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.dead_letters.quarantine import QuarantinedBody
    from bridge.dead_letters.queue_reader import HeldMessage


def _lines(found: HeldMessage[QuarantinedBody], now: int) -> Iterator[str]:
    body = found.summary
    yield f"id:       {body.id}"
    yield one_line(f"reason:   {body.reason}")
    yield one_line(f"now:      {body.event or f'{NO_EVENT}: {body.problem}'}")
    yield f"received: {utc_text_of_milliseconds(body.received_at)}, {duration_text(body.age(now))} ago"
    yield from message_lines(quarantine_document(found), body.size)


def _row(body: QuarantinedBody, now: int) -> dict[str, Any]:
    return {
        "id": body.id,
        "reason": body.reason,
        "event": body.event,
        "problem": body.problem,
        "received_at": rfc3339_of_milliseconds(body.received_at),
        "age": body.age(now),
        "bytes": body.size,
    }


def _counted(number: int) -> str:
    """1 -> `1 body`."""
    return f"{number:,} bod{'y' if number == 1 else 'ies'}"


QUARANTINE: QueueView[QuarantinedBody] = QueueView(
    where="the quarantine",
    counted=_counted,
    not_found="there is no body '{}' in the quarantine; see `bridge quarantine list`",
    heads=(Head("ID", whole=True), "Now", "Reason", "Bytes", "Age"),
    cells=lambda body, now: (
        body.id,
        body.event or NO_EVENT,
        body.reason,
        body.size,
        age_cell(body.age(now)),
    ),
    row=_row,
    count_heads=("Now", "Reason", "Bodies"),
    kind=lambda body: {"event": body.event, "reason": body.reason},
    lines=_lines,
    document=quarantine_document,
    file_stem="quarantine",
    preview_of_replay="chosen; what is an event now would be published",
    problem=lambda body: "" if body.event is not None else body.problem,
    key_of_staying="still_no_event",
)
