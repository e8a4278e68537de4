"""How dead letters are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.cli.lists import Head
from bridge.cli.queue_view import QueueView, message_lines
from bridge.cli.times import age_cell, duration_text, utc_text_of_milliseconds
from bridge.dead_letters.message_file import dead_letter_document
from bridge.telemetry.terminal import one_line
from bridge.timestamps import rfc3339_of_milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.dead_letters.dead_letter_description import DeadLetter
    from bridge.dead_letters.queue_reader import HeldMessage


def lines(found: HeldMessage[DeadLetter], now: int) -> Iterator[str]:
    letter = found.summary
    yield one_line(f"id:            {letter.id}")
    yield one_line(f"event:         {letter.event}")
    yield one_line(f"reason:        {letter.reason}")
    yield one_line(f"error:         {letter.error or '-'}")
    yield f"attempts:      {letter.attempts}"
    yield f"first failure: {utc_text_of_milliseconds(letter.first_failure)}"
    yield one_line(f"last failure:  {letter.where or '-'}")
    yield f"died:          {utc_text_of_milliseconds(letter.died_at)}, {duration_text(letter.age(now))} ago"
    yield from message_lines(dead_letter_document(found), len(found.message.body))


def _row(letter: DeadLetter, now: int) -> dict[str, Any]:
    return {
        "id": letter.id,
        "event": letter.event,
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "where": letter.where,
        "died_at": rfc3339_of_milliseconds(letter.died_at),
        "age": letter.age(now),
    }


def _counted(number: int) -> str:
    """1 -> `1 dead letter`."""
    return f"{number:,} dead letter{'' if number == 1 else 's'}"


_REASON = Head("Reason", min_width=11)

DEAD_LETTERS: QueueView[DeadLetter] = QueueView(
    where="the dead letters",
    counted=_counted,
    not_found="there is no dead letter '{}'; see `bridge dead list`",
    heads=(Head("ID", whole=True), "Event", _REASON, "Attempts", "Age"),
    cells=lambda letter, now: (
        letter.id,
        letter.event,
        letter.reason,
        letter.attempts,
        age_cell(letter.age(now)),
    ),
    row=_row,
    count_heads=(_REASON, "Event", "Letters"),
    kind=lambda letter: {"reason": letter.reason, "event": letter.event},
    lines=lines,
    document=dead_letter_document,
    file_stem="dead-letters",
    preview_of_replay="to be replayed",
)
