"""Whose message it was: the provider is asked, and what it fails with is told apart."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from bridge.provider.errors import (
    MissingTokenError,
    ThrottledError,
    UnknownMessageError,
)
from bridge.provider.rate_limit import Backoff
from bridge.worker import failures

if TYPE_CHECKING:
    from bridge.provider.client import ProviderClient
    from bridge.settings.sections import Provider
    from bridge.worker.circuit_breaker import Probe
    from bridge.worker.dependencies import Dependency


class LookUps:
    """Asks the provider for addresses, through its circuit breaker.

    An answer that cannot be used is held against the message, and so is a failure after which the provider is still
    thought to be well. As long as nobody gets an answer it is the provider's: that costs a message nothing but time.
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
        self._places = asyncio.Semaphore(ceil(settings.rate))
        self._open = self._asking = 0
        self.steps = 0
        """How many calls have ended, with or without an answer."""

    @property
    def waiting(self) -> int:
        """How many look-ups have nothing under way: they wait for the rate, for their backoff or for the breaker."""
        return self._open - self._asking

    async def address(self, message_id: str) -> str:
        """The address that the provider has for this message.

        Raises:
            MissingTokenError: there is no token, so it cannot be asked.
            UnexpectedAnswerError: the answer cannot be used.
            UnknownMessageError: the provider does not know it, after `provider.attempts`.
            ProviderUnavailableError, UnauthorizedError, NotHttpError: so often did it fail while others did not.
        """
        trial = _Trial(self._provider, self._settings.attempts)
        # One object a look-up: a shared one mixes the state of its callers.
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((UnknownMessageError, *failures.AGAINST_THE_PROVIDER)),
            wait=Backoff(self._settings.backoff_max),
            stop=trial.over,
            reraise=True,
        )
        self._open += 1
        try:
            address: str = await retrying(self._ask, message_id)
        finally:
            self._open -= 1
        return address

    async def _ask(self, message_id: str) -> str:
        if not self._client.has_token:
            raise MissingTokenError(
                f"the address of message {message_id} is not known, and without provider.api_token "
                "(BRIDGE_PROVIDER__API_TOKEN) the provider cannot be asked"
            )
        return await self._provider.ask(
            lambda: self._call(message_id),
            failing=failures.AGAINST_THE_PROVIDER,
            subject=message_id,
            turn=self._turn,
        )

    async def _turn(self, probe: Probe | None) -> None:
        if probe is not None:
            await self._client.turn()
            return
        # In small numbers: those who are here when the breaker opens stand before the one that finds out.
        async with self._places:
            if self._provider.available:
                await self._client.turn()

    async def _call(self, message_id: str) -> str:
        self._asking += 1
        try:
            message = await self._client.message(message_id, in_turn=True)
        finally:
            self._asking -= 1
            self.steps += 1
        return message.to


class _Trial:
    """Whether a message is to blame for its failures."""

    def __init__(self, provider: Dependency, attempts: int) -> None:
        self._provider = provider
        self._attempts = attempts
        self._against = 0
        self._successes = provider.successes

    def over(self, state: RetryCallState) -> bool:
        """Count the failure that has just happened; true when it was one too many."""
        error = state.outcome.exception() if state.outcome else None
        others_fare_better = self._provider.successes > self._successes
        self._successes = self._provider.successes
        if isinstance(error, ThrottledError):
            return False
        if isinstance(error, UnknownMessageError) or others_fare_better:
            enough = self._attempts
        elif isinstance(error, failures.OF_ONE_MESSAGE) and self._provider.available:
            # It seems to be alone with that. When it fails once more, those who came with it have failed, too, or not.
            enough = max(self._attempts, 2)
        else:
            return False
        self._against += 1
        return self._against >= enough
