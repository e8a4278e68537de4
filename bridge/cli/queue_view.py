"""Prints the messages of a queue that wait for a person: lists, counts, and a single one with all details."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import orjson

from bridge.cli.lists import print_rows, print_summary
from bridge.dead_letters import message_file
from bridge.dead_letters.queue_reader import MAX_HELD
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bridge.cli.lists import Cell, Head
    from bridge.dead_letters.queue_reader import HeldMessage
    from bridge.operations.queue_messages import MessageList

NO_EVENT: Final = "no event"


class WaitingMessage(Protocol):
    """A message that waits for a person."""

    @property
    def id(self) -> str: ...

    def age(self, now: int) -> float | None: ...


T = TypeVar("T", bound=WaitingMessage)


@dataclass(frozen=True, slots=True)
class QueueView(Generic[T]):
    """How the messages of one queue are shown. A time `now` is in Unix milliseconds."""

    where: str
    """With the article: `the dead letters`."""
    counted: Callable[[int], str]
    """1 -> `1 dead letter`."""
    not_found: str
    """The error text for an id that is not in the queue, with `{}` for the id."""
    heads: tuple[Head | str, ...]
    cells: Callable[[T, int], tuple[str | int | Cell, ...]]
    """A row of the list for people."""
    row: Callable[[T, int], dict[str, Any]]
    """The same for programs."""
    count_heads: tuple[Head | str, ...]
    kind: Callable[[T], dict[str, str | None]]
    """Messages are counted by these fields, in this order."""
    lines: Callable[[HeldMessage[T], int], Iterator[str]]
    """All details of one message for people, a line each. Only the body may have several lines."""
    document: Callable[[HeldMessage[T]], dict[str, Any]]
    """The same for programs, and for the file of discarded messages."""
    file_stem: str
    """The name of that file begins with it."""
    preview_of_replay: str
    """The text of a dry run after the number."""
    problem: Callable[[T], str] = lambda _: ""
    """Why a replay leaves a message in the queue; empty if it does not."""
    key_of_staying: str = ""
    """The field of a replay's JSON for how many it leaves; empty where it never leaves any."""

    def print_list(self, messages: list[T], now: int) -> None:
        print_rows(self.heads, [self.cells(message, now) for message in messages])

    def print_counts(self, found: MessageList[T], what: str) -> None:
        rows: list[tuple[str | int, ...]] = [
            (*(value or NO_EVENT for value in kind.values()), number) for kind, number in self._counts(found)
        ]
        print_rows(self.count_heads, rows)
        print_summary(f"{self.counted(len(found.messages))} {what}")
        print_unread(found.unseen)

    def counts_document(self, found: MessageList[T]) -> list[dict[str, Any]]:
        return [{**kind, "count": number} for kind, number in self._counts(found)]

    def _counts(self, found: MessageList[T]) -> list[tuple[dict[str, str | None], int]]:
        counts = Counter(tuple(self.kind(message).items()) for message in found.messages)
        in_order = sorted(counts.items(), key=lambda counted: [value or NO_EVENT for _, value in counted[0]])
        return [(dict(kind), number) for kind, number in in_order]


def print_unread(unseen: int) -> None:
    """On standard error where the output is for programs."""
    if unseen:
        print_summary(
            f"{unseen:,} more messages are behind the first {MAX_HELD:,}; remove some of those to reach them"
        )


def message_lines(document: Mapping[str, Any], size: int) -> Iterator[str]:
    """The lines of a message of `message_file.message_document`. Only the body may have several lines."""
    for title in ("headers", "properties"):
        yield f"{title}:"
        for name, value in sorted(document[title].items()):
            text = (
                value
                if isinstance(value, str)
                else orjson.dumps(value, default=message_file.json_default).decode()
            )
            yield one_line(f"  {name}: {text}")
    if "undecodable" in document:
        yield one_line(f"all properties, as they came over the wire, in base64 ({document['undecodable']}):")
        yield f"  {document['raw_properties']['base64']}"
    yield f"body ({size:,} bytes{', in base64' if 'body_base64' in document else ''}):"
    yield document.get("body") or document.get("body_base64", "")
