"""How dead letters are shown: lists, counts, and one with all that is known of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from bridge.broker import letterfile
from bridge.cli import by_hand
from bridge.cli.console import people, print_rows
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.broker.parked import Found, Letter
    from bridge.roles.by_hand import Look


def print_letters(letters: list[Letter], now: int) -> None:
    heads = ("ID", "Event", "Reason", "Attempts", "Age")
    rows = [
        (letter.id, letter.event, letter.reason, str(letter.attempts), by_hand.readable(letter.age(now)))
        for letter in letters
    ]
    print_rows(heads, rows)


def print_counts(found: Look[Letter], what: str) -> None:
    counts = Counter((letter.reason, letter.event) for letter in found.letters)
    rows = [(reason, event, f"{number:,}") for (reason, event), number in sorted(counts.items())]
    if rows:
        print_rows(("Reason", "Event", "Letters"), rows)
    people.print(f"{counted(found.matching)} {what}")
    by_hand.say_what_is_out_of_reach(found.unseen)


def described(found: Found[Letter], now: int) -> Iterator[str]:
    letter, message, _ = found
    document = letterfile.document(found)
    yield one_line(f"id:            {letter.id}")
    yield one_line(f"event:         {letter.event}")
    yield one_line(f"reason:        {letter.reason}")
    yield one_line(f"error:         {letter.error or '-'}")
    yield f"attempts:      {letter.attempts}"
    yield f"first failure: {by_hand.at(letter.first_failure)}"
    yield one_line(f"last failure:  {letter.where or '-'}")
    yield f"died:          {by_hand.at(letter.died_at)}, {by_hand.readable(letter.age(now))} ago"
    yield from by_hand.message_lines(document, len(message.body))


def row(letter: Letter, now: int) -> dict[str, Any]:
    return {
        "id": letter.id,
        "event": letter.event,
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "where": letter.where,
        "died_at": letter.died_at,
        "age": letter.age(now),
    }


def counted(number: int) -> str:
    """1 -> `1 dead letter`."""
    return f"{number:,} dead letter{'' if number == 1 else 's'}"
