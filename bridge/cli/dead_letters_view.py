"""How dead letters are shown: lists, counts, and one with all that is known of it."""

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

    from bridge.dead_letters.queue_reader import Found, Letter
    from bridge.operations.queue_messages import Look


def print_letters(letters: list[Letter], now: int) -> None:
    heads = (Head("ID", whole=True), "Event", Head("Reason", narrowest=11), "Attempts", "Age")
    rows = [
        (letter.id, letter.event, letter.reason, letter.attempts, queue_messages.age(letter.age(now)))
        for letter in letters
    ]
    print_rows(heads, rows)


def print_dry_run(found: Look[Letter], verb: str, ids: list[str] | None, *, as_json: bool) -> None:
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


def print_counts(found: Look[Letter], what: str) -> None:
    print_rows((Head("Reason", narrowest=11), "Event", "Letters"), _counts(found))
    print_summary(f"{counted(len(found.letters))} {what}")
    queue_messages.say_what_is_out_of_reach(found.unseen)


def _counts(found: Look[Letter]) -> list[tuple[str, str, int]]:
    counts = Counter((letter.reason, letter.event) for letter in found.letters)
    return [(reason, event, number) for (reason, event), number in sorted(counts.items())]


def described(found: Found[Letter], now: int) -> Iterator[str]:
    letter, message, _ = found
    document = message_file.document(found)
    yield one_line(f"id:            {letter.id}")
    yield one_line(f"event:         {letter.event}")
    yield one_line(f"reason:        {letter.reason}")
    yield one_line(f"error:         {letter.error or '-'}")
    yield f"attempts:      {letter.attempts}"
    yield f"first failure: {queue_messages.at(letter.first_failure)}"
    yield one_line(f"last failure:  {letter.where or '-'}")
    yield f"died:          {queue_messages.at(letter.died_at)}, {queue_messages.readable(letter.age(now))} ago"
    yield from queue_messages.message_lines(document, len(message.body))


def row(letter: Letter, now: int) -> dict[str, Any]:
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
