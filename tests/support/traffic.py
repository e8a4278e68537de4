"""Holds what the tests' RabbitMQ nodes are given to the contract: every message of the bridge, whoever publishes it."""

from __future__ import annotations

import re
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bridge.amqp.properties import decode_properties
from bridge.broker.messages import APP_ID
from tests.support import contract

if TYPE_CHECKING:
    from bridge.amqp.message_types import Delivery

FORGED_HEADER: Final = "forged-by-a-test"
"""On a message with which a test gives itself out for the bridge, though the bridge would never publish it. Copies keep it."""

_OF_THE_BRIDGE: Final = b"\x06app_idS" + len(APP_ID).to_bytes(4) + APP_ID.encode()
"""As RabbitMQ writes the property into the headers of a traced message."""
_SHOWN: Final = 20
_SHOWN_BYTES: Final = 500
_VALUE: Final = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*|'[^']*' (?=does not match|is not)")
"""Numbers, digests, prefixes of tests, and what does not match."""
_32_BITS_UNTIL: Final = "2038"
_TIMESTAMP_MODULUS: Final = 2**32


class Mismatch(NamedTuple):
    """A message that does not hold to the contract."""

    exchange: str
    routing_key: str
    properties: dict[str, Any]
    body: bytes
    problems: list[str]

    @property
    def kind(self) -> str:
        """The place and the problem, without the values of this message."""
        return " ".join(_VALUE.sub("", part) for part in (self.exchange, self.routing_key, *self.problems))

    def __str__(self) -> str:
        lines = [
            f"exchange {self.exchange!r}, routing key {self.routing_key!r}",
            *(f"  {problem}" for problem in self.problems),
            f"  properties and headers: {self.properties}",
            f"  body: {self.body[:_SHOWN_BYTES]!r}",
        ]
        return "\n".join(lines)


class Traffic:
    """What a run has published. It may be filled from several threads."""

    def __init__(self, *, way_out: str = FORGED_HEADER) -> None:
        """Nothing is published yet. Args: the header of messages that are not compared."""
        self._way_out = way_out.encode()
        self.mismatches: list[str] = []
        """The first one of each kind, with everything that there is to see."""
        self._kinds: set[str] = set()
        """Of mismatches."""
        self.counts: Counter[str] = Counter()
        """`all`, and of these `bridge` and `forged`; `wrong`; and `us`, microseconds of CPU that it took."""
        self._lock = threading.Lock()

    def take(self, traced: Delivery) -> None:
        """A message of RabbitMQ's firehose: https://www.rabbitmq.com/docs/firehose."""
        ours = _OF_THE_BRIDGE in traced.properties
        forged = ours and self._way_out in traced.properties
        wrong = _mismatch(traced) if ours and not forged else None
        with self._lock:
            self.counts["all"] += 1
            self.counts["bridge"] += ours
            self.counts["forged"] += forged
            if wrong is not None:
                self.counts["wrong"] += 1
                if wrong.kind not in self._kinds and len(self.mismatches) < _SHOWN:
                    self._kinds.add(wrong.kind)
                    self.mismatches.append(str(wrong))

    def used(self, seconds: float) -> None:
        """This much CPU time was used on it."""
        with self._lock:
            self.counts["us"] += round(seconds * 1e6)

    def add(self, counts: dict[str, int], mismatches: list[str]) -> None:
        """What another process has found."""
        with self._lock:
            self.counts.update(counts)
            self.mismatches += mismatches[: _SHOWN - len(self.mismatches)]


def _mismatch(traced: Delivery) -> Mismatch | None:
    headers = decode_properties(traced.properties).headers
    properties = headers["properties"]
    exchange, routing_key = headers["exchange_name"], headers["routing_keys"][0]
    properties["timestamp"] = _whole_timestamp(properties)
    if problems := contract.problems(exchange, routing_key, properties, traced.body):
        return Mismatch(exchange, routing_key, properties, traced.body, problems)
    return None


def _whole_timestamp(properties: dict[str, Any]) -> int | None:
    """The firehose writes 32 bits of it; of a later time the header says which one it is."""
    timestamp: int | None = properties.get("timestamp")
    said = properties.get("headers", {}).get("cloudEvents:time")
    if timestamp is None or not isinstance(said, str) or said < _32_BITS_UNTIL:
        return timestamp
    try:
        whole = int(datetime.strptime(said, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return timestamp
    return whole if (whole - timestamp) % _TIMESTAMP_MODULUS == 0 else timestamp
