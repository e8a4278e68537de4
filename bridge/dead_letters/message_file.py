"""A file of messages that leave RabbitMQ for good: everything that is needed to make them again."""

from __future__ import annotations

import base64
import errno
import os
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

import orjson

from bridge.timestamps import rfc3339_of_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from bridge.dead_letters.queue_reader import Found, Letter

T = TypeVar("T")

_COPIED_AT_ONCE: Final = 1024**2
_TIMES_IN_UTC: Final = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC
"""RFC 3339, with a Z."""
_NAMES: Final = {"message_type": "type"}
"""What pamqp calls otherwise than AMQP does."""


class LetterFileError(Exception):
    """They cannot be written to their file; none of them was let go for it."""


class LetterFile(Generic[T]):
    """One JSON document a line, each on the disk when `keep` returns. It is made with the first, never overwritten."""

    def __init__(self, path: Path, document: Callable[[Found[T]], dict[str, Any]]) -> None:
        """Args: where it is made; what is written of each."""
        self.path = path
        """Another one, if somebody has put another file in its place."""
        self._document = document
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def keep(self, letters: Iterable[Found[T]]) -> None:
        """Write these, and have them on the disk. It blocks.

        Raises:
            LetterFileError: the file exists already, or cannot be written.
        """
        lines = b"".join(
            orjson.dumps(
                self._document(found), default=plain, option=_TIMES_IN_UTC | orjson.OPT_APPEND_NEWLINE
            )
            for found in letters
        )
        try:
            if self._descriptor is None:
                self._descriptor = _made(self.path)
            _write(self._descriptor, lines)
            if not _stands(self._descriptor, self.path):
                self.path = _free(self.path)
                self._descriptor = _made_again(self._descriptor, self.path)
        except FileExistsError:
            raise LetterFileError(
                f"{self.path} exists already, and is not overwritten; name another"
            ) from None
        except OSError as error:
            raise LetterFileError(f"{self.path}: {error.strerror}; what was to be discarded stays") from None


def free_name(folder: Path, stem: str) -> Path:
    """`dead-letters-20260102T030405Z.jsonl` of `dead-letters`, with a number where that is taken."""
    return _free(folder / f"{stem}{time.strftime('-%Y%m%dT%H%M%SZ', time.gmtime())}.jsonl")


def _free(path: Path) -> Path:
    """This name, with a number where it is taken."""
    names = (path.with_stem(f"{path.stem}{f'-{number}' if number else ''}") for number in count())
    return next(name for name in names if not os.path.lexists(name))


def document(found: Found[Letter]) -> dict[str, Any]:
    """A dead letter as JSON: what is known of it, then the message."""
    letter = found.letter
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


def message_document(found: Found[T]) -> dict[str, Any]:
    """A message as JSON. A body that is no text is in base64.

    Where not all of its properties could be decoded, they stand there as they are, in base64, too.
    """
    _, message, properties = found
    raw = {}
    if properties.error is not None:
        raw = {"undecodable": properties.error, "raw_properties": {"base64": _base64(message.properties)}}
    return {
        **_body(message.body),
        "headers": properties.headers,
        "properties": {_NAMES.get(name, name): value for name, value in properties.values.items()},
        **raw,
    }


def as_json(document: Mapping[str, Any]) -> Any:
    """A document of this module, made of what JSON has."""
    return orjson.loads(orjson.dumps(document, default=plain, option=_TIMES_IN_UTC))


def plain(value: Any) -> Any:
    """For orjson: what AMQP has and JSON has not."""
    if isinstance(value, bytes | bytearray):
        return {"base64": _base64(value)}
    return str(value)


def _body(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": _base64(body)}


def _base64(content: bytes | bytearray) -> str:
    return base64.b64encode(content).decode()


def _write(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.write(descriptor, content[written:])
    os.fsync(descriptor)


def _stands(descriptor: int, path: Path) -> bool:
    """Whether it is the file of this name: one that somebody has removed, or mounted over, takes every write."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _made_again(descriptor: int, path: Path) -> int:
    """Another file of this name, with all that was written into the one that is gone.

    Raises:
        OSError: it cannot be made, or is gone as well.
    """
    another = _made(path)
    offset = 0
    while content := os.pread(descriptor, _COPIED_AT_ONCE, offset):
        _write(another, content)
        offset += len(content)
    os.close(descriptor)
    if not _stands(another, path):
        os.close(another)
        raise OSError(errno.ESTALE, "somebody removes it again and again")
    return another


def _made(path: Path) -> int:
    """Only for the owner: the events are about people. Its name is on the disk, too."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return descriptor
