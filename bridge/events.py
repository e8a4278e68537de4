"""What an event is: its names, how a body is read, and the identity that makes a repeat recognisable."""

from __future__ import annotations

import json
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

DELIVERED: Final = "delivered"
OPENED: Final = "opened"
CLICKED: Final = "clicked"
UNSUBSCRIBED: Final = "unsubscribed"
COMPLAINED: Final = "complained"
SKIPPED: Final = "skipped"
SOFT_BOUNCED: Final = "soft_bounced"
HARD_BOUNCED: Final = "hard_bounced"

KNOWN_NAMES: Final = frozenset(
    {DELIVERED, OPENED, CLICKED, UNSUBSCRIBED, COMPLAINED, SKIPPED, SOFT_BOUNCED, HARD_BOUNCED}
)
"""The eight events that the provider documents, in our spelling."""

MALFORMED: Final = "malformed"
"""Routing key of the quarantine; never the name of an event."""

SPELLINGS: Final[Mapping[str, str]] = MappingProxyType({"complined": COMPLAINED})
"""The provider's other spelling of a name -> ours. Its Russian page says `complined`, its English one `complained`."""

_OTHER_SPELLINGS: Final = MappingProxyType({ours: (theirs,) for theirs, ours in SPELLINGS.items()})

MAX_NAME_BYTES: Final = 255
"""An AMQP 0-9-1 routing key is a short string: 255 bytes at the most."""

MAX_MESSAGE_ID_CHARACTERS: Final = 128
MAX_TIMESTAMP: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second that RFC 3339 (CloudEvents `time`) can write."""


class NotJsonError(ValueError):
    """The body is not JSON at all. Its message is the reason that the provider is told."""


class MalformedError(ValueError):
    """The body is JSON, but not an event that we can read. Its message is the reason."""


class Event(NamedTuple):
    """One thing that happened to one message."""

    id: str
    """32 hexadecimal digits, the same whenever the provider repeats the event."""
    name: str
    """Canonical name, and the routing key: `complained` for both spellings."""
    message_id: str
    """The provider's id of the message, as text."""
    timestamp: int
    """When it happened, Unix seconds."""
    data: Mapping[str, Any]

    @property
    def other_spellings(self) -> tuple[str, ...]:
        """Names under which a queue may also be bound for this event."""
        return other_spellings(self.name)


def canonical_name(name: str) -> str:
    return SPELLINGS.get(name, name)


def other_spellings(name: str) -> tuple[str, ...]:
    return _OTHER_SPELLINGS.get(name, ())


def parse(body: bytes) -> Event:
    """Read the provider's body.

    Raises:
        NotJsonError: the bytes are not JSON.
        MalformedError: they are, but the shape is not that of an event.
    """
    document = _load(body)
    if not isinstance(document, dict):
        raise MalformedError("the body is not an object")
    message = _object(document, "message")
    event = _object(document, "event")
    message_id = _message_id(message.get("id"))
    name = canonical_name(_name(event.get("name")))
    timestamp = _timestamp(event.get("timestamp"))
    data = event.get("data")
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise MalformedError("event.data is neither an object nor null")
    return Event(
        id=_identity(message_id, name, timestamp, data),
        name=name,
        message_id=message_id,
        timestamp=timestamp,
        data=data,
    )


def digest(content: bytes) -> str:
    """128 bits over the content, in hexadecimal: the identity of events and of quarantined bodies."""
    return blake2b(content, digest_size=16).hexdigest()


def _load(body: bytes) -> Any:
    if not body.strip():
        raise NotJsonError("the body is empty")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as refusal:
        _explain_refusal(body, refusal)


def _explain_refusal(body: bytes, refusal: orjson.JSONDecodeError) -> NoReturn:
    """Tell JSON that orjson will not read (lone surrogates, very deep nesting) from what is not JSON.

    Promise 4 keeps the first in quarantine; only the second is refused.
    """
    try:
        json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_int=len)
    except RecursionError:
        raise MalformedError("the body is nested too deeply to be read") from refusal
    except UnicodeDecodeError:
        raise NotJsonError("the body is not UTF-8 text") from refusal
    except ValueError:
        raise NotJsonError(f"the body is not JSON: {refusal}") from refusal
    raise MalformedError(f"the body cannot be read: {refusal}") from refusal


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise MalformedError(f"{key} is missing or not an object")
    return value


def _message_id(value: Any) -> str:
    if isinstance(value, str) and 0 < len(value) <= MAX_MESSAGE_ID_CHARACTERS and value.isprintable():
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise MalformedError("message.id is neither an integer of 64 bits nor a short text")


def _name(value: Any) -> str:
    if (
        isinstance(value, str)
        and value.isprintable()
        and 0 < len(value.encode()) <= MAX_NAME_BYTES
        and value != MALFORMED
    ):
        return value
    raise MalformedError(f"event.name is not a printable text of 1 to {MAX_NAME_BYTES} bytes, or is reserved")


def _timestamp(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TIMESTAMP:
        return value
    raise MalformedError("event.timestamp is not a time in Unix seconds")


def _identity(message_id: str, name: str, timestamp: int, data: Mapping[str, Any]) -> str:
    try:
        canonical = orjson.dumps([message_id, name, timestamp, data], option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as refusal:
        raise MalformedError("event.data is nested too deeply to be read") from refusal
    return digest(canonical)
