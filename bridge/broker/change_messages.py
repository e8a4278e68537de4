"""Builds the message of a change of the suppression list: the contract with every service that follows the list."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final, Protocol

from pamqp import encode

from bridge.amqp.message_types import Message
from bridge.amqp.properties import FLAGS
from bridge.broker.messages import APP_ID, CONTENT_TYPE, PERSISTENT, SPEC_VERSION
from bridge.timestamps import rfc3339

CHANGE_SOURCE: Final = "/suppressions"
"""CloudEvents `source` of the changes: within it, each has an id of its own."""
CHANGE_TYPE_PREFIX: Final = "suppression."
"""CloudEvents `type` is this and the action, such as `suppression.added`."""
CHANGE_ID_PREFIX: Final = "change-"
"""`message_id` is this and the change's id."""


class ListChange(Protocol):
    """What the message needs of a change; `bridge.suppression.changes.Change` has it."""

    @property
    def id(self) -> int: ...

    @property
    def at(self) -> int:
        """When the list was changed, Unix seconds."""

    @property
    def action(self) -> str: ...

    @property
    def address(self) -> str: ...

    def body(self) -> bytes:
        """The change as JSON."""


def change_message(change: ListChange, *, exchange: str, mandatory: bool = False) -> Message:
    """The message of a change: its routing key is the action, its id is made of the change's id.

    Nobody need have bound a queue for it, unless it is `mandatory`.
    """
    message_id = f"{CHANGE_ID_PREFIX}{change.id}"
    short_id = message_id.encode()
    before, headers_after, after = _template(change.action)
    headers = b"".join(
        (
            _ID_HEADER,
            _text(short_id),
            _HEADERS_BETWEEN,
            _SUBJECT_HEADER,
            _text(change.address.encode()),
            _TIME_HEADER,
            _text(_rfc_3339(change.at)),
            headers_after,
        )
    )
    properties = b"".join(
        (
            before,
            _LENGTH.pack(len(headers)),
            headers,
            _DELIVERY_MODE,
            bytes((len(short_id),)),
            short_id,
            _TIMESTAMP.pack(change.at),
            after,
        )
    )
    return Message(exchange, change.action, message_id, properties, change.body(), mandatory=mandatory)


# pamqp takes 40 us to encode these properties, and an import can make a million changes. The order is that of AMQP 0-9-1,
# 4.2.6.1; the headers are sorted, as in the events.
_LENGTH: Final = Struct(">I")
_TIMESTAMP: Final = Struct(">Q")
_FLAGS: Final = Struct(">H").pack(
    sum(
        FLAGS[name]
        for name in (
            "content_type", "headers", "delivery_mode", "message_id", "timestamp", "message_type", "app_id"
        )
    )
)  # fmt: skip
_DELIVERY_MODE: Final = bytes((PERSISTENT,))
_MAX_ACTIONS: Final = 64
_MAX_CACHED_TIMES: Final = 4096


def _text(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _name(header: str) -> bytes:
    """A text header up to its length: AMQP 0-9-1, 4.2.5.5."""
    return encode.short_string(header) + b"S"


_ID_HEADER: Final = _name("cloudEvents:id")
_SUBJECT_HEADER: Final = _name("cloudEvents:subject")
_TIME_HEADER: Final = _name("cloudEvents:time")
_HEADERS_BETWEEN: Final = b"".join(
    (
        _name("cloudEvents:source"),
        _text(CHANGE_SOURCE.encode()),
        _name("cloudEvents:specversion"),
        _text(SPEC_VERSION.encode()),
    )
)


@lru_cache(_MAX_ACTIONS)
def _template(action: str) -> tuple[bytes, bytes, bytes]:
    """What is the same for all changes with this action: before the headers, at their end, and after the timestamp."""
    return (
        _FLAGS + encode.short_string(CONTENT_TYPE),
        _name("cloudEvents:type") + _text(f"{CHANGE_TYPE_PREFIX}{action}".encode()),
        encode.short_string(action) + encode.short_string(APP_ID),
    )


@lru_cache(_MAX_CACHED_TIMES)
def _rfc_3339(at: int) -> bytes:
    return rfc3339(at).encode()
