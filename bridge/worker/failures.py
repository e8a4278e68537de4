"""What a failure means: the message is dead-lettered, it is tried again later, or the worker waits for a dependency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.amqp.properties import decode_properties
from bridge.dead_letters.dead_letter_message import DeadLetterCause
from bridge.dead_letters.delay_queues import delay_label
from bridge.dead_letters.failure_reasons import (
    DATABASE,
    INVALID_ADDRESS,
    MALFORMED,
    PARSE,
    PROVIDER,
    PROVIDER_FAILURE,
    REFUSED_VALUE,
    SEVERAL_ADDRESSES,
    UNDECODABLE,
    UNKNOWN_MESSAGE,
    UNREADABLE_ANSWER,
    UNRESOLVED,
)
from bridge.dead_letters.history import history_after_failure
from bridge.provider.errors import (
    MissingTokenError,
    NotHttpError,
    ProviderUnavailableError,
    ServerFailureError,
    ThrottledError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownMessageError,
)
from bridge.suppression.addresses import InvalidAddressError, SeveralAddressesError
from bridge.suppression.errors import RefusedValueError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bridge.amqp.message_types import Delivery
    from bridge.dead_letters.dead_letter_queue import DeadLetterQueue
    from bridge.dead_letters.delay_queues import DelayQueues
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.tracked_publisher import TrackedPublisher

    OnMoved = Callable[[Delivery, float | None], None]


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt, and whether its message is tried again."""

    reason: str
    """One word, to filter dead letters by."""
    error: str
    """One line for people."""
    where: str
    """`parse`, `provider` or `database`."""
    retryable: bool = False
    """Whether a later attempt may succeed. If not, the message is dead-lettered at once."""


PERMANENT_ERRORS: Final = (InvalidAddressError, SeveralAddressesError, RefusedValueError)
"""Errors that every later attempt would meet, too."""

LOOKUP_ERRORS: Final = (
    MissingTokenError,
    UnknownMessageError,
    UnexpectedAnswerError,
    ProviderUnavailableError,
    UnauthorizedError,
)
"""Errors with which a look-up ends. They count against this message, and a later attempt may succeed."""

PROVIDER_ERRORS: Final = (ProviderUnavailableError, UnauthorizedError, NotHttpError)
"""Errors that count as failures of the provider, unless other look-ups succeed meanwhile."""

ERRORS_OF_ONE_MESSAGE: Final = (ServerFailureError, NotHttpError)
"""Those of `PROVIDER_ERRORS` that may be due to one message. It takes several messages to open the breaker."""

ERRORS_OF_ALL_MESSAGES: Final = (ThrottledError,)
"""Those of `PROVIDER_ERRORS` that have nothing to do with the message."""

DATABASE_ERRORS: Final = (StoreUnavailableError,)

_FAILURES: Final = {
    InvalidAddressError: Failure(INVALID_ADDRESS, "", PARSE),
    SeveralAddressesError: Failure(SEVERAL_ADDRESSES, "", PARSE),
    RefusedValueError: Failure(REFUSED_VALUE, "", DATABASE),
    MissingTokenError: Failure(UNRESOLVED, "", PROVIDER, retryable=True),
    UnknownMessageError: Failure(UNKNOWN_MESSAGE, "", PROVIDER, retryable=True),
    UnexpectedAnswerError: Failure(UNREADABLE_ANSWER, "", PROVIDER, retryable=True),
    NotHttpError: Failure(PROVIDER_FAILURE, "", PROVIDER, retryable=True),
    ProviderUnavailableError: Failure(PROVIDER_FAILURE, "", PROVIDER, retryable=True),
    ServerFailureError: Failure(PROVIDER_FAILURE, "", PROVIDER, retryable=True),
    UnauthorizedError: Failure(PROVIDER_FAILURE, "", PROVIDER, retryable=True),
}


def malformed(error: Exception) -> Failure:
    """The failure of a body that is not an event we can read."""
    return Failure(MALFORMED, str(error), PARSE)


def undecodable(error: str) -> Failure:
    """The failure of a message whose properties cannot be decoded."""
    return Failure(UNDECODABLE, f"the properties cannot be decoded: {error}", PARSE)


def failure_of(error: Exception) -> Failure:
    """The failure for an error of `PERMANENT_ERRORS` or `LOOKUP_ERRORS`."""
    kind = _FAILURES[type(error)]
    return Failure(kind.reason, str(error), kind.where, retryable=kind.retryable)


def create_metric_labels(metrics: Metrics, *, delays: Iterable[float]) -> None:
    """Create each label of the failure metrics at 0. Prometheus sees no increase from nothing to 1."""
    metrics.dead_letters.labels(MALFORMED)
    metrics.dead_letters.labels(UNDECODABLE)
    for failure in _FAILURES.values():
        metrics.dead_letters.labels(failure.reason)
        if failure.retryable:
            for delay in delays:
                metrics.retries.labels(failure.reason, delay_label(delay))


class FailureRouter:
    """Moves messages that have failed: to a delay queue, or to the dead letters."""

    def __init__(
        self,
        retries: DelayQueues,
        dead_letters: DeadLetterQueue,
        *,
        publishes: TrackedPublisher,
        give_up_after: float,
        unknown_grace: float,
        on_moved: OnMoved = lambda _incoming, _seconds: None,
    ) -> None:
        """Make a router.

        Args:
            retries: the delay queues.
            dead_letters: the dead-letter queue.
            publishes: the publisher of both.
            give_up_after: seconds after the first failure in which a message is tried again.
            unknown_grace: the same for a message that the provider does not know.
            on_moved: called before a message that is in another queue is acknowledged: with the seconds for which a delay
                queue has it, or with None if it is a dead letter.
        """
        self._retries = retries
        self._dead_letters = dead_letters
        self._publishes = publishes
        self._give_up_after = give_up_after
        self._grace = min(unknown_grace, give_up_after)
        self._on_moved = on_moved
        self._routing = 0

    @property
    def steps(self) -> int:
        """How many publishes have been completed, refusals included."""
        return self._publishes.completed

    @property
    def waiting(self) -> int:
        """How many messages wait to be published again, because RabbitMQ has refused them."""
        return self._routing - self._publishes.in_flight

    async def route(self, incoming: Delivery, failure: Failure) -> str:
        """Move the message. Returns `delayed` or `dead` when RabbitMQ has confirmed it."""
        self._routing += 1
        try:
            return await self._move(incoming, failure)
        finally:
            self._routing -= 1

    async def _move(self, incoming: Delivery, failure: Failure) -> str:
        history = history_after_failure(
            decode_properties(incoming.properties).headers,
            reason=failure.reason,
            error=failure.error,
            where=failure.where,
        )
        lagging = failure.reason == UNKNOWN_MESSAGE and history.reason_age >= self._grace
        if failure.retryable and history.age < self._give_up_after and not lagging:
            self._on_moved(incoming, await self._retries.delay(incoming, history))
            return "delayed"
        await self._dead_letters.move_to_dead_letters(incoming, DeadLetterCause(failure.reason, history))
        self._on_moved(incoming, None)
        return "dead"
