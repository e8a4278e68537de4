"""The client of the provider's API (msndr): the webhook's URL, and the address of a message."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp
import orjson
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from bridge.provider import tolerant_json
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
from bridge.provider.http import ApiRequest, ApiResponse, excerpt, host_of, send
from bridge.provider.rate_limit import Backoff, Clock, RateLimiter, Sleep, retry_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.settings.sections import Provider
    from bridge.telemetry.metrics import Metrics

_MAX_HEADER: Final = 64 * 1024
_STATUS_LABELS: Final = frozenset({200, 201, 204, 400, 401, 403, 404, 422, 429})
_PATH_SEGMENTS: Final = frozenset({"", ".", ".."})


@dataclass(frozen=True, slots=True)
class ProviderMessage:
    """A message as the provider describes it."""

    id: str
    to: str
    """The recipient's address, as the sender wrote it."""
    status: str | None
    """For example `queued`, `sent`, `delivered`, `soft_bounced`, `hard_bounced`."""


@dataclass(frozen=True, slots=True)
class WebhookState:
    """The webhook as the provider describes it."""

    url: str | None
    not_found: bool
    """The answer was a 404."""


@asynccontextmanager
async def connect(
    settings: Provider, metrics: Metrics, *, sleep: Sleep = asyncio.sleep, clock: Clock = time.monotonic
) -> AsyncIterator[ProviderClient]:
    """A client for as long as the context lasts. Nothing is sent until a method is called.

    Args:
        settings: the provider's URLs, and the limits of calls.
        metrics: counts each call in `provider_calls`, by status.
        sleep: waits between attempts, in seconds.
        clock: a monotonic clock, in seconds, that goes with `sleep`.
    """
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=settings.timeout),
        cookie_jar=aiohttp.DummyCookieJar(),
        # No limit of connections: a call would spend its timeout waiting for one. The rate limit bounds their number.
        connector=aiohttp.TCPConnector(limit=0),
        max_line_size=_MAX_HEADER,
        max_field_size=_MAX_HEADER,
    ) as session:
        yield ProviderClient(settings, metrics, session, sleep, clock)


class ProviderClient:
    """Calls the provider's API, with retries. All callers of a client share its rate limit.

    An attempt asks `provider.base_url` and, if that cannot be reached or answers 5xx, at once `provider.reserve_url`.
    After a 4xx the reserve is not asked. Connection errors, timeouts, 429 and 5xx are retried with exponential backoff
    and full jitter, up to `provider.attempts` attempts. `Retry-After`, up to `provider.retry_after_max`, delays every
    caller of this client if it comes with a 429, and only this caller if it comes with a 5xx, which may be due to the
    request. A 404 is not retried here.

    Every method raises a `ProviderError`: `MissingTokenError` before a request is sent, `UnauthorizedError`,
    `UnexpectedAnswerError`, or `ProviderUnavailableError` after the last attempt.
    """

    def __init__(
        self, settings: Provider, metrics: Metrics, session: aiohttp.ClientSession, sleep: Sleep, clock: Clock
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._session = session
        self._sleep = sleep
        self._rate = RateLimiter(settings.rate, sleep=sleep, clock=clock)
        token = settings.api_token.get_secret_value().strip() if settings.api_token else ""
        self._token = token or None
        self._addresses = [url for url in (settings.base_url, settings.fallback_url) if url]

    @property
    def has_token(self) -> bool:
        """Whether there is an API token: without one no call is possible."""
        return self._token is not None

    async def webhook(self) -> str | None:
        """The URL to which the provider posts events; None if none is set.

        The answer for no webhook is not documented: an empty body, no `url` and a 404 all count as none.
        """
        return (await self.read_webhook()).url

    async def read_webhook(self) -> WebhookState:
        """The webhook, and whether the answer was a 404, which may also mean a wrong `provider.base_url`."""
        answer = await self._call(ApiRequest("GET", "/email/webhook"))
        if answer.status == HTTPStatus.NOT_FOUND or not answer.body.strip():
            return WebhookState(None, not_found=answer.status == HTTPStatus.NOT_FOUND)
        url = _document(answer).get("url")
        if url is None or isinstance(url, str):
            return WebhookState(url or None, not_found=False)
        raise UnexpectedAnswerError(f"{answer.call} was answered with a url that is not text")

    async def enable_webhook(self, url: str) -> str:
        """Set the webhook to this URL. Returns the URL that the provider confirms."""
        answer = await self._call(ApiRequest("POST", "/email/webhook", orjson.dumps({"url": url})))
        confirmed = _document(answer).get("url")
        if isinstance(confirmed, str) and confirmed:
            return confirmed
        raise UnexpectedAnswerError(
            f"{answer.call} was answered without a url; check which one is set before you rely on it"
        )

    async def disable_webhook(self, url: str) -> None:
        """Remove the webhook. Does nothing if another URL is set."""
        answer = await self._call(ApiRequest("DELETE", "/email/webhook", orjson.dumps({"url": url})))
        # A retry gets a 404 if the answer to the first attempt was lost, but so does a wrong base URL.
        if answer.status == HTTPStatus.NOT_FOUND and await self.webhook() == url:
            raise UnexpectedAnswerError(f"{answer.call} was answered 404, yet the webhook is still set")

    async def wait_for_rate(self) -> None:
        """Wait until the rate limit allows one more call, for a caller that checks something between wait and call."""
        await self._rate.acquire()

    async def message(self, message_id: str, *, rate_acquired: bool = False) -> ProviderMessage:
        """Look up a message, for its address.

        Args:
            message_id: as an event has it.
            rate_acquired: the caller has called `wait_for_rate` already.

        Raises:
            UnknownMessageError: the provider does not know the message, or not yet.
        """
        call = ApiRequest("GET", f"/email/messages/{_quoted(message_id)}")
        answer = await self._call(call, _RateSlots(self._rate, first_acquired=rate_acquired))
        if answer.status == HTTPStatus.NOT_FOUND:
            raise UnknownMessageError(
                f"the provider does not know message {message_id}: it may lag behind its own webhook, "
                "or the message belongs to another account than provider.api_token"
            )
        for document in tolerant_json.parse_objects(answer.body):
            to = tolerant_json.recipient(document.get("to"))
            if to is not None and tolerant_json.id_text(document.get("id")) == message_id:
                return ProviderMessage(message_id, to, tolerant_json.intact_text(document.get("status")))
        _document(answer)  # raises its own error for an answer that is not an object
        raise UnexpectedAnswerError(f"{answer.call} was answered without that id and an address in `to`")

    async def _call(self, call: ApiRequest, turns: _RateSlots | None = None) -> ApiResponse:
        """Call with retries. The answer is 2xx or 404."""
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
            self._attempt, call, turns or _RateSlots(self._rate), self._token
        )
        return answer

    async def _attempt(self, call: ApiRequest, turns: _RateSlots, token: str) -> ApiResponse:
        failures: list[ProviderUnavailableError] = []
        for address in self._addresses:
            await turns.next()
            try:
                return await self._ask(address, call, token)
            except ThrottledError as refusal:
                self._rate.pause(refusal.retry_after or 0.0)
                raise
            except ProviderUnavailableError as failure:
                failures.append(failure)
        wait = max((failure.retry_after or 0.0 for failure in failures), default=0.0)
        answered = any(isinstance(failure, ServerFailureError) for failure in failures)
        kind = ServerFailureError if answered else ProviderUnavailableError
        raise kind("; ".join(map(str, failures)), wait or None)

    async def _ask(self, address: str, call: ApiRequest, token: str) -> ApiResponse:
        host, began = host_of(address), time.monotonic()
        try:
            answer = await send(self._session, address, call, token)
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


def _quoted(message_id: str) -> str:
    """The id as one segment of the URL's path, percent-encoded."""
    try:
        if message_id not in _PATH_SEGMENTS:
            return quote(message_id, safe="")
    except UnicodeEncodeError:
        pass
    raise UnknownMessageError(f"{message_id!r} is not an id that a message can have")


def _checked(answer: ApiResponse, host: str, wait: float | None, token: str) -> ApiResponse:
    """The answer itself if it is 2xx or 404; else its error is raised."""
    status = answer.status
    if answer.succeeded or status == HTTPStatus.NOT_FOUND:
        return answer
    said = f"{answer.call}: {host} answered {status}"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise UnauthorizedError(
            f"{said}: the API token is wrong; set provider.api_token (BRIDGE_PROVIDER__API_TOKEN)"
        )
    if reason := excerpt(answer.body.decode(errors="replace"), token):
        said = f"{said}: {reason}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ThrottledError(said, wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ServerFailureError(said, wait)
    raise UnexpectedAnswerError(said)


def _document(answer: ApiResponse) -> dict[str, Any]:
    """The JSON object in a 2xx answer. The error quotes nothing of the body, which has addresses and texts of mail."""
    if answer.status == HTTPStatus.NOT_FOUND:
        raise UnexpectedAnswerError(f"{answer.call} was answered 404; check provider.base_url")
    for document in tolerant_json.parse_objects(answer.body):
        return document
    raise UnexpectedAnswerError(
        f"{answer.call} was answered {answer.status} with {len(answer.body)} bytes that are not a JSON object; "
        "check provider.base_url"
    )
