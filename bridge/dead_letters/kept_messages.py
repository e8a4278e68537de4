"""Reads a file of discarded messages, which `message_file` has written, so that they can be put back."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from pamqp import commands as spec

from bridge.amqp.properties import decode_properties
from bridge.broker import header_values
from bridge.broker.copies import copy_of
from bridge.dead_letters.history import DEAD_AT_HEADER, DEAD_ERROR_HEADER, DEAD_REASON_HEADER
from bridge.dead_letters.message_file import (
    AMQP_NAMES,
    BASE64,
    BODY,
    BODY_BASE64,
    RAW_PROPERTIES,
    MessageFileError,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from bridge.amqp.message_types import Message

DEAD_LETTER_KEYS: Final = frozenset({"id", "event", "reason", "error", "attempts", "died_at"})
"""What every line of a file of dead letters has."""
QUARANTINE_KEYS: Final = frozenset({"id", "event", "reason", "problem", "received_at"})
"""What every line of a file of quarantined bodies has."""

_PAMQP_NAMES: Final = {amqp: name for name, amqp in AMQP_NAMES.items()}
_TIMESTAMP: Final = "timestamp"


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message that was discarded, as its file has it."""

    id: str
    properties: bytes
    """Encoded. From a file of an earlier release they are made of JSON, which does not have all types of AMQP."""
    body: bytes
    document: Mapping[str, Any]
    """The line."""


def kept_messages(path: Path, keys: frozenset[str]) -> Generator[KeptMessage, None, None]:
    """Each message of the file, in its order. It blocks.

    A last line that is cut off is left out: a message is removed only when its line is on the disk.

    Args:
        path: of the file.
        keys: what each line must have, to be of this queue.

    Raises:
        MessageFileError: the file cannot be read, or is no such file.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield _read(line, keys)
                except ValueError as error:
                    if not line.endswith(b"\n"):
                        return
                    raise MessageFileError(f"{path}: line {number}: {error}; nothing was put back") from None
    except OSError as error:
        raise MessageFileError(f"{path}: {error.strerror}") from None


def dead_letter_of(kept: KeptMessage, *, queue: str) -> Message:
    """The dead letter again: its bytes, properties and history.

    What RabbitMQ itself dead-lettered has its reason in headers that no copy keeps: ours say it then.
    """
    document, there = kept.document, decode_properties(kept.properties).headers
    said = {
        DEAD_REASON_HEADER: header_values.text(document["reason"]),
        DEAD_ERROR_HEADER: header_values.text(document["error"]),
        DEAD_AT_HEADER: _unix_ms(document["died_at"]),
    }
    missing = {name: value for name, value in said.items() if value and name not in there}
    return copy_of(
        kept.properties,
        kept.body,
        exchange="",
        routing_key=queue,
        headers=missing,
        message_id=kept.id,
    )


def quarantined_message_of(kept: KeptMessage, *, queue: str) -> Message:
    """The quarantined message again."""
    return copy_of(kept.properties, kept.body, exchange="", routing_key=queue, message_id=kept.id)


def _read(line: bytes, keys: frozenset[str]) -> KeptMessage:
    """Raises ValueError: it is not a line of this kind."""
    document = orjson.loads(line)
    if not isinstance(document, dict) or not keys <= document.keys() or not isinstance(document["id"], str):
        raise ValueError("it is not of a file of messages that were discarded from this queue")
    try:
        return KeptMessage(document["id"], _properties(document), _body(document), document)
    except (KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise ValueError(f"its message cannot be read ({error!r})") from None


def _body(document: Mapping[str, Any]) -> bytes:
    if BODY in document:
        return str(document[BODY]).encode()
    return base64.b64decode(document[BODY_BASE64], validate=True)


def _properties(document: Mapping[str, Any]) -> bytes:
    if RAW_PROPERTIES in document:
        return base64.b64decode(document[RAW_PROPERTIES][BASE64], validate=True)
    made = spec.Basic.Properties(headers=_without_base64(document["headers"]))
    for name, value in document["properties"].items():
        setattr(made, _PAMQP_NAMES.get(name, name), _moment(value) if name == _TIMESTAMP else value)
    return made.marshal()


def _without_base64(value: Any) -> Any:
    """The bytes instead of what `message_file.json_default` makes of them."""
    if isinstance(value, dict):
        if value.keys() == {BASE64}:
            return bytearray(base64.b64decode(value[BASE64], validate=True))
        return {name: _without_base64(one) for name, one in value.items()}
    return [*map(_without_base64, value)] if isinstance(value, list) else value


def _unix_ms(text: Any) -> int | None:
    return header_values.datetime_to_unix_ms(_moment(text)) if isinstance(text, str) else None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
