"""What stands in a history: one record a line, as JSON. Invocations and outcomes have the names of Jepsen's.

A record is of a moment, `at`, in nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share; `wall` is Unix seconds, for
people.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Literal

import orjson

OK: Final = "ok"
"""It was done."""
FAIL: Final = "fail"
"""It was not done, for sure."""
INFO: Final = "info"
"""Nobody knows whether it was done."""

Result = Literal["ok", "fail", "info"]

_CANONICAL: Final = {"complined": "complained"}
"""The two spellings are one event (docs/reference/messages.md)."""


class HistoryError(ValueError):
    """A file is no history. The message names the line, and says what is wrong with it."""


def canonical(name: str) -> str:
    """The name under which an event is published."""
    return _CANONICAL.get(name, name)


def domain_of(address: str) -> str:
    """Empty for what is no address, as the hash of one that was erased."""
    return address.rpartition("@")[2] if "@" in address else ""


def body_hash(body: bytes) -> str:
    """By which a body is told from another: 32 hexadecimal digits."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line. Args: client: who has written it."""

    kind: ClassVar[str]
    client: str = ""
    at: int = field(default_factory=time.monotonic_ns)
    wall: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostInvoked(Record):
    """A POST is about to be sent."""

    kind: ClassVar[str] = "post"
    op: int
    """Of this client: its outcome has the same."""
    body: str
    """`body_hash` of what is sent."""
    message: str
    """The provider's message id."""
    name: str
    """`canonical`."""
    event_at: int
    """When it happened, Unix seconds."""
    address: str | None = None
    """To whom the message was sent, normalised; None: the list is not judged for this event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostEnded(Record):
    """What came of a POST. `ok`: it was answered 200. `fail`: 4xx, or it was not sent. `info`: 5xx, or no answer."""

    kind: ClassVar[str] = "posted"
    op: int
    result: Result
    status: str = ""
    """Of HTTP; empty if there was no answer."""
    durability: str = ""
    """`confirmed`, `spooled`, `quarantined`, or whatever else the answer says; empty if it says nothing."""
    event_id: str = ""
    """What the answer says; empty if it says nothing."""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed(Record):
    """From now on this queue has to get these events. For a consumer of the changes: all of them."""

    kind: ClassVar[str] = "subscribed"
    queue: str
    to: Literal["events", "changes"] = "events"
    names: tuple[str, ...] = ("#",)
    """Names of the events, `#` for all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered(Record):
    """A queue has handed over an event."""

    kind: ClassVar[str] = "delivery"
    queue: str
    event_id: str
    """The property `message_id`; empty where there is none."""
    name: str
    """The property `type`; empty where there is none."""
    body: str
    """`body_hash`."""
    redelivered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(Record):
    """A change of the list was published."""

    kind: ClassVar[str] = "change"
    queue: str
    id: int
    """It grows, in the order in which the list was changed."""
    action: str
    address: str
    reason: str | None
    event_id: str | None
    message: str | None
    """The provider's id of the message whose event made it."""
    reasons: tuple[str, ...] | None = None
    """For which the address is suppressed after it; None: it does not say."""
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class ListEntry:
    """An entry of the list. Times are Unix seconds."""

    address: str
    reason: str
    count: int
    first_event_at: int
    last_event_at: int
    message: str | None = None
    """The message whose event has caused it; None: it is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadInvoked(Record):
    """The list is about to be asked for all entries of an address."""

    kind: ClassVar[str] = "read"
    op: int
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadEnded(Record):
    """What the list has answered; it says nothing unless it is `ok`."""

    kind: ClassVar[str] = "has_read"
    op: int
    result: Result
    entries: tuple[ListEntry, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalList(Record):
    """The whole list, after everything was worked off."""

    kind: ClassVar[str] = "final_list"
    entries: tuple[ListEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalChanges(Record):
    """The log of changes at the end: id -> address."""

    kind: ClassVar[str] = "final_changes"
    changes: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover(Record):
    """What is left somewhere at the end, where nothing should be."""

    kind: ClassVar[str] = "leftover"
    where: Literal["outbox", "dead letters", "spool", "queue"]
    what: tuple[str, ...]
    """Ids of changes or of events, or names with counts; none: it was looked at, and is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfSight(Record):
    """The addresses of this domain are changed by somebody else, too: the list is not judged for them."""

    kind: ClassVar[str] = "out_of_sight"
    domain: str
    """Empty: what is no address, as the hash of one that was erased."""


_TYPES: Final[dict[str, type[Record]]] = {
    one.kind: one
    for one in (
        PostInvoked, PostEnded, Subscribed, Delivered, Changed, ReadInvoked, ReadEnded, FinalList, FinalChanges, Leftover,
        OutOfSight,
    )
}  # fmt: skip
_NAMES: Final = {type_: frozenset(one.name for one in fields(type_)) for type_ in _TYPES.values()}


def line_of(record: Record) -> bytes:
    """As it stands in the file, with the line's end."""
    return orjson.dumps({"kind": record.kind, **_plain(record)}, option=orjson.OPT_APPEND_NEWLINE)


def record_of(line: bytes, *, where: str = "a line") -> Record:
    """Read a line.

    Raises:
        HistoryError: it is none.
    """
    try:
        document: dict[str, Any] = orjson.loads(line)
        type_ = _TYPES[document.pop("kind")]
        for name in ("entries", "changes"):
            if name in document:
                document[name] = tuple(_part(one) for one in document[name])
        for name in ("names", "reasons", "what"):
            if document.get(name) is not None:
                document[name] = tuple(document[name])
        return type_(**document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HistoryError(f"{where} is no record of a history ({error!r}): {line[:200]!r}") from None


def _part(value: Any) -> Any:
    return ListEntry(**value) if isinstance(value, dict) else (value[0], value[1])


def _plain(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _NAMES[type(record)]}
