"""One call of the provider's API: its attempts, the rate limit, the reserve URL, and what each status means."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from bridge.provider.errors import (
    MissingTokenError,
    NotHttpError,
    ProviderUnavailableError,
    ServerFailureError,
    ThrottledError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from bridge.provider.http import ApiRequest, ApiResponse, excerpt, host_of, send
from bridge.provider.rate_limit import Backoff, Clock, RateLimiter, Sleep, retry_after

if TYPE_CHECKING:
    from bridge.settings.sections import Provider
    from bridge.telemetry.metrics import Metrics

_STATUS_LABELS: Final = frozenset({200, 201, 204, 400, 401, 403, 404, 422, 429})
"""Statuses with a label of their own in the metrics; others are counted as `5xx` and so on."""


class ApiCalls:
    """Makes calls, with retries. All calls share one rate limit.

    An attempt asks `provider.base_url` and, if that cannot be reached or answers 5xx, at once `provider.reserve_url`.
    After a 4xx the reserve is not asked. Connection errors, timeouts, 429 and 5xx are retried with exponential backoff
    and full jitter, up to `provider.attempts` attempts. `Retry-After`, up to `provider.retry_after_max`, delays all
    calls if it comes with a 429, and only this call if it comes with a 5xx, which may be due to the request. A 404 is
    not retried here.
    """

    def __init__(
        self, settings: Provider, metrics: Metrics, session: aiohttp.ClientSession, sleep: Sleep, clock: Clock
    ) -> None:
        """Make one that has sent nothing. Args: as in `client.connect`; the session sends the requests."""
        self._settings = settings
        self._metrics = metrics
        self._session = session
        self._sleep = sleep
        self._rate = RateLimiter(settings.rate, sleep=sleep, clock=clock)
        token = settings.api_token.get_secret_value().strip() if settings.api_token else ""
        self._token = token or None
        self._base_urls = [url for url in (settings.base_url, settings.fallback_url) if url]

    @property
    def has_token(self) -> bool:
        """Whether there is an API token: without one no call is possible."""
        return self._token is not None

    async def wait_for_rate(self) -> None:
        """Wait until the rate limit allows one more request."""
        await self._rate.acquire()

    async def call(self, call: ApiRequest, *, rate_acquired: bool = False) -> ApiResponse:
        """Call with retries. The answer is 2xx or 404.

        Args:
            call: the request.
            rate_acquired: the caller has called `wait_for_rate` for the first request already.

        Raises:
            MissingTokenError: there is no token, and nothing was sent.
            UnauthorizedError, UnexpectedAnswerError: the provider answered so.
            ProviderUnavailableError: the last attempt has failed.
        """
        if self._token is None:
            raise MissingTokenError(
                f"{call} needs the provider's API token: set provider.api_token (BRIDGE_PROVIDER__API_TOKEN)"
            )
        # One object for each call: a shared one would mix the state of its callers.
        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(self._settings.attempts),
            wait=Backoff(self._settings.backoff_max),
            retry=retry_if_exception_type(ProviderUnavailableError),
            reraise=True,
        )
        answer: ApiResponse = await retrying(
            self._attempt, call, _RateSlots(self._rate, first_acquired=rate_acquired), self._token
        )
        return answer

    async def _attempt(self, call: ApiRequest, slots: _RateSlots, token: str) -> ApiResponse:
        failures: list[ProviderUnavailableError] = []
        for base_url in self._base_urls:
            await slots.next()
            try:
                return await self._ask(base_url, call, token)
            except ThrottledError as throttled:
                self._rate.pause(throttled.retry_after or 0.0)
                raise
            except ProviderUnavailableError as failure:
                failures.append(failure)
        wait = max((failure.retry_after or 0.0 for failure in failures), default=0.0)
        answered = any(isinstance(failure, ServerFailureError) for failure in failures)
        kind = ServerFailureError if answered else ProviderUnavailableError
        raise kind("; ".join(map(str, failures)), wait or None)

    async def _ask(self, base_url: str, call: ApiRequest, token: str) -> ApiResponse:
        host, began = host_of(base_url), time.monotonic()
        try:
            answer = await send(self._session, base_url, call, token)
        except TimeoutError as error:
            self._count("timeout", began)
            limit = f"{self._settings.timeout:g} s"
            raise ProviderUnavailableError(f"{call}: {host} did not answer within {limit}") from error
        except aiohttp.ClientPayloadError as error:
            self._count("error", began)
            reason = excerpt(str(error), token)
            raise ServerFailureError(f"{call}: {host} broke off its answer: {reason}") from error
        except (aiohttp.ClientConnectionError, OSError) as error:
            self._count("error", began)
            reason = excerpt(str(error), token)
            raise ProviderUnavailableError(f"{call}: {host} cannot be reached: {reason}") from error
        except aiohttp.ClientError as error:
            self._count("error", began)
            # Not `from error`: some of aiohttp's exceptions carry the request's headers, and so the token.
            raise NotHttpError(
                f"{call}: {host} does not speak HTTP as we know it ({type(error).__name__}); "
                "check provider.base_url and provider.reserve_url"
            ) from None
        self._count(
            str(answer.status) if answer.status in _STATUS_LABELS else f"{answer.status // 100}xx", began
        )
        wait = retry_after(answer.retry_after, now=datetime.now(UTC), at_most=self._settings.retry_after_max)
        return _checked(answer, host, wait, token)

    def _count(self, status: str, began: float) -> None:
        self._metrics.provider_calls.labels(status).inc()
        self._metrics.provider_seconds.labels(status).observe(time.monotonic() - began)


class _RateSlots:
    """Acquires the rate limit for each request of one call. The first may have been acquired before."""

    def __init__(self, rate: RateLimiter, *, first_acquired: bool = False) -> None:
        self._rate = rate
        self._first_acquired = first_acquired

    async def next(self) -> None:
        if self._first_acquired:
            self._first_acquired = False
        else:
            await self._rate.acquire()


def _checked(answer: ApiResponse, host: str, wait: float | None, token: str) -> ApiResponse:
    """The answer itself if it is 2xx or 404; else its error is raised."""
    status = answer.status
    if answer.succeeded or status == HTTPStatus.NOT_FOUND:
        return answer
    text = f"{answer.call}: {host} answered {status}"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise UnauthorizedError(
            f"{text}: the API token is wrong; set provider.api_token (BRIDGE_PROVIDER__API_TOKEN)"
        )
    if reason := excerpt(answer.body.decode(errors="replace"), token):
        text = f"{text}: {reason}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ThrottledError(text, wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ServerFailureError(text, wait)
    raise UnexpectedAnswerError(text)
