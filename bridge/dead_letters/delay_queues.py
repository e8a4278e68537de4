"""The delay queues: where a message waits for its next attempt, and what it carries of those before."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bridge.broker import header_values
from bridge.dead_letters import dead_letter_queue, republishing
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bridge.amqp.deliveries import Delivery
    from bridge.broker.topology import Names
    from bridge.dead_letters.republishing import Publishing
    from bridge.telemetry.metrics import Metrics

log = logs.logger("retries")

ATTEMPT_HEADER: Final = "retry-attempt"
"""How many attempts have failed, an integer. On a dead letter: all of them, the last one included."""
FIRST_FAILURE_HEADER: Final = "retry-first-failure"
"""When the first of them failed, Unix milliseconds."""
ERROR_HEADER: Final = "retry-error"
"""One line for people: what went wrong the last time."""
WHERE_HEADER: Final = "retry-where"
"""Where the last one failed: `parse`, `provider` or `database`, `@`, and the worker's host name."""

REASON_HEADER: Final = "retry-reason"
"""A word for what went wrong the last time, for example `unknown-message`."""
SAME_SINCE_HEADER: Final = "retry-same-since"
"""Since when, without another one between, that has been the reason, Unix milliseconds."""

HEADERS: Final = (
    ATTEMPT_HEADER, FIRST_FAILURE_HEADER, ERROR_HEADER, WHERE_HEADER, REASON_HEADER, SAME_SINCE_HEADER
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a message's failed attempts, the last one included."""

    attempt: int
    """Of how many."""
    first_failure: int
    """Unix milliseconds."""
    error: str
    where: str
    reason: str
    """A word for the last failure, of a few."""
    same_since: int
    """Since when, without another one between, that has been the reason; Unix milliseconds."""

    def headers(self) -> dict[str, Any]:
        return {
            ATTEMPT_HEADER: self.attempt,
            FIRST_FAILURE_HEADER: self.first_failure,
            ERROR_HEADER: self.error,
            WHERE_HEADER: self.where,
            REASON_HEADER: self.reason,
            SAME_SINCE_HEADER: self.same_since,
        }

    @property
    def age(self) -> float:
        """Seconds since the first failure."""
        return max(0.0, _now() / 1000 - self.first_failure / 1000)

    @property
    def reason_age(self) -> float:
        """Seconds since the first failure of this kind."""
        return max(0.0, _now() / 1000 - self.same_since / 1000)


def failed(headers: Mapping[str, Any], *, reason: str, error: str, where: str) -> History:
    """The history of a message that has just failed once more.

    A dead letter that was put back to work begins anew: what happened before is over. So does one whose history
    cannot be read, and a first failure that is still to come was now: else it would be tried again for ever.

    Args:
        headers: those that the message came in with.
        reason: what went wrong, a word of a few.
        error: the same, one line.
        where: `parse`, `provider` or `database`.
    """
    replayed = dead_letter_queue.AT_HEADER in headers
    before = 0 if replayed else header_values.attempts(headers.get(ATTEMPT_HEADER)) or 0
    first = None if replayed else header_values.moment(headers.get(FIRST_FAILURE_HEADER))
    now = _now()
    first_failure = now if first is None else min(first, now)
    last_reason = header_values.text(headers.get(REASON_HEADER))
    same_since = now
    if first is not None and last_reason in {
        reason,
        "",
    }:  # without that header it is the reason of all, as it was once
        since = header_values.moment(headers.get(SAME_SINCE_HEADER)) if last_reason else first_failure
        same_since = now if since is None else max(first_failure, min(since, now))
    return History(
        attempt=min(before + 1, header_values.MOST_ATTEMPTS),
        first_failure=first_failure,
        reason=reason,
        same_since=same_since,
        error=header_values.line(error),
        where=f"{where}@{socket.gethostname()}",
    )


class Retries:
    """The delay queues, as the place to move messages to."""

    def __init__(
        self,
        publisher: Publishing,
        *,
        names: Names,
        delays: Sequence[float],
        longest_wait: float,
        metrics: Metrics,
    ) -> None:
        """Make the place; `topology.plan` names the queues.

        Args:
            publisher: sends the messages.
            names: of the queues.
            delays: seconds before the second, the third attempt and so on; the last one repeats.
            longest_wait: between two attempts while RabbitMQ does not confirm, in seconds.
            metrics: counts retries by reason and delay.
        """
        self._publisher = publisher
        self._names = names
        self._delays = delays
        self._longest_wait = longest_wait
        self._metrics = metrics

    async def delay(self, incoming: Delivery, history: History) -> None:
        """Have the message delivered again later; returns when RabbitMQ has confirmed that it will be.

        The original is the caller's to acknowledge, and only then.

        Args:
            incoming: the message.
            history: of its attempts.
        """
        seconds = self._delays[min(history.attempt, len(self._delays)) - 1]
        message = republishing.of_message(
            incoming,
            queue=self._names.retry(seconds),
            headers=history.headers(),
            without=dead_letter_queue.HEADERS,
        )
        await republishing.move(
            self._publisher, message, longest_wait=self._longest_wait, waiting="worker.retry_waiting"
        )
        self._metrics.retries.labels(history.reason, delay_label(seconds)).inc()
        log.info(
            "a message waits for its next attempt",
            action="worker.retry",
            event_id=message.message_id,
            reason=history.reason,
            attempt=history.attempt,
            delay=seconds,
            where=history.where,
            error=history.error,
        )


def delay_label(seconds: float) -> str:
    """As the metrics name a delay."""
    return f"{seconds:g}"


def _now() -> int:
    return time.time_ns() // 1_000_000
