"""When the events came in that wait outside of this worker: in delay queues, or in the suppression queue again."""

from __future__ import annotations

import time
from struct import Struct
from typing import TYPE_CHECKING, Final

from bridge.amqp.properties import decode_properties
from bridge.broker import header_values
from bridge.broker.messages import RECEIVED_AT_HEADER
from bridge.dead_letters.history import DEAD_AT_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bridge.amqp.properties import Properties

_BUCKET_SECONDS: Final = 10.0
"""Events that return within this time of each other are kept as one, so that an hour of delays takes 360 of them."""
_INT64: Final = Struct(">q")
_ENCODED_NAME: Final = bytes((len(RECEIVED_AT_HEADER),)) + RECEIVED_AT_HEADER.encode() + b"l"
"""How the header begins in the messages of `broker.messages`."""


class ReturningEvents:
    """Events that come back to the suppression queue by themselves: the oldest of them, until nobody need ask for it."""

    def __init__(self) -> None:
        self._oldest: dict[int, float] = {}
        """When they have returned, in `_BUCKET_SECONDS` -> when the oldest of them came in, in Unix seconds."""

    def add(self, received_at: float, *, returned_by: float) -> None:
        """Remember an event. Args: when it came in, when it is in the queue again (Unix seconds)."""
        bucket = int(returned_by // _BUCKET_SECONDS) + 1
        self._oldest[bucket] = min(received_at, self._oldest.get(bucket, received_at))

    def forget(self, drained: float) -> None:
        """Forget those that had returned before `drained` (Unix seconds): since then their workers report them."""
        self._oldest = {
            bucket: at for bucket, at in self._oldest.items() if bucket * _BUCKET_SECONDS >= drained
        }

    @property
    def oldest(self) -> float | None:
        """When the oldest of them came in, in Unix seconds; None if there are none."""
        return min(self._oldest.values(), default=None)

    @property
    def returned_by(self) -> float | None:
        """When all of them have returned, in Unix seconds; None if there are none."""
        return max(self._oldest) * _BUCKET_SECONDS if self._oldest else None


def received_at(properties: bytes) -> float | None:
    """When the event of this message came in, in Unix seconds. Args: encoded properties. None: they do not say."""
    at = properties.find(_ENCODED_NAME)
    if at >= 0 and len(properties) >= (end := at + len(_ENCODED_NAME)) + _INT64.size:
        milliseconds = header_values.unix_ms(_INT64.unpack_from(properties, end)[0])
        return None if milliseconds is None else milliseconds / 1000
    return received_at_of(decode_properties(properties))


def received_at_of(properties: Properties) -> float | None:
    """The same of decoded properties. A message without the header says when it became a dead letter, or when it was made."""
    headers = properties.headers
    for milliseconds in (
        header_values.unix_ms(headers.get(RECEIVED_AT_HEADER)),
        header_values.unix_ms(headers.get(DEAD_AT_HEADER)),
        header_values.datetime_to_unix_ms(properties.values.get("timestamp")),
    ):
        if milliseconds is not None:
            return milliseconds / 1000
    return None


def oldest_of(all_properties: Iterable[bytes], clock: Callable[[], float] = time.time) -> float | None:
    """When the oldest of these messages came in, in Unix seconds; None if there are none. One that does not say counts as now."""
    now = clock()
    times = (received_at(properties) for properties in all_properties)
    return min((now if at is None else at for at in times), default=None)
