"""Whose fault a failed look-up is: the message's, or the provider's, which costs the message nothing."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from bridge.provider.client import ProviderMessage
from bridge.provider.errors import (
    MissingTokenError,
    NotHttpError,
    ProviderError,
    ProviderUnavailableError,
    ServerFailureError,
    ThrottledError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownMessageError,
)
from bridge.settings.sections import Provider
from bridge.telemetry.metrics import Metrics
from bridge.worker import failures
from bridge.worker.address_lookup import AddressLookup
from bridge.worker.dependencies import Dependency

ATTEMPTS = 3


class Asked:
    """A provider that fails for some time, and what comes of it."""

    def __init__(
        self,
        error: ProviderError,
        times: int,
        *,
        others_succeed: bool = False,
        breaker_failures: int = 5,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.has_token = True
        self.calls = 0
        self.turns = 0
        self._error = error
        self._times = times
        self._others_succeed = others_succeed
        self.provider = Dependency(
            "provider",
            failure_limit=breaker_failures,
            max_pause=0.001,
            metrics=Metrics(),
            subject_errors=failures.ERRORS_OF_ONE_MESSAGE,
            common_errors=failures.ERRORS_OF_ALL_MESSAGES,
        )
        settings = Provider(attempts=attempts, backoff_max=0.001)
        self.address_lookup = AddressLookup(settings, client=cast("Any", self), provider=self.provider)

    async def wait_for_rate(self) -> None:
        self.turns += 1

    async def message(self, message_id: str, *, rate_acquired: bool) -> ProviderMessage:
        assert rate_acquired
        self.calls += 1
        if self._others_succeed:
            self.provider.successes += 1
        if self.calls <= self._times:
            raise self._error
        return ProviderMessage(message_id, "jane@example.org", None)


EVERY_FAILURE = [
    ProviderUnavailableError("refused"),
    ServerFailureError("500"),
    NotHttpError("SMTP"),
    UnauthorizedError("403"),
]


@pytest.mark.parametrize("error", EVERY_FAILURE)
async def test_a_failure_is_the_messages_while_others_succeed(error: ProviderError) -> None:
    """After `provider.attempts` it comes out."""
    asked = Asked(error, 100, others_succeed=True)
    with pytest.raises(type(error)):
        await asked.address_lookup.address("1")
    assert asked.calls == asked.turns == ATTEMPTS


@pytest.mark.parametrize("error", EVERY_FAILURE)
async def test_a_failure_is_the_providers_once_its_breaker_is_open(error: ProviderError) -> None:
    """However often it is repeated, the message is asked for again, and gets its address."""
    asked = Asked(error, 20, breaker_failures=1)
    assert await asked.address_lookup.address("1") == "jane@example.org"
    assert asked.calls == asked.turns == 21


@pytest.mark.parametrize("error", [ProviderUnavailableError("refused"), UnauthorizedError("401")])
async def test_a_provider_that_is_not_there_costs_one_message_nothing(error: ProviderError) -> None:
    """It is the only one that is asked for: nobody answers, or the token is wrong, whatever is asked."""
    asked = Asked(error, 20)
    assert await asked.address_lookup.address("1") == "jane@example.org"


@pytest.mark.parametrize("error", [ServerFailureError("500"), NotHttpError("SMTP")])
async def test_one_message_at_which_the_server_fails_is_not_asked_for_for_ever(error: ProviderError) -> None:
    """There is no other to compare it with; the provider is thought to be well, and so is the worker."""
    asked = Asked(error, 100)
    with pytest.raises(type(error)):
        await asked.address_lookup.address("1")
    assert asked.calls == ATTEMPTS
    assert asked.provider.available


async def test_a_first_failure_is_not_taken_for_one_alone() -> None:
    """Those that came with it fail a moment later: with a single attempt, too, that costs none of them anything."""
    asked = Asked(ServerFailureError("500"), 20, attempts=1, breaker_failures=3)
    found = await asyncio.gather(*(asked.address_lookup.address(str(number)) for number in range(10)))
    assert found == ["jane@example.org"] * 10


async def test_an_answer_that_cannot_be_used_is_not_asked_for_again() -> None:
    """It is this message's own, and the provider has answered."""
    asked = Asked(UnexpectedAnswerError("no address"), 100)
    for _ in range(10):
        with pytest.raises(UnexpectedAnswerError):
            await asked.address_lookup.address("1")
    assert asked.calls == 10
    assert asked.provider.available
    assert asked.provider.successes == 10


async def test_too_many_calls_cost_no_attempt() -> None:
    """Even while others succeed: the rate is ours."""
    asked = Asked(ThrottledError("429"), 20, others_succeed=True)
    assert await asked.address_lookup.address("1") == "jane@example.org"


async def test_what_a_failing_server_asks_for_binds_this_message() -> None:
    """The `Retry-After` of a 503 is longer than any backoff of ours."""
    asked = Asked(ServerFailureError("503", 3600.0), 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await asked.address_lookup.address("1")
    assert asked.calls == 1


async def test_an_unknown_message_is_asked_for_as_often_as_is_allowed() -> None:
    """The provider has answered: that is never its own trouble."""
    asked = Asked(UnknownMessageError("404"), 100)
    with pytest.raises(UnknownMessageError):
        await asked.address_lookup.address("1")
    assert asked.calls == ATTEMPTS


async def test_what_waits_is_distinguished_from_what_is_asked() -> None:
    """Waiting for the rate, for the backoff, or for the breaker is no work that could be stuck."""
    asked = Asked(ServerFailureError("500"), 100)
    room = asyncio.Event()
    asked.wait_for_rate = room.wait  # type: ignore[method-assign,assignment]  # for this test
    look_up = asyncio.create_task(asked.address_lookup.address("1"))
    await asyncio.sleep(0)
    assert (asked.address_lookup.waiting, asked.address_lookup.steps) == (1, 0)
    room.set()
    with pytest.raises(ServerFailureError):
        await look_up
    assert (asked.address_lookup.waiting, asked.address_lookup.steps) == (0, ATTEMPTS)


async def test_without_a_token_nobody_is_asked() -> None:
    """And the error says what to set."""
    asked = Asked(UnknownMessageError("404"), 0)
    asked.has_token = False
    with pytest.raises(MissingTokenError, match=r"provider\.api_token"):
        await asked.address_lookup.address("1")
    assert asked.calls == 0
