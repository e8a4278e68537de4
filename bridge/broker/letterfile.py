"""A file of dead letters that leave RabbitMQ for good: everything that is needed to make them again."""

from __future__ import annotations

import base64
import os
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bridge.broker.parked import Found

_NAMES: Final = {"message_type": "type"}
"""What pamqp calls otherwise than AMQP does."""


class LetterFileError(Exception):
    """The dead letters cannot be written to their file; none of them was let go for it."""


class LetterFile:
    """One JSON document a line, each on the disk when `keep` returns. It is made with the first, never overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def keep(self, letters: Iterable[Found]) -> None:
        """Write these, and have them on the disk. It blocks.

        Raises:
            LetterFileError: the file exists already, or cannot be written.
        """
        lines = b"".join(
            orjson.dumps(document(found), default=plain, option=orjson.OPT_APPEND_NEWLINE)
            for found in letters
        )
        try:
            if self._descriptor is None:
                self._descriptor = _made(self.path)
            written = 0
            while written < len(lines):
                written += os.write(self._descriptor, lines[written:])
            os.fsync(self._descriptor)
        except FileExistsError:
            raise LetterFileError(
                f"{self.path} exists already, and is not overwritten; name another"
            ) from None
        except OSError as error:
            raise LetterFileError(f"{self.path}: {error.strerror}; the dead letters stay") from None


def free_name(folder: Path) -> Path:
    """`dead-letters-20260102T030405Z.jsonl`, with a number where that is taken."""
    stem = time.strftime("dead-letters-%Y%m%dT%H%M%SZ", time.gmtime())
    names = (folder / f"{stem}{f'-{number}' if number else ''}.jsonl" for number in count())
    return next(name for name in names if not name.exists())


def document(found: Found) -> dict[str, Any]:
    """A dead letter as JSON: what is known of it, then the message. A body that is no text is in base64.

    Where not all of its properties could be decoded, they stand there as they are, in base64, too.
    """
    letter, message, properties = found
    raw = {}
    if properties.error is not None:
        raw = {"undecodable": properties.error, "raw_properties": {"base64": _base64(message.properties)}}
    return {
        "id": letter.id,
        "event": letter.event,
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "died_at": letter.died_at,
        "first_failure": letter.first_failure,
        "where": letter.where,
        **_body(message.body),
        "headers": properties.headers,
        "properties": {_NAMES.get(name, name): value for name, value in properties.values.items()},
        **raw,
    }


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


def _made(path: Path) -> int:
    """Only for the owner: the events are about people. Its name is on the disk, too."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return descriptor
