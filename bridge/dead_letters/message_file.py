"""A file of messages that are removed from RabbitMQ, with everything that is needed to publish them again."""

from __future__ import annotations

import base64
import errno
import os
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

import orjson

from bridge import durable_files
from bridge.timestamps import rfc3339_of_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from bridge.dead_letters.dead_letter_description import DeadLetter
    from bridge.dead_letters.queue_reader import HeldMessage

T = TypeVar("T")

BODY: Final = "body"
BODY_BASE64: Final = "body_base64"
RAW_PROPERTIES: Final = "raw_properties"
BASE64: Final = "base64"
"""Keys of a line, which `kept_messages` reads."""

_COPY_CHUNK_BYTES: Final = 1024**2
_TIMES_IN_UTC: Final = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC
"""RFC 3339, with a Z."""
AMQP_NAMES: Final = {"message_type": "type"}
"""Properties for which pamqp has another name than AMQP."""


class MessageFileError(Exception):
    """The messages cannot be written to the file. None of them was acknowledged."""


class MessageFile(Generic[T]):
    """One JSON document a line, fsynced when `append` returns. The first `append` creates the file; it never overwrites one."""

    def __init__(self, path: Path, document: Callable[[HeldMessage[T]], dict[str, Any]]) -> None:
        """Args: the path; what to write for each message."""
        self.path = path
        """Another path, if somebody has removed the file or put another in its place."""
        self._document = document
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def append(self, messages: Iterable[HeldMessage[T]]) -> None:
        """Write these messages, and fsync. It blocks.

        Raises:
            MessageFileError: the file exists already, or cannot be written.
        """
        lines = b"".join(
            orjson.dumps(
                self._document(held) | encoded_properties(held),
                default=json_default,
                option=_TIMES_IN_UTC | orjson.OPT_APPEND_NEWLINE,
            )
            for held in messages
        )
        try:
            if self._descriptor is None:
                self._descriptor = _create(self.path)
            _write(self._descriptor, lines)
            if not _is_at(self._descriptor, self.path):
                self.path = _with_free_number(self.path)
                self._descriptor = _recreate(self._descriptor, self.path)
        except FileExistsError:
            raise MessageFileError(
                f"{self.path} exists already, and is not overwritten; name another"
            ) from None
        except OSError as error:
            raise MessageFileError(
                f"{self.path}: {error.strerror}; the messages stay in their queue"
            ) from None


def unused_path(folder: Path, stem: str) -> Path:
    """`dead-letters-20260102T030405Z.jsonl` of `dead-letters`, with a number if it exists already."""
    return _with_free_number(folder / f"{stem}{time.strftime('-%Y%m%dT%H%M%SZ', time.gmtime())}.jsonl")


def _with_free_number(path: Path) -> Path:
    """This path, with a number if it exists already."""
    names = (path.with_stem(f"{path.stem}{f'-{number}' if number else ''}") for number in count())
    return next(name for name in names if not os.path.lexists(name))


def dead_letter_document(found: HeldMessage[DeadLetter]) -> dict[str, Any]:
    """A dead letter as JSON: its description, then the message."""
    letter = found.summary
    return {
        "id": letter.id,
        "event": letter.event,
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "died_at": rfc3339_of_milliseconds(letter.died_at),
        "first_failure": rfc3339_of_milliseconds(letter.first_failure),
        "where": letter.where,
        **message_document(found),
    }


def message_document(found: HeldMessage[T]) -> dict[str, Any]:
    """A message as JSON. A body that is not UTF-8 is in base64.

    If not all of its properties could be decoded, the encoded properties are added, in base64.
    """
    _, message, properties = found
    raw = {}
    if properties.error is not None:
        raw = {"undecodable": properties.error} | encoded_properties(found)
    return {
        **_body(message.body),
        "headers": properties.headers,
        "properties": {AMQP_NAMES.get(name, name): value for name, value in properties.values.items()},
        **raw,
    }


def encoded_properties(found: HeldMessage[T]) -> dict[str, Any]:
    """All properties as they came over the wire: JSON has not all types of AMQP, and a message is put back from these."""
    return {RAW_PROPERTIES: {BASE64: _base64(found.message.properties)}}


def as_json(document: Mapping[str, Any]) -> Any:
    """A document of this module, made of what JSON has."""
    return orjson.loads(orjson.dumps(document, default=json_default, option=_TIMES_IN_UTC))


def json_default(value: Any) -> Any:
    """The `default` of orjson, for types of AMQP that JSON does not have."""
    if isinstance(value, bytes | bytearray):
        return {BASE64: _base64(value)}
    return str(value)


def _body(body: bytes) -> dict[str, str]:
    try:
        return {BODY: body.decode()}
    except UnicodeDecodeError:
        return {BODY_BASE64: _base64(body)}


def _base64(content: bytes | bytearray) -> str:
    return base64.b64encode(content).decode()


def _write(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.write(descriptor, content[written:])
    os.fsync(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the descriptor is the file at this path. A removed or mounted-over file accepts every write."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _recreate(descriptor: int, path: Path) -> int:
    """Create the file again, with everything that was written to the removed one.

    Raises:
        OSError: it cannot be created, or was removed as well.
    """
    another = _create(path)
    offset = 0
    while content := os.pread(descriptor, _COPY_CHUNK_BYTES, offset):
        _write(another, content)
        offset += len(content)
    os.close(descriptor)
    if not _is_at(another, path):
        os.close(another)
        raise OSError(errno.ESTALE, "somebody keeps removing it")
    return another


def _create(path: Path) -> int:
    """Create it, readable by the owner only: the events are about people. The folder is fsynced too."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    durable_files.sync_folder(path.parent)
    return descriptor
