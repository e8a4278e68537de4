"""What RabbitMQ is known to refuse at present: learnt from its own words, so that it is not sent again and again."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from bridge.amqp.publish_errors import ChannelClosedError, PublishError
from bridge.events import KNOWN_NAMES, MALFORMED
from bridge.spool.refused_entries import FORBIDDEN, NACKED, REFUSED, TOO_LARGE, Refusal
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.amqp.frames import Message

log = logs.logger("spool")

_FORBIDDEN_CODE: Final = 403
NOT_FOUND_CODE: Final = 404
_TOPIC: Final = re.compile(r"access to topic '(.*)' in exchange '", re.DOTALL)
_EXCHANGE: Final = re.compile(r"access to exchange '")
_SIZE: Final = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")

MOST_NAMES: Final = 100
"""Names that are forbidden one by one; with more of them, names that nobody knows count as forbidden."""
_LOG_EVERY_SECONDS: Final = 10.0
_NO_NACK_SECONDS: Final = 10.0
_HASTEN_EVERY_SECONDS: Final = 600.0
"""A queue that takes one now and then is to have no more copies of what waits than by the pauses alone."""


class BrokerRefusesError(PublishError):
    """RabbitMQ takes nothing from us at all. It is not for a single event, and none is set aside."""


class RefusedEvents:
    """Asked before each publish. What is remembered here goes to the spool at once, and is tried from there."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Args: the clock, in seconds."""
        self.any = False
        """Whether anything is remembered; where speed counts, nothing else has to be looked at."""
        self.report = Report()
        self.nacked: dict[str, float] = {}
        """Routing key -> when an event was nacked under it for the last time."""
        self._recovered: set[str] = set()
        self._hastened: dict[str, float] = {}
        self._now = now
        self._names: dict[str, Refusal] = {}
        self._largest: int | None = None
        self._said = ""
        self._heard: ChannelClosedError | None = None

    def of(self, message: Message) -> Refusal | None:
        """What is known to be refused about this message."""
        key = message.routing_key
        if (known := self._names.get(key)) is not None:
            return known
        if self._largest is not None and len(message.body) > self._largest:
            return Refusal(TOO_LARGE, "", self._said)
        if len(self._names) >= MOST_NAMES and key not in KNOWN_NAMES and key != MALFORMED:
            return Refusal(
                FORBIDDEN, key, "so many names are forbidden that those which nobody knows are not tried"
            )
        return None

    def heard(self, error: ChannelClosedError) -> None:
        """Learn from what RabbitMQ said; where it says nothing of use, whoever publishes one by one calls `blame`."""
        if error is self._heard:
            return
        self._heard = error
        if error.code == _FORBIDDEN_CODE and (topic := _TOPIC.search(error.text)):
            self._remember(Refusal(FORBIDDEN, topic[1], error.text))
        elif size := _SIZE.search(error.text):
            self._largest, self._said, self.any = int(size[1]), error.text, True

    def blame(self, message: Message, error: ChannelClosedError) -> Refusal:
        """This message was alone on the channel: it is what is refused."""
        if error.code == _FORBIDDEN_CODE:
            refusal = Refusal(FORBIDDEN, message.routing_key, error.text)
            self._remember(refusal)
            return refusal
        return Refusal(REFUSED, f"{error.code}", error.text)

    def passed(self, message: Message) -> None:
        """RabbitMQ has confirmed it: what was remembered of its kind is over."""
        self._names.pop(message.routing_key, None)
        if self._largest is not None and len(message.body) > self._largest:
            self._largest = None
        self.any = bool(self._names) or self._largest is not None

    def nack(self, message: Message, error: PublishError) -> Refusal:
        """It was nacked: what is to be remembered with it."""
        if len(self.nacked) < MOST_NAMES or message.routing_key in self.nacked:
            self.nacked[message.routing_key] = self._now()
        return Refusal(NACKED, message.routing_key, str(error))

    def confirmed(self, routing_key: str) -> None:
        """A live event was confirmed: if none was nacked under its key for a while, the cause is over."""
        last = self.nacked.get(routing_key)
        if last is not None and self._now() - last >= _NO_NACK_SECONDS:
            del self.nacked[routing_key]
            self._recovered.add(routing_key)

    def recovered(self) -> list[str]:
        """Kinds of entries that are to be tried soon, for events like them are confirmed; each now and then at most."""
        keys, self._recovered = self._recovered, set()
        now = self._now()
        soon = [
            key
            for key in keys
            if now - self._hastened.get(key, -_HASTEN_EVERY_SECONDS) >= _HASTEN_EVERY_SECONDS
        ]
        if len(self._hastened) >= MOST_NAMES:
            self._hastened.clear()
        self._hastened.update(dict.fromkeys(soon, now))
        return [Refusal(NACKED, key, "").kind for key in soon]

    def _remember(self, refusal: Refusal) -> None:
        if len(self._names) < MOST_NAMES:
            self._names[refusal.routing_key] = refusal
            self.any = True


def takes_nothing(error: ChannelClosedError) -> bool:
    """Whether this speaks of the exchange, and so of everything."""
    if error.code == _FORBIDDEN_CODE:
        return _EXCHANGE.search(error.text) is not None
    return error.code == NOT_FOUND_CODE


class Report:
    """One line each 10 s at the most for each reason, with counts: a full queue refuses thousands."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}
        self._said: dict[str, str] = {}
        self._told_at: dict[str, float] = {}

    def add(self, refusal: Refusal, entries: int = 1) -> None:
        """So many were refused just now."""
        counts = self._counts.setdefault(refusal.reason, {})
        counts[refusal.routing_key] = counts.get(refusal.routing_key, 0) + entries
        self._said[refusal.reason] = refusal.said
        self.tell()

    def tell(self) -> None:
        """Log what has not been logged, unless it is too soon."""
        now = time.monotonic()
        for reason, counts in list(self._counts.items()):
            if now - self._told_at.get(reason, -_LOG_EVERY_SECONDS) < _LOG_EVERY_SECONDS:
                continue
            self._told_at[reason] = now
            del self._counts[reason]
            action = "spool.nacked" if reason == NACKED else "spool.set_aside"
            log.warning(
                "RabbitMQ refuses events: they wait in the spool",
                action=action,
                reason=reason,
                entries=sum(counts.values()),
                by_routing_key=dict(sorted(counts.items(), key=lambda one: -one[1])[:_MOST_SHOWN]),
                said=self._said[reason],
            )


_MOST_SHOWN: Final = 10
