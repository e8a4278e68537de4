"""Asks the provider for the address of a message, and decides whether a failure is due to the message or the provider."""

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


class AddressLookup:
    """Asks the provider for addresses, through its circuit breaker.

    An answer that cannot be used counts as a failed attempt of the message, and so does a failure while other look-ups
    succeed. While no look-up succeeds, the provider is to blame: the message waits, and loses no attempt.
    """

    def __init__(self, settings: Provider, *, client: ProviderClient, provider: Dependency) -> None:
        """Make an address lookup.

        Args:
            settings: how many attempts a look-up has, and how long the backoff between them may be.
            client: each of its calls is one request, without retries.
            provider: the circuit breaker.
        """
        self._settings = settings
        self._client = client
        self._provider = provider
        self._throttle_slots = asyncio.Semaphore(ceil(settings.rate))
        self._unfinished = self._in_progress = 0
        self.steps = 0
        """How many calls have ended, with or without success."""

    @property
    def waiting(self) -> int:
        """How many look-ups have no call in progress: they wait for the rate limit, their backoff or the breaker."""
        return self._unfinished - self._in_progress

    async def address(self, message_id: str) -> str:
        """Look up the address of this message.

        Raises:
            MissingTokenError: there is no API token, so the provider cannot be asked.
            UnexpectedAnswerError: the answer cannot be used.
            UnknownMessageError: the provider does not know the message, after `provider.attempts`.
            ProviderUnavailableError, UnauthorizedError, NotHttpError: it failed `provider.attempts` times while others succeeded.
        """
        counted = _FailureCount(self._provider, self._settings.attempts)
        # One object for each look-up: a shared one would mix the state of its callers.
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((UnknownMessageError, *failures.PROVIDER_ERRORS)),
            wait=Backoff(self._settings.backoff_max),
            stop=counted.exhausted,
            reraise=True,
        )
        self._unfinished += 1
        try:
            address: str = await retrying(self._ask, message_id)
        finally:
            self._unfinished -= 1
        return address

    async def _ask(self, message_id: str) -> str:
        if not self._client.has_token:
            raise MissingTokenError(
                f"the address of message {message_id} is not known, and without provider.api_token "
                "(BRIDGE_PROVIDER__API_TOKEN) the provider cannot be asked"
            )
        return await self._provider.call(
            lambda: self._call(message_id),
            errors=failures.PROVIDER_ERRORS,
            subject=message_id,
            throttle=self._throttle,
        )

    async def _throttle(self, probe: Probe | None) -> None:
        if probe is not None:
            await self._client.wait_for_rate()
            return
        # Few at a time: calls already waiting here when the breaker opens would be made before the probe.
        async with self._throttle_slots:
            if self._provider.available:
                await self._client.wait_for_rate()

    async def _call(self, message_id: str) -> str:
        self._in_progress += 1
        try:
            message = await self._client.message(message_id, rate_acquired=True)
        finally:
            self._in_progress -= 1
            self.steps += 1
        return message.to


class _FailureCount:
    """Counts the failures that are due to the message. For tenacity's `stop`."""

    def __init__(self, provider: Dependency, attempts: int) -> None:
        self._provider = provider
        self._attempts = attempts
        self._failures_of_message = 0
        self._successes = provider.successes

    def exhausted(self, state: RetryCallState) -> bool:
        """Count the failure that has just happened. Returns whether the message has no attempt left."""
        error = state.outcome.exception() if state.outcome else None
        others_succeed = self._provider.successes > self._successes
        self._successes = self._provider.successes
        if isinstance(error, ThrottledError):
            return False
        if isinstance(error, UnknownMessageError) or others_succeed:
            enough = self._attempts
        elif isinstance(error, failures.ERRORS_OF_ONE_MESSAGE) and self._provider.available:
            # This message seems to be the only one that fails; a second failure shows whether others failed meanwhile.
            enough = max(self._attempts, 2)
        else:
            return False
        self._failures_of_message += 1
        return self._failures_of_message >= enough
