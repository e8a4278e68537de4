"""What a failure means for a message: is it given up, or does the work wait for a neighbour?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from bridge.broker.deadletters import DeadLetter
from bridge.provider.client import (
    MissingTokenError,
    ProviderUnavailableError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownMessageError,
)
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.database import RefusedValueError, StoreUnavailableError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from bridge.telemetry.metrics import Metrics

log = logs.logger("worker")

MALFORMED: Final = "malformed"
INVALID_ADDRESS: Final = "invalid-address"
UNKNOWN_MESSAGE: Final = "unknown-message"
UNRESOLVED: Final = "unresolved"
UNREADABLE_ANSWER: Final = "unreadable-answer"
REFUSED_VALUE: Final = "refused-value"

PERMANENT: Final = (
    InvalidAddressError,
    UnknownMessageError,
    MissingTokenError,
    UnexpectedAnswerError,
    RefusedValueError,
)
"""Waiting does not help this message."""

_REASONS: Final = {
    InvalidAddressError: INVALID_ADDRESS,
    UnknownMessageError: UNKNOWN_MESSAGE,
    MissingTokenError: UNRESOLVED,
    UnexpectedAnswerError: UNREADABLE_ANSWER,
    RefusedValueError: REFUSED_VALUE,
}

PROVIDER: Final = (ProviderUnavailableError, UnauthorizedError)
"""The provider's trouble, or that of our token with it: no message is to blame, so none is given up."""

DATABASE: Final = (StoreUnavailableError,)

_FIRST_PAUSE_SECONDS: Final = 0.2


def dead_letter(error: Exception) -> DeadLetter:
    """Why a message is given up after one of the `PERMANENT` errors."""
    return DeadLetter(_REASONS[type(error)], str(error))


def pausing(
    neighbour: str, errors: tuple[type[Exception], ...], *, longest: float, metrics: Metrics
) -> AsyncRetrying:
    """Attempts without end while a neighbour fails; every other error comes out at once.

    Args:
        neighbour: `provider` or `database`, for log and metrics.
        errors: what says that the neighbour, not the message, is the trouble.
        longest: the longest wait between two attempts, in seconds.
        metrics: counts the pauses.
    """

    def report(retrying: RetryCallState) -> None:
        metrics.pauses.labels(neighbour).inc()
        error = retrying.outcome.exception() if retrying.outcome else None
        log.warning(
            "waiting for a neighbour",
            action="worker.pause",
            neighbour=neighbour,
            attempt=retrying.attempt_number,
            wait=round(retrying.upcoming_sleep, 2),
            error=str(error),
        )

    return AsyncRetrying(
        retry=retry_if_exception_type(errors),
        wait=wait_random_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=longest),
        before_sleep=report,
    )
