"""What a failure means: given up with a reason, tried again later, or nobody's fault."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from pamqp import commands as spec

from bridge.amqp.message_types import Delivery
from bridge.broker import header_values
from bridge.dead_letters.history import (
    DEAD_AT_HEADER,
    RETRY_ATTEMPT_HEADER,
    RETRY_FIRST_FAILURE_HEADER,
    RETRY_REASON_HEADER,
    RETRY_SAME_SINCE_HEADER,
)
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
from bridge.worker import failures

if TYPE_CHECKING:
    from bridge.dead_letters.dead_letter_message import DeadLetterCause
    from bridge.dead_letters.history import RetryHistory
    from bridge.worker.failures import Failure

DAY = 86_400.0


@pytest.mark.parametrize(
    ("error", "reason", "where", "retryable"),
    [
        (InvalidAddressError("no @"), "invalid-address", "parse", False),
        (SeveralAddressesError("two"), "several-addresses", "parse", False),
        (RefusedValueError("out of range"), "refused-value", "database", False),
        (UnknownMessageError("no such message"), "unknown-message", "provider", True),
        (MissingTokenError("no token"), "unresolved", "provider", True),
        (UnexpectedAnswerError("not JSON"), "unreadable-answer", "provider", True),
        (ProviderUnavailableError("refused"), "provider-failure", "provider", True),
        (ServerFailureError("500"), "provider-failure", "provider", True),
        (NotHttpError("SMTP"), "provider-failure", "provider", True),
        (UnauthorizedError("403"), "provider-failure", "provider", True),
    ],
)
def test_each_error_of_a_message_has_its_reason(
    *, error: Exception, reason: str, where: str, retryable: bool
) -> None:
    """The reason is a word to filter by, the error is what was said; and whether waiting may help."""
    failure = failures.failure_of(error)
    assert (failure.reason, failure.error, failure.where) == (reason, str(error), where)
    assert failure.retryable is retryable
    assert isinstance(error, failures.LOOKUP_ERRORS if retryable else failures.PERMANENT_ERRORS)


@pytest.mark.parametrize("error", [*failures.PERMANENT_ERRORS, *failures.LOOKUP_ERRORS])
def test_no_error_of_a_message_is_without_a_reason(error: type[Exception]) -> None:
    """Who adds one to the lists must name it."""
    assert failures.failure_of(error("why")).reason


@pytest.mark.parametrize(
    ("error", "against"),
    [
        (ProviderUnavailableError("refused"), failures.PROVIDER_ERRORS),
        (ServerFailureError("500"), failures.PROVIDER_ERRORS),
        (NotHttpError("SMTP"), failures.PROVIDER_ERRORS),
        (ThrottledError("429"), failures.PROVIDER_ERRORS),
        (UnauthorizedError("401"), failures.PROVIDER_ERRORS),
        (StoreUnavailableError("locked"), failures.DATABASE_ERRORS),
    ],
)
def test_what_a_dependency_fails_with_is_no_permanent_failure(
    error: Exception, against: tuple[type[Exception], ...]
) -> None:
    """No message is given up at once for it."""
    assert isinstance(error, against)
    assert not isinstance(error, failures.PERMANENT_ERRORS)


@pytest.mark.parametrize("error", [UnexpectedAnswerError("no address"), UnknownMessageError("404")])
def test_an_answer_does_not_speak_against_the_provider(error: Exception) -> None:
    """Whatever it says: it is about this message."""
    assert not isinstance(error, failures.PROVIDER_ERRORS)


@pytest.mark.parametrize(
    ("reason", "retryable", "age", "outcome"),
    [
        ("malformed", False, None, "dead"),
        ("unresolved", True, None, "delayed"),
        ("unresolved", True, 2 * DAY - 60, "delayed"),
        ("unresolved", True, 2 * DAY + 60, "dead"),
        ("unknown-message", True, None, "delayed"),
        ("unknown-message", True, 240, "delayed"),
        ("unknown-message", True, 360, "dead"),
    ],
)
async def test_what_may_pass_is_tried_again_until_its_time_is_over(
    *, reason: str, retryable: bool, age: float | None, outcome: str
) -> None:
    """`give_up_after` from the first failure, and `unknown_grace` for a message that the provider does not know."""
    headers: dict[str, Any] = {}
    if age is not None:
        headers = {
            RETRY_ATTEMPT_HEADER: 7,
            RETRY_FIRST_FAILURE_HEADER: int((time.time() - age) * 1000),
        }
    places = _Places()
    failure = failures.Failure(reason, "why", "provider", retryable=retryable)
    assert await places.part(headers, failure) == outcome
    ((place, history),) = places.taken
    assert place == outcome
    assert history.attempt == (1 if age is None else 8)
    assert history.where.startswith("provider@")


@pytest.mark.parametrize(
    ("reason", "since", "outcome"),
    [
        ("provider-failure", 100_000, "delayed"),
        ("unknown-message", 240, "delayed"),
        ("unknown-message", 360, "dead"),
    ],
)
async def test_the_grace_of_an_unknown_message_begins_when_it_is_unknown(
    *, reason: str, since: float, outcome: str
) -> None:
    """What it has failed for before, an outage of the provider for a day, is not counted against it."""
    places, now = _Places(), time.time()
    headers = {
        RETRY_ATTEMPT_HEADER: 7,
        RETRY_FIRST_FAILURE_HEADER: int((now - 100_000) * 1000),
        RETRY_REASON_HEADER: reason,
        RETRY_SAME_SINCE_HEADER: int((now - since) * 1000),
    }
    assert await places.part(headers, failures.failure_of(UnknownMessageError("404"))) == outcome


@pytest.mark.parametrize("value", ["7", bytearray(b"x"), -1, None, [1], {"a": 1}, 2**63 - 1])
async def test_the_age_of_a_reason_that_cannot_be_read_begins_anew(value: Any) -> None:
    """Or with the first failure, where there is no reason."""
    headers = {
        RETRY_ATTEMPT_HEADER: 7,
        RETRY_FIRST_FAILURE_HEADER: int((time.time() - 100) * 1000),
    }
    for more in (
        {RETRY_REASON_HEADER: value},
        {RETRY_REASON_HEADER: "unresolved", RETRY_SAME_SINCE_HEADER: value},
    ):
        places = _Places()
        failure = failures.Failure("unresolved", "no token", "provider", retryable=True)
        assert await places.part(headers | more, failure) == "delayed"
        assert 0 <= places.taken[0][1].reason_age <= 200


async def test_a_dead_letter_that_was_put_back_to_work_begins_anew() -> None:
    """Its first failure, long ago, does not end it at the first new one."""
    headers = {
        RETRY_ATTEMPT_HEADER: 60,
        RETRY_FIRST_FAILURE_HEADER: 1000,
        DEAD_AT_HEADER: 2000,
    }
    places = _Places()
    failure = failures.Failure("unresolved", "no token", "provider", retryable=True)
    assert await places.part(headers, failure) == "delayed"
    ((_, history),) = places.taken
    assert history.attempt == 1
    assert history.age < 60


@pytest.mark.parametrize("value", ["7", bytearray(b"x"), -1, None, [1], True])
async def test_a_history_that_cannot_be_read_begins_anew(value: Any) -> None:
    """Whoever has written such a header: the message is handled, and counted from here."""
    headers = {RETRY_ATTEMPT_HEADER: value, RETRY_FIRST_FAILURE_HEADER: value}
    places = _Places()
    failure = failures.Failure("unresolved", "no token", "provider", retryable=True)
    assert await places.part(headers, failure) == "delayed"
    assert places.taken[0][1].attempt == 1
    assert places.taken[0][1].age < 60


async def test_a_history_beyond_all_bounds_is_clamped_and_can_be_written() -> None:
    """A count of 2^63 - 1 has no successor, and a first failure in the year 292 million would never be long ago."""
    headers = {RETRY_ATTEMPT_HEADER: 2**63 - 1, RETRY_FIRST_FAILURE_HEADER: 2**63 - 1}
    soon = headers | {RETRY_FIRST_FAILURE_HEADER: int((time.time() + 2 * DAY) * 1000)}
    places = _Places()
    failure = failures.Failure(
        "unresolved", "why \ud800\nand how " + "long" * 1000, "provider", retryable=True
    )
    for one in (headers, soon):
        assert await places.part(one, failure) == "delayed"
        _, history = places.taken.pop()
        assert history.attempt == header_values.MAX_ATTEMPTS
        assert history.first_failure <= time.time() * 1000
        assert history.error.startswith("why ? and how long")
        assert spec.Basic.Properties(headers=history.headers()).marshal()


class _Places:
    """Delay queues and dead letters that remember what they were given."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, RetryHistory]] = []
        self._router = failures.FailureRouter(
            cast("Any", self),
            cast("Any", self),
            publishes=cast("Any", None),
            give_up_after=2 * DAY,
            unknown_grace=300,
        )

    async def part(self, headers: dict[str, Any], failure: Failure) -> str:
        return await self._router.route(_incoming(headers), failure)

    async def delay(self, _: Any, history: RetryHistory) -> None:
        assert history.reason
        self.taken.append(("delayed", history))

    async def move_to_dead_letters(self, _: Any, dead: DeadLetterCause) -> None:
        self.taken.append(("dead", dead.history))


def _incoming(headers: dict[str, Any]) -> Delivery:
    return Delivery(1, False, "", "", spec.Basic.Properties(headers=headers).marshal(), b"")  # noqa: FBT003 -- redelivered
