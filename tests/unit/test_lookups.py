"""Whose fault a failed look-up is: the message's only where the provider answers others meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from bridge.provider.client import (
    MissingTokenError,
    ProviderError,
    ProviderMessage,
    ProviderUnavailableError,
    ThrottledError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownMessageError,
)
from bridge.settings import Provider
from bridge.telemetry.metrics import Metrics
from bridge.worker.dependencies import Dependency
from bridge.worker.lookups import LookUps

if TYPE_CHECKING:
    from collections.abc import Callable

ATTEMPTS = 3


class Asked:
    """A provider that fails for some time, and what comes of it."""

    def __init__(self, error: ProviderError, times: int, *, others_succeed: bool) -> None:
        self.has_token = True
        self.calls = 0
        self._error = error
        self._times = times
        self._others_succeed = others_succeed
        self._provider = Dependency("provider", failures=5, longest=0.001, metrics=Metrics())
        settings = Provider(attempts=ATTEMPTS, backoff_max=0.001)
        self.look_ups = LookUps(settings, client=cast("Any", self), provider=self._provider)

    async def message(self, message_id: str) -> ProviderMessage:
        self.calls += 1
        if self._others_succeed:
            self._provider.successes += 1
        if self.calls <= self._times:
            raise self._error
        return ProviderMessage(message_id, "jane@example.org", None)


@pytest.mark.parametrize("make", [ProviderUnavailableError, UnexpectedAnswerError])
async def test_a_failure_is_the_messages_while_others_succeed(make: Callable[[str], ProviderError]) -> None:
    """After `provider.attempts` it comes out."""
    asked = Asked(make("why"), 100, others_succeed=True)
    with pytest.raises(type(make("why"))):
        await asked.look_ups.address("1")
    assert asked.calls == ATTEMPTS


@pytest.mark.parametrize("make", [ProviderUnavailableError, UnexpectedAnswerError])
async def test_a_failure_is_the_providers_while_nobody_succeeds(make: Callable[[str], ProviderError]) -> None:
    """However often it is repeated, the message is asked for again, and gets its address."""
    asked = Asked(make("why"), 20, others_succeed=False)
    assert await asked.look_ups.address("1") == "jane@example.org"


@pytest.mark.parametrize("error", [ThrottledError("429"), UnauthorizedError("401")])
async def test_what_is_never_a_messages_fault_costs_no_attempt(error: ProviderError) -> None:
    """Even while others succeed: the rate, and the token, are ours."""
    asked = Asked(error, 20, others_succeed=True)
    assert await asked.look_ups.address("1") == "jane@example.org"


async def test_an_unknown_message_is_asked_for_as_often_as_is_allowed() -> None:
    """The provider has answered: that is never its own trouble."""
    asked = Asked(UnknownMessageError("404"), 100, others_succeed=False)
    with pytest.raises(UnknownMessageError):
        await asked.look_ups.address("1")
    assert asked.calls == ATTEMPTS


async def test_without_a_token_nobody_is_asked() -> None:
    """And the error says what to set."""
    asked = Asked(UnknownMessageError("404"), 0, others_succeed=False)
    asked.has_token = False
    with pytest.raises(MissingTokenError, match=r"provider\.api_token"):
        await asked.look_ups.address("1")
    assert asked.calls == 0
