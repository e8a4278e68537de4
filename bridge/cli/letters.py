"""How dead letters are shown: lists, counts, and one with all that is known of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from bridge.broker import letterfile
from bridge.broker.parked import REACH
from bridge.cli.console import people, print_rows
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.broker.parked import Found, Letter
    from bridge.roles.dead import Look


def print_letters(letters: list[Letter], now: int) -> None:
    heads = ("ID", "Event", "Reason", "Attempts", "Age")
    rows = [
        (letter.id, letter.event, letter.reason, str(letter.attempts), _readable(letter.age(now)))
        for letter in letters
    ]
    print_rows(heads, rows)


def print_counts(found: Look, what: str) -> None:
    rows = [(reason, event, f"{number:,}") for (reason, event), number in sorted(found.counts().items())]
    if rows:
        print_rows(("Reason", "Event", "Letters"), rows)
    people.print(f"{counted(found.matching)} {what}", highlight=False, markup=False)
    say_what_is_out_of_reach(found.unseen)


def described(found: Found, now: int) -> Iterator[str]:
    """All that is known of it; only the body may be several lines."""
    *head, body = _description(found, now)
    yield from map(one_line, head)
    yield body


def _description(found: Found, now: int) -> Iterator[str]:
    letter, message, _ = found
    document: dict[str, Any] = letterfile.document(found)
    yield f"id:            {letter.id}"
    yield f"event:         {letter.event}"
    yield f"reason:        {letter.reason}"
    yield f"error:         {letter.error or '-'}"
    yield f"attempts:      {letter.attempts}"
    yield f"first failure: {_at(letter.first_failure)}"
    yield f"last failure:  {letter.where or '-'}"
    yield f"died:          {_at(letter.died_at)}, {_readable(letter.age(now))} ago"
    for title in ("headers", "properties"):
        yield f"{title}:"
        for name, value in sorted(document[title].items()):
            text = value if isinstance(value, str) else _json(value)
            yield f"  {name}: {text}"
    if "undecodable" in document:
        yield f"all properties, as they stand on the wire, in base64 ({document['undecodable']}):"
        yield f"  {document['raw_properties']['base64']}"
    yield f"body ({len(message.body):,} bytes{', in base64' if 'body_base64' in document else ''}):"
    yield document.get("body") or document.get("body_base64", "")


def _json(value: Any) -> str:
    return orjson.dumps(value, default=letterfile.plain).decode()


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


def say_what_is_out_of_reach(unseen: int) -> None:
    if unseen:
        people.print(
            f"{unseen:,} more lie behind the first {REACH:,}; move some of those away to get at them",
            highlight=False,
        )


def _readable(seconds: float | None) -> str:
    """93784 -> `1d 2h`, 65 -> `1m 5s`."""
    if seconds is None:
        return "?"
    units = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))
    parts: list[str] = []
    rest = int(seconds)
    for size, unit in units:
        number, rest = divmod(rest, size)
        if number or parts:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"


def _at(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds / 1000))
