"""What a failure means: is the message given up, tried again later, or does the work wait for a dependency?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.amqp.properties import read
from bridge.dead_letters import delay_queues
from bridge.dead_letters.dead_letter_queue import DeadLetter
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
from bridge.suppression.database import RefusedValueError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.amqp.deliveries import Delivery
    from bridge.dead_letters.dead_letter_queue import DeadLetters
    from bridge.dead_letters.delay_queues import Retries
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.tracked_publisher import Publishes

MALFORMED: Final = "malformed"
UNDECODABLE: Final = "undecodable"
INVALID_ADDRESS: Final = "invalid-address"
SEVERAL_ADDRESSES: Final = "several-addresses"
UNKNOWN_MESSAGE: Final = "unknown-message"
UNRESOLVED: Final = "unresolved"
UNREADABLE_ANSWER: Final = "unreadable-answer"
PROVIDER_FAILURE: Final = "provider-failure"
REFUSED_VALUE: Final = "refused-value"

PARSE: Final = "parse"
PROVIDER: Final = "provider"
DATABASE: Final = "database"


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that has failed, and what is to become of its message."""

    reason: str
    """A word to filter dead letters by."""
    error: str
    """One line for people."""
    where: str
    """`parse`, `provider` or `database`."""
    passing: bool = False
    """Whether waiting may help. What does not pass is given up at once."""


PERMANENT: Final = (InvalidAddressError, SeveralAddressesError, RefusedValueError)
"""Waiting does not help this message."""

OF_THE_MESSAGE: Final = (
    MissingTokenError,
    UnknownMessageError,
    UnexpectedAnswerError,
    ProviderUnavailableError,
    UnauthorizedError,
)
"""What a look-up ends with when the trouble is this message's, and may pass."""

AGAINST_THE_PROVIDER: Final = (ProviderUnavailableError, UnauthorizedError, NotHttpError)
"""What speaks against the provider, unless others get their answers meanwhile. Whatever it answers else is an answer."""

OF_ONE_MESSAGE: Final = (ServerFailureError, NotHttpError)
"""Of these: what a server does that stumbles over this one message. It takes several to speak against the provider."""

OF_ALL_MESSAGES: Final = (ThrottledError,)
"""Of these: what has nothing to do with the message that is asked for."""

AGAINST_THE_DATABASE: Final = (StoreUnavailableError,)

_FAILURES: Final = {
    InvalidAddressError: Failure(INVALID_ADDRESS, "", PARSE),
    SeveralAddressesError: Failure(SEVERAL_ADDRESSES, "", PARSE),
    RefusedValueError: Failure(REFUSED_VALUE, "", DATABASE),
    MissingTokenError: Failure(UNRESOLVED, "", PROVIDER, passing=True),
    UnknownMessageError: Failure(UNKNOWN_MESSAGE, "", PROVIDER, passing=True),
    UnexpectedAnswerError: Failure(UNREADABLE_ANSWER, "", PROVIDER, passing=True),
    NotHttpError: Failure(PROVIDER_FAILURE, "", PROVIDER, passing=True),
    ProviderUnavailableError: Failure(PROVIDER_FAILURE, "", PROVIDER, passing=True),
    ServerFailureError: Failure(PROVIDER_FAILURE, "", PROVIDER, passing=True),
    UnauthorizedError: Failure(PROVIDER_FAILURE, "", PROVIDER, passing=True),
}


def malformed(error: Exception) -> Failure:
    """A body that is no event we can read."""
    return Failure(MALFORMED, str(error), PARSE)


def undecodable(error: str) -> Failure:
    """A message whose properties cannot be decoded."""
    return Failure(UNDECODABLE, f"the properties cannot be decoded: {error}", PARSE)


def of(error: Exception) -> Failure:
    """What one of the errors in `PERMANENT` or `OF_THE_MESSAGE` means."""
    kind = _FAILURES[type(error)]
    return Failure(kind.reason, str(error), kind.where, passing=kind.passing)


def show_all(metrics: Metrics, *, delays: Iterable[float]) -> None:
    """Have the metrics show each way that a failure can go, at 0: from nothing to 1 Prometheus sees no increase."""
    metrics.dead_letters.labels(MALFORMED)
    metrics.dead_letters.labels(UNDECODABLE)
    for failure in _FAILURES.values():
        metrics.dead_letters.labels(failure.reason)
        if failure.passing:
            for delay in delays:
                metrics.retries.labels(failure.reason, delay_queues.delay_label(delay))


class Ways:
    """Where messages go that have failed: to a delay queue, or to the dead letters."""

    def __init__(
        self,
        retries: Retries,
        dead_letters: DeadLetters,
        *,
        publishes: Publishes,
        give_up_after: float,
        unknown_grace: float,
    ) -> None:
        """Know the ways.

        Args:
            retries: the delay queues.
            dead_letters: where it ends.
            publishes: what both publish through.
            give_up_after: seconds from the first failure to the last attempt.
            unknown_grace: seconds from when the provider has not known a message for the first time.
        """
        self._retries = retries
        self._dead_letters = dead_letters
        self._publishes = publishes
        self._patience = give_up_after
        self._grace = min(unknown_grace, give_up_after)
        self._moving = 0

    @property
    def steps(self) -> int:
        """How many publishes have ended, be it by a refusal."""
        return self._publishes.ended

    @property
    def waiting(self) -> int:
        """How many messages wait until they are published once more, because RabbitMQ has refused them."""
        return self._moving - self._publishes.under_way

    async def part(self, incoming: Delivery, failure: Failure) -> str:
        """Move the message to where it belongs; returns `delayed` or `dead` when RabbitMQ has confirmed it."""
        self._moving += 1
        try:
            return await self._move(incoming, failure)
        finally:
            self._moving -= 1

    async def _move(self, incoming: Delivery, failure: Failure) -> str:
        history = delay_queues.failed(
            read(incoming.properties).headers,
            reason=failure.reason,
            error=failure.error,
            where=failure.where,
        )
        lagging = failure.reason == UNKNOWN_MESSAGE and history.reason_age >= self._grace
        if failure.passing and history.age < self._patience and not lagging:
            await self._retries.delay(incoming, history)
            return "delayed"
        await self._dead_letters.bury(incoming, DeadLetter(failure.reason, history))
        return "dead"
