"""Writes the lines of many events at once: to send each one through structlog and logging takes ten times as long."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TextIO

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from structlog.typing import Processor

    from bridge.telemetry.scrubbing import Scrubber

_LEVEL = "info"
_DELETE = b"\x7f"
"""The one control character of ASCII that orjson does not escape."""


class _Rendered(logging.LogRecord):
    """A record whose message is the lines themselves."""


class ManyLinesHandler(logging.StreamHandler[TextIO]):
    """A handler of JSON lines. What comes through `logging` it treats like its base class."""

    def __init__(
        self,
        stream: TextIO,
        *,
        time: Processor,
        scrubber: Scrubber,
        line: Callable[[Mapping[str, Any]], str],
    ) -> None:
        """Make a handler.

        Args:
            stream: where to.
            time: adds the field `timestamp`.
            scrubber: the last processor before a line.
            line: the JSON of an event, with nothing in it that steers a terminal.
        """
        super().__init__(stream)
        self._time = time
        self._scrubber = scrubber
        self._line = line

    def write(self, package: str, events: Iterable[Mapping[str, Any]]) -> None:
        """Write a line for each event, at level `info`. Args: the logger's name; the fields of each, its message as `event`."""
        context = structlog.contextvars.get_contextvars()
        common: dict[str, Any] = {"level": _LEVEL, "logger": package}
        self._time(None, "", common)
        lines: list[dict[str, Any]] = [{**fields, **context, **common} for fields in events]
        self._scrubber.scrub_all(lines)
        for one in lines:
            one["message"] = one.pop("event")
        if lines:
            self.handle(_Rendered(package, logging.INFO, "", 0, self._text(lines), (), None))

    def _text(self, lines: Iterable[Mapping[str, Any]]) -> str:
        try:
            encoded = b"\n".join([orjson.dumps(one) for one in lines])
        except orjson.JSONEncodeError:
            encoded = _DELETE
        # Of ASCII all that steers a terminal is escaped: a look at all lines at once is cheaper.
        if encoded.isascii() and _DELETE not in encoded:
            return encoded.decode()
        return "\n".join([self._line(one) for one in lines])

    def format(self, record: logging.LogRecord) -> str:
        """The lines of `write`, or the record as its formatter has it."""
        return record.msg if isinstance(record, _Rendered) else super().format(record)
