"""Prints dead letters: lists, counts, and a single one with all details."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from bridge.cli import queue_messages
from bridge.cli.console import print_json
from bridge.cli.lists import Head, print_rows, print_summary
from bridge.dead_letters import message_file
from bridge.telemetry.terminal import one_line
from bridge.timestamps import rfc3339_of_milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.dead_letters.queue_reader import DeadLetter, HeldMessage
    from bridge.operations.queue_messages import MessageList


def print_letters(letters: list[DeadLetter], now: int) -> None:
    heads = (Head("ID", whole=True), "Event", Head("Reason", narrowest=11), "Attempts", "Age")
    rows = [
        (letter.id, letter.event, letter.reason, letter.attempts, queue_messages.age(letter.age(now)))
        for letter in letters
    ]
    print_rows(heads, rows)


def print_dry_run(found: MessageList[DeadLetter], verb: str, ids: list[str] | None, *, as_json: bool) -> None:
    """What a run would do; `verb` is `replayed` or `discarded`."""
    if not as_json:
        print_counts(found, f"to be {verb}")
        return
    told = queue_messages.outcome(
        verb,
        chosen=len(found.letters),
        done=0,
        missing=queue_messages.absent(ids, [letter.id for letter in found.letters]),
        unseen=found.unseen,
        dry_run=True,
        counts=[
            {"reason": reason, "event": event, "count": number} for reason, event, number in _counts(found)
        ],
    )
    print_json(told)


def print_counts(found: MessageList[DeadLetter], what: str) -> None:
    print_rows((Head("Reason", narrowest=11), "Event", "Letters"), _counts(found))
    print_summary(f"{counted(len(found.letters))} {what}")
    queue_messages.print_unread(found.unseen)


def _counts(found: MessageList[DeadLetter]) -> list[tuple[str, str, int]]:
    counts = Counter((letter.reason, letter.event) for letter in found.letters)
    return [(reason, event, number) for (reason, event), number in sorted(counts.items())]


def describe(found: HeldMessage[DeadLetter], now: int) -> Iterator[str]:
    letter, message, _ = found
    document = message_file.dead_letter_document(found)
    yield one_line(f"id:            {letter.id}")
    yield one_line(f"event:         {letter.event}")
    yield one_line(f"reason:        {letter.reason}")
    yield one_line(f"error:         {letter.error or '-'}")
    yield f"attempts:      {letter.attempts}"
    yield f"first failure: {queue_messages.time_text(letter.first_failure)}"
    yield one_line(f"last failure:  {letter.where or '-'}")
    yield f"died:          {queue_messages.time_text(letter.died_at)}, {queue_messages.duration_text(letter.age(now))} ago"
    yield from queue_messages.message_lines(document, len(message.body))


def row(letter: DeadLetter, now: int) -> dict[str, Any]:
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


def counted(number: int) -> str:
    """1 -> `1 dead letter`."""
    return f"{number:,} dead letter{'' if number == 1 else 's'}"
