"""What RabbitMQ is known to refuse now, learnt from its error texts, so that it is not published again and again."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Final

from bridge.amqp.publish_errors import ChannelClosedError, PublishError
from bridge.events import KNOWN_NAMES, MALFORMED
from bridge.spool.set_aside_entries import FORBIDDEN, NACKED, REFUSED, TOO_LARGE, Refusal
from bridge.spool.unconfirmed import Unconfirmed
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.amqp.message_types import Message

log = logs.logger("spool")

_FORBIDDEN_CODE: Final = 403
NOT_FOUND_CODE: Final = 404

# RabbitMQ's reply texts, from its rabbit_access_control and rabbit_channel; the tests provoke each on a real broker.
_TOPIC: Final = re.compile(r"access to topic '(.*)' in exchange '", re.DOTALL)
_EXCHANGE: Final = re.compile(r"access to exchange '")
_SIZE: Final = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")

MAX_NAMES: Final = 100
"""How many forbidden names are remembered. When there are more, unknown names count as forbidden."""
_LOG_EVERY_SECONDS: Final = 10.0
_NACKED: Final = (
    (
        "RabbitMQ nacks events, as it does where a queue is full and rejects: they go round through the spool; "
        "`bridge doctor` names the queue (`queues that refuse`)"
    ),
    "spool.nacked",
)
"""The text of the line, and its action."""
_SET_ASIDE: Final = ("RabbitMQ refuses events: they stay in the spool", "spool.set_aside")
_MAX_SHOWN: Final = 10
"""Routing keys named in one log line."""
_NO_NACK_SECONDS: Final = 10.0
"""A key has recovered when its events were confirmed, and none nacked, for this long."""
_RETRY_SOON_SECONDS: Final = 600.0
"""At most once in this time for one key: a queue that takes a message now and then must not get more copies than by backoff."""


class EveryPublishRefusedError(PublishError):
    """RabbitMQ refuses every message. It is not about a single event, and none is set aside."""


class KnownRefusals:
    """Checked before each publish. Events that are known to be refused go to the spool, and are retried from there."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Args: the clock, in seconds."""
        self.any = False
        """Whether anything is known to be refused: a fast check before `refusal_of`."""
        self.report = RefusalReport()
        self.nacked: dict[str, float] = {}
        """Routing key -> when an event with it was last nacked."""
        self.nack_noted = asyncio.Event()
        """Set at each nack."""
        self.unconfirmed = Unconfirmed(now)
        """What RabbitMQ neither refuses nor confirms."""
        self._recovered: set[str] = set()
        self._retried_soon_at: dict[str, float] = {}
        self._now = now
        self._forbidden: dict[str, Refusal] = {}
        self._max_body_bytes: int | None = None
        self._size_text = ""
        self._last_error: ChannelClosedError | None = None

    def refusal_of(self, message: Message) -> Refusal | None:
        """Why RabbitMQ would refuse this message; None if that is not known."""
        key = message.routing_key
        if (known := self._forbidden.get(key)) is not None:
            return known
        if self._max_body_bytes is not None and len(message.body) > self._max_body_bytes:
            return Refusal(TOO_LARGE, "", self._size_text)
        if len(self._forbidden) >= MAX_NAMES and key not in KNOWN_NAMES and key != MALFORMED:
            return Refusal(FORBIDDEN, key, "so many names are forbidden that unknown names are not tried")
        return None

    def learn_from(self, error: ChannelClosedError) -> None:
        """Learn from RabbitMQ's text. If it does not name a cause, the drain publishes one by one, and calls `blame`."""
        if error is self._last_error:
            return
        self._last_error = error
        if error.code == _FORBIDDEN_CODE and (topic := _TOPIC.search(error.text)):
            self._remember(Refusal(FORBIDDEN, topic[1], error.text))
        elif size := _SIZE.search(error.text):
            self._max_body_bytes, self._size_text, self.any = int(size[1]), error.text, True

    def blame(self, message: Message, error: ChannelClosedError) -> Refusal:
        """This message was alone on the channel, so it is the refused one."""
        if error.code == _FORBIDDEN_CODE:
            refusal = Refusal(FORBIDDEN, message.routing_key, error.text)
            self._remember(refusal)
            return refusal
        return Refusal(REFUSED, f"{error.code}", error.text)

    def note_accepted(self, message: Message) -> None:
        """RabbitMQ has confirmed this message: forget refusals of its kind."""
        self._forbidden.pop(message.routing_key, None)
        if self._max_body_bytes is not None and len(message.body) > self._max_body_bytes:
            self._max_body_bytes = None
        self.any = bool(self._forbidden) or self._max_body_bytes is not None

    def note_nack(self, message: Message, error: PublishError) -> Refusal:
        """This message was nacked; returns the refusal. Args: the message; RabbitMQ's nack."""
        if len(self.nacked) < MAX_NAMES or message.routing_key in self.nacked:
            self.nacked[message.routing_key] = self._now()
        self.nack_noted.set()
        return Refusal(NACKED, message.routing_key, str(error))

    def note_live_confirm(self, routing_key: str) -> None:
        """A live event was confirmed. If none with its key was nacked for a while, the key has recovered."""
        last = self.nacked.get(routing_key)
        if last is not None and self._now() - last >= _NO_NACK_SECONDS:
            del self.nacked[routing_key]
            self._recovered.add(routing_key)

    def recovered(self) -> list[str]:
        """Kinds to retry soon, because live events like them are confirmed again. Each kind only now and then."""
        keys, self._recovered = self._recovered, set()
        now = self._now()
        soon = [
            key
            for key in keys
            if now - self._retried_soon_at.get(key, -_RETRY_SOON_SECONDS) >= _RETRY_SOON_SECONDS
        ]
        if len(self._retried_soon_at) >= MAX_NAMES:
            self._retried_soon_at.clear()
        self._retried_soon_at.update(dict.fromkeys(soon, now))
        return [Refusal(NACKED, key, "").kind for key in soon]

    def _remember(self, refusal: Refusal) -> None:
        if len(self._forbidden) < MAX_NAMES:
            self._forbidden[refusal.routing_key] = refusal
            self.any = True


def refuses_everything(error: ChannelClosedError) -> bool:
    """Whether RabbitMQ closed the channel because of the exchange: it is missing (404), or forbidden (403), for every message."""
    if error.code == _FORBIDDEN_CODE:
        return _EXCHANGE.search(error.text) is not None
    return error.code == NOT_FOUND_CODE


class RefusalReport:
    """Logs refusals: at most one line in 10 s for each reason, with counts, because a full queue refuses thousands."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}
        self._reply_texts: dict[str, str] = {}
        self._logged_at: dict[str, float] = {}

    def add(self, refusal: Refusal, entries: int = 1) -> None:
        """Count entries that were refused, and log if due."""
        counts = self._counts.setdefault(refusal.reason, {})
        counts[refusal.routing_key] = counts.get(refusal.routing_key, 0) + entries
        self._reply_texts[refusal.reason] = refusal.reply_text
        self.log_if_due()

    def log_if_due(self) -> None:
        """Log what was counted since the last line, unless that was a moment ago."""
        now = time.monotonic()
        for reason, counts in list(self._counts.items()):
            if now - self._logged_at.get(reason, -_LOG_EVERY_SECONDS) < _LOG_EVERY_SECONDS:
                continue
            self._logged_at[reason] = now
            del self._counts[reason]
            text, action = _NACKED if reason == NACKED else _SET_ASIDE
            log.warning(
                text,
                action=action,
                reason=reason,
                entries=sum(counts.values()),
                by_routing_key=dict(sorted(counts.items(), key=lambda one: -one[1])[:_MAX_SHOWN]),
                reply_text=self._reply_texts[reason],
            )
