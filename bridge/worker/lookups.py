"""Whose message it was: the provider is asked, and what it fails with is told apart."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from bridge.provider.client import MissingTokenError, UnknownMessageError
from bridge.worker import failures

if TYPE_CHECKING:
    from bridge.provider.client import ProviderClient
    from bridge.settings import Provider
    from bridge.worker.dependencies import Dependency


class LookUps:
    """Asks the provider for addresses, through its circuit breaker.

    A failure is held against the message only where the provider has answered others meanwhile. It is the
    provider's as long as nobody gets an answer: that costs the message nothing but time.
    """

    def __init__(self, settings: Provider, *, client: ProviderClient, provider: Dependency) -> None:
        """Make the look-ups.

        Args:
            settings: how often a message is asked for at once, and how long the waits between may be.
            client: asks once: each of its calls is one request.
            provider: the circuit breaker.
        """
        self._settings = settings
        self._client = client
        self._provider = provider
        # Those who wait for their turn in the rate have passed the breaker: when it opens, they call all the same.
        self._places = asyncio.Semaphore(ceil(settings.rate))

    async def address(self, message_id: str) -> str:
        """The address that the provider has for this message.

        Raises:
            MissingTokenError: there is no token, so it cannot be asked.
            UnknownMessageError: the provider does not know it, after `provider.attempts`.
            UnexpectedAnswerError, ProviderUnavailableError: so often did it fail while others did not.
        """
        trial = _Trial(self._provider, self._settings.attempts)
        # One object a look-up: a shared one mixes the state of its callers.
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((UnknownMessageError, *failures.AGAINST_THE_PROVIDER)),
            wait=wait_random_exponential(multiplier=0.5, max=self._settings.backoff_max),
            stop=trial.over,
            reraise=True,
        )
        address: str = await retrying(self._ask, message_id)
        return address

    async def _ask(self, message_id: str) -> str:
        if not self._client.has_token:
            raise MissingTokenError(
                f"the address of message {message_id} is not known, and without provider.api_token "
                "(BRIDGE_PROVIDER__API_TOKEN) the provider cannot be asked"
            )
        async with self._places:
            message = await self._provider.ask(
                lambda: self._client.message(message_id), failing=failures.AGAINST_THE_PROVIDER
            )
        return message.to


class _Trial:
    """Whether a message is to blame for its failures."""

    def __init__(self, provider: Dependency, attempts: int) -> None:
        self._provider = provider
        self._attempts = attempts
        self._against = 0
        self._answers = provider.successes

    def over(self, state: RetryCallState) -> bool:
        """Count the failure that has just happened; true when it was one too many."""
        error = state.outcome.exception() if state.outcome else None
        others_fare_better = self._provider.successes > self._answers
        self._answers = self._provider.successes
        if isinstance(error, failures.OF_THE_PROVIDER):
            return False
        if others_fare_better or isinstance(error, UnknownMessageError):
            self._against += 1
        return self._against >= self._attempts
