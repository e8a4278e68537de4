"""Parses the provider's events: their names, their body, and the id by which a repeat is recognised."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import orjson

from bridge.timestamps import unix_seconds

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
"""The canonical names of the eight events that the provider documents."""

MALFORMED: Final = "malformed"
"""Routing key of the quarantine; reserved: no event has this name."""

SPELLINGS: Final[Mapping[str, str]] = MappingProxyType({"complined": COMPLAINED})
"""Other spelling -> canonical name. The provider's Russian page says `complined`, its English one `complained`."""

_ALL_SPELLINGS: Final = MappingProxyType({name: name for name in KNOWN_NAMES} | dict(SPELLINGS))
_BY_LETTERS: Final = MappingProxyType({name.replace("_", ""): ours for name, ours in _ALL_SPELLINGS.items()})
_BETWEEN_WORDS: Final = str.maketrans("", "", "_- ")

_OTHER_SPELLINGS: Final = MappingProxyType({ours: (theirs,) for theirs, ours in SPELLINGS.items()})

MAX_NAME_BYTES: Final = 255
"""An AMQP 0-9-1 routing key is a short string, of 255 bytes at most."""

MAX_MESSAGE_ID_CHARACTERS: Final = 128
MAX_TIMESTAMP: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second of RFC 3339 (CloudEvents `time`). A greater number is milliseconds."""

_ONLY_TEXT: Final = frozenset({str})
_64_BITS: Final = range(-(2**63), 2**64)
_DIGITS_OF_64_BITS: Final = 20


class NotJsonError(ValueError):
    """The body is not JSON. The message is the reason in the answer to the provider."""


class MalformedError(ValueError):
    """The body is JSON, but not an event that we can read. The message is the reason."""


class Event(NamedTuple):
    """One thing that happened to one message."""

    id: str
    """32 hexadecimal digits; a repeat of the event has the same id."""
    name: str
    """Canonical name, and the routing key: `complained` for both spellings."""
    message_id: str
    """The provider's id of the message, as text."""
    timestamp: int
    """When it happened, in Unix seconds."""
    data: Mapping[str, Any]

    @property
    def other_spellings(self) -> tuple[str, ...]:
        """Other routing keys with which a queue may be bound for this event."""
        return other_spellings(self.name)


def canonical_name(name: str) -> str:
    """The canonical spelling of a known name; an unknown name is returned unchanged."""
    return _ALL_SPELLINGS.get(name) or _known_by_letters(name) or name


def other_spellings(name: str) -> tuple[str, ...]:
    return _OTHER_SPELLINGS.get(name, ())


def parse(body: bytes) -> Event:
    """Parse the provider's body. Every body is accepted that clearly says what happened to which message, and when.

    The name may have another case or other separators. The time may be text, a fraction, milliseconds or RFC 3339. Data
    that is not an object is dropped, but counts for the id. All spellings of an event have the same id.

    Raises:
        NotJsonError: the bytes are not JSON.
        MalformedError: they are JSON, but not an event.
    """
    try:
        return _event(orjson.loads(body))
    except (orjson.JSONDecodeError, _RoundedError) as error:
        document = _load_exactly(body, error)
    return _event(document, exact=True)


def digest(content: bytes) -> str:
    """A hash of 128 bits, in hexadecimal: the id of events and of quarantined bodies."""
    return blake2b(content, digest_size=16).hexdigest()


_EMPTY: Final[tuple[Any, ...]] = ("", [])
"""How languages without a type for it write an empty object."""


class _RoundedError(Exception):
    """There is a float where digits matter: orjson reads numbers that are too large as floats, and loses digits."""


def _event(document: Any, *, exact: bool = False) -> Event:
    if not isinstance(document, dict):
        raise MalformedError("the body is not an object")
    message = _object(document, "message")
    event = _object(document, "event")
    message_id, timestamp, data = message.get("id"), event.get("timestamp"), event.get("data")
    if not exact and (
        type(message_id) is float
        or type(timestamp) is float
        or type(data) is float
        or (data and _holds_a_float(data))
    ):
        raise _RoundedError
    message_id = message_id_of(message_id)
    name = _name(event.get("name"))
    time = _time(timestamp)
    if not data and (data is None or data in _EMPTY):
        data = {}
    return Event(
        _identity(message_id, name, time, data),
        name,
        message_id,
        int(time),
        data if isinstance(data, dict) else {},
    )


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise MalformedError(f"{key} is missing or not an object")
    return value


def _holds_a_float(data: Any) -> bool:
    if type(data) is dict and _ONLY_TEXT.issuperset(map(type, data.values())):
        return False
    rest = [data]
    while rest:
        value = rest.pop()
        if type(value) is float:
            return True
        if type(value) is dict:
            rest += value.values()
        elif type(value) is list:
            rest += value
    return False


def _load_exactly(body: bytes, orjson_error: Exception) -> Any:
    """Parse JSON with all digits of its numbers, with lone surrogates, and after a byte order mark; much slower.

    It cannot read very deep nesting either. That counts as malformed, and is kept in the quarantine.
    """
    if not body.strip():
        raise NotJsonError("the body is empty")
    try:
        return json.loads(
            body.decode("utf-8-sig"), parse_constant=_reject_constant, parse_int=_integer, parse_float=_number
        )
    except RecursionError:
        raise MalformedError("the body is nested too deeply to be read") from orjson_error
    except UnicodeDecodeError:
        raise NotJsonError("the body is not UTF-8 text") from orjson_error
    except MalformedError:
        raise
    except ValueError:
        raise NotJsonError(f"the body is not JSON: {orjson_error}") from orjson_error


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _integer(text: str) -> int | float | Decimal:
    if len(text) <= _DIGITS_OF_64_BITS and (value := int(text)) in _64_BITS:
        return value
    return _number(text)


def _number(text: str) -> float | Decimal:
    """A float if it is exact; else a Decimal with all digits."""
    value = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise MalformedError("a number is too far from 1 to be read") from None
    return value if exact == Decimal(repr(value)) else exact


def message_id_of(value: Any) -> str:
    """The provider's message id as text: `1`, `1.0` and `"1"` are one id.

    Raises:
        MalformedError: it is neither a whole number nor a printable text of up to `MAX_MESSAGE_ID_CHARACTERS`.
    """
    if type(value) is int:
        return str(value)
    if isinstance(value, str) and 0 < len(value) <= MAX_MESSAGE_ID_CHARACTERS and value.isprintable():
        return value
    if isinstance(value, float | Decimal):
        number = Decimal(repr(value)) if isinstance(value, float) else value
        if number.adjusted() < MAX_MESSAGE_ID_CHARACTERS - 1 and number == number.to_integral_value():
            return str(int(number))
    raise MalformedError("message.id is neither a whole number nor a short text")


def _name(value: Any) -> str:
    if isinstance(value, str):
        if value in KNOWN_NAMES:
            return value
        name = canonical_name(value)
        if name.isprintable() and 0 < len(name.encode()) <= MAX_NAME_BYTES and name != MALFORMED:
            return name
    raise MalformedError(f"event.name is not printable text of 1 to {MAX_NAME_BYTES} bytes, or is reserved")


def _known_by_letters(name: str) -> str | None:
    """`Hard_Bounced`, ` hard-bounced ` and `hardBounced` -> `hard_bounced`; None for an unknown name."""
    letters = name.strip().translate(_BETWEEN_WORDS)
    return _BY_LETTERS.get(letters.lower()) if letters.isascii() else None


def _time(value: Any) -> int | Decimal:
    """Unix seconds; whole ones as an integer."""
    if type(value) is int and 0 <= value <= MAX_TIMESTAMP:
        return value
    time = unix_seconds(value, latest=MAX_TIMESTAMP)
    if time is None:
        raise MalformedError("event.timestamp is not a time in Unix seconds, milliseconds or RFC 3339")
    return time


def _identity(message_id: str, name: str, time: int | Decimal, data: Any) -> str:
    content = [message_id, name, time, data]
    try:
        canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # Five elements: the text can never be equal to that of another event.
        try:
            canonical = orjson.dumps(["exactly", *_writable(content)], option=orjson.OPT_SORT_KEYS)
        except (orjson.JSONEncodeError, RecursionError) as error:
            raise MalformedError("event.data is nested too deeply to be read") from error
    return digest(canonical)


def _writable(value: Any) -> Any:
    """The same value in a form that orjson can write: all text escaped for its lone surrogates, numbers exact."""
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, Decimal):
        sign, digits, _ = value.as_tuple()
        shortest = "".join(map(str, digits)).rstrip("0")
        return orjson.Fragment(f"{'-' * sign}{shortest}e{value.adjusted() + 1 - len(shortest)}")
    if isinstance(value, dict):
        return {json.dumps(key): _writable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_writable(inner) for inner in value]
    return value
