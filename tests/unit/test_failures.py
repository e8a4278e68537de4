"""What a failure means: given up with a reason, or waited for."""

from __future__ import annotations

import pytest

from bridge.provider.client import (
    MissingTokenError,
    ProviderUnavailableError,
    ThrottledError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownMessageError,
)
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.database import RefusedValueError, StoreUnavailableError
from bridge.telemetry.metrics import Metrics
from bridge.worker import failures

LONGEST = 0.02


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidAddressError("no @"), "invalid-address"),
        (UnknownMessageError("no such message"), "unknown-message"),
        (MissingTokenError("no token"), "unresolved"),
        (UnexpectedAnswerError("not JSON"), "unreadable-answer"),
        (RefusedValueError("out of range"), "refused-value"),
    ],
)
def test_what_waiting_does_not_help_is_given_up_with_its_reason(error: Exception, reason: str) -> None:
    """The reason is a word to filter by, the error is what was said."""
    assert isinstance(error, failures.PERMANENT)
    dead = failures.dead_letter(error)
    assert (dead.reason, dead.error) == (reason, str(error))


@pytest.mark.parametrize("error", failures.PERMANENT)
def test_no_error_that_gives_up_a_message_is_without_a_reason(error: type[Exception]) -> None:
    """Who adds one to the list must name it."""
    assert failures.dead_letter(error("why")).reason


@pytest.mark.parametrize(
    ("neighbour", "errors", "error"),
    [
        ("provider", failures.PROVIDER, ProviderUnavailableError("500")),
        ("provider", failures.PROVIDER, ThrottledError("429")),
        ("provider", failures.PROVIDER, UnauthorizedError("401")),
        ("database", failures.DATABASE, StoreUnavailableError("locked")),
    ],
)
async def test_work_waits_for_a_neighbour_as_long_as_it_fails(
    neighbour: str, errors: tuple[type[Exception], ...], error: Exception
) -> None:
    """Many attempts, each pause counted, no message given up; then the result."""
    metrics = Metrics()
    left = 20
    async for attempt in failures.pausing(neighbour, errors, longest=LONGEST, metrics=metrics):
        with attempt:
            if left:
                left -= 1
                raise error
    assert left == 0
    assert metrics.registry.get_sample_value("bridge_pauses_total", {"neighbour": neighbour}) == 20
    assert not isinstance(error, failures.PERMANENT)


async def test_any_other_error_comes_out_at_once() -> None:
    """What is neither the message's nor a neighbour's fault is ours: it is not retried."""
    attempts = failures.pausing("provider", failures.PROVIDER, longest=LONGEST, metrics=Metrics())
    with pytest.raises(KeyError):
        await attempts(_buggy)
    assert attempts.statistics["attempt_number"] == 1


async def test_no_pause_is_longer_than_the_longest() -> None:
    """`worker.pause_max` bounds each wait, however often the neighbour has failed."""
    waits = []
    async for attempt in failures.pausing("database", failures.DATABASE, longest=LONGEST, metrics=Metrics()):
        with attempt:
            waits.append(attempt.retry_state.upcoming_sleep)
            if len(waits) < 15:
                raise StoreUnavailableError("locked")
    assert 0 < max(waits) <= LONGEST


async def _buggy() -> None:
    raise KeyError("a bug")
