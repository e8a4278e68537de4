"""Publishes messages to the delay queues, where they wait for their next attempt, with the history of the former ones."""

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
    from bridge.dead_letters.republishing import MessagePublisher
    from bridge.telemetry.metrics import Metrics

log = logs.logger("retries")

ATTEMPT_HEADER: Final = "retry-attempt"
"""How many attempts have failed, an integer. On a dead letter: all attempts."""
FIRST_FAILURE_HEADER: Final = "retry-first-failure"
"""When the first attempt failed, Unix milliseconds."""
ERROR_HEADER: Final = "retry-error"
"""One line for people: the error of the last attempt."""
WHERE_HEADER: Final = "retry-where"
"""Where the last attempt failed: `parse`, `provider` or `database`, then `@` and the worker's host name."""

REASON_HEADER: Final = "retry-reason"
"""A keyword for the last failure, for example `unknown-message`."""
SAME_SINCE_HEADER: Final = "retry-same-since"
"""Since when every failure had this reason, Unix milliseconds."""

HEADERS: Final = (
    ATTEMPT_HEADER, FIRST_FAILURE_HEADER, ERROR_HEADER, WHERE_HEADER, REASON_HEADER, SAME_SINCE_HEADER
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RetryHistory:
    """The failed attempts of a message, the last one included."""

    attempt: int
    """How many have failed."""
    first_failure: int
    """Unix milliseconds."""
    error: str
    where: str
    reason: str
    """A keyword for the last failure."""
    same_since: int
    """Since when every failure had this reason, Unix milliseconds."""

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
        return max(0.0, _unix_ms_now() / 1000 - self.first_failure / 1000)

    @property
    def reason_age(self) -> float:
        """Seconds since `same_since`."""
        return max(0.0, _unix_ms_now() / 1000 - self.same_since / 1000)


def history_after_failure(headers: Mapping[str, Any], *, reason: str, error: str, where: str) -> RetryHistory:
    """The history of a message after another failure.

    A replayed dead letter starts a new history, and so does a message whose history cannot be read. A first failure in
    the future counts as now; otherwise the message would be retried for ever.

    Args:
        headers: of the delivered message.
        reason: a keyword.
        error: one line for people.
        where: `parse`, `provider` or `database`.
    """
    replayed = dead_letter_queue.AT_HEADER in headers
    failed_before = 0 if replayed else header_values.attempts(headers.get(ATTEMPT_HEADER)) or 0
    first = None if replayed else header_values.unix_ms(headers.get(FIRST_FAILURE_HEADER))
    now = _unix_ms_now()
    first_failure = now if first is None else min(first, now)
    last_reason = header_values.text(headers.get(REASON_HEADER))
    same_since = now
    if first is not None and last_reason in {
        reason,
        "",
    }:  # without the header, of earlier releases, every failure had this reason
        since = header_values.unix_ms(headers.get(SAME_SINCE_HEADER)) if last_reason else first_failure
        same_since = now if since is None else max(first_failure, min(since, now))
    return RetryHistory(
        attempt=min(failed_before + 1, header_values.MAX_ATTEMPTS),
        first_failure=first_failure,
        reason=reason,
        same_since=same_since,
        error=header_values.one_line(error),
        where=f"{where}@{socket.gethostname()}",
    )


class DelayQueues:
    """Moves messages to the delay queues."""

    def __init__(
        self,
        publisher: MessagePublisher,
        *,
        names: Names,
        delays: Sequence[float],
        longest_wait: float,
        metrics: Metrics,
    ) -> None:
        """Create it. `topology.plan` plans the queues.

        Args:
            publisher: sends the messages.
            names: of the queues.
            delays: seconds before the second attempt, the third and so on; the last one repeats.
            longest_wait: seconds between two attempts to publish while RabbitMQ does not confirm.
            metrics: counts retries by reason and delay.
        """
        self._publisher = publisher
        self._names = names
        self._delays = delays
        self._longest_wait = longest_wait
        self._metrics = metrics

    async def delay(self, incoming: Delivery, history: RetryHistory) -> None:
        """Publish a copy to a delay queue; returns when RabbitMQ has confirmed it.

        Only then may the caller acknowledge the original.

        Args:
            incoming: the message.
            history: of its attempts.
        """
        seconds = self._delays[min(history.attempt, len(self._delays)) - 1]
        message = republishing.copy_for_queue(
            incoming,
            queue=self._names.retry(seconds),
            headers=history.headers(),
            without=dead_letter_queue.HEADERS,
        )
        await republishing.publish_until_confirmed(
            self._publisher, message, longest_wait=self._longest_wait, retry_action="worker.retry_waiting"
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
    """The label of a delay in the metrics."""
    return f"{seconds:g}"


def _unix_ms_now() -> int:
    return time.time_ns() // 1_000_000
