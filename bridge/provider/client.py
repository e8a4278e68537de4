"""The provider's API (msndr): which webhook is set, and what a message's address is."""

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
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from bridge.provider.exchange import Answer, Call, excerpt, exchange, host_of
from bridge.provider.pacing import Clock, Pace, Sleep, retry_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.settings import Provider
    from bridge.telemetry.metrics import Metrics

_FIRST_BACKOFF: Final = 0.5
_COUNTED: Final = frozenset({200, 201, 204, 400, 401, 403, 404, 422, 429})
_NOT_A_MESSAGE: Final = frozenset({"", ".", ".."})


class ProviderError(Exception):
    """A call to the provider did not succeed. Its message says which call, what happened and what to do."""


class MissingTokenError(ProviderError):
    """There is no API token, so the provider cannot be asked."""


class ProviderUnavailableError(ProviderError):
    """The provider could not be reached, or answered 429 or 5xx, until the attempts were used up."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the provider asked us to wait (capped by the settings), if it did."""


class ThrottledError(ProviderUnavailableError):
    """The provider answered 429: more calls than it allows."""


class UnauthorizedError(ProviderError):
    """The provider refused the API token (401 or 403)."""


class UnknownMessageError(ProviderError):
    """The provider knows no message of that id (404)."""


class UnexpectedAnswerError(ProviderError):
    """The provider answered with a status or a body that we cannot read."""


@dataclass(frozen=True, slots=True)
class ProviderMessage:
    """What the provider says of a message."""

    id: str
    to: str
    """The recipient's address, as the sender wrote it."""
    status: str | None
    """For example `queued`, `sent`, `delivered`, `soft_bounced`, `hard_bounced`."""


@asynccontextmanager
async def connect(
    settings: Provider, metrics: Metrics, *, sleep: Sleep = asyncio.sleep, clock: Clock = time.monotonic
) -> AsyncIterator[ProviderClient]:
    """A client for as long as the context lasts. Nothing is sent until a method is called.

    Args:
        settings: where the provider is and how often it is asked.
        metrics: counts each call in `provider_calls`, by its status.
        sleep: how the client waits between attempts, in seconds.
        clock: the monotonic seconds that `sleep` lets pass.
    """
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=settings.timeout), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield ProviderClient(settings, metrics, session, sleep, clock)


class ProviderClient:
    """Calls of the provider's API, retried, at one pace for all who share this client.

    An attempt asks `provider.base_url` and, if that cannot be reached or answers 5xx, `provider.reserve_url` at
    once. A 4xx is an answer: the reserve is not asked. Connection errors, timeouts, 429 and 5xx are tried again,
    `provider.attempts` attempts in all, after exponentially growing random waits (full jitter). `Retry-After`
    holds back every caller of this client, up to `provider.retry_after_max`. A 404 is never retried here.

    Every method raises a `ProviderError`: `MissingTokenError` before anything is sent, `UnauthorizedError`,
    `UnexpectedAnswerError`, and `ProviderUnavailableError` after the last attempt.
    """

    def __init__(
        self, settings: Provider, metrics: Metrics, session: aiohttp.ClientSession, sleep: Sleep, clock: Clock
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._session = session
        self._sleep = sleep
        self._pace = Pace(settings.rate, sleep=sleep, clock=clock)
        token = settings.api_token.get_secret_value().strip() if settings.api_token else ""
        self._token = token or None
        self._addresses = [url for url in (settings.base_url, settings.fallback_url) if url]

    @property
    def has_token(self) -> bool:
        """Whether the provider can be asked at all."""
        return self._token is not None

    async def webhook(self) -> str | None:
        """The URL that events are sent to; None when there is none.

        What the provider answers when none is set is not documented: an empty body, no `url` and a 404 all mean it.
        """
        answer = await self._call(Call("GET", "/email/webhook"))
        if answer.status == HTTPStatus.NOT_FOUND or not answer.body.strip():
            return None
        url = _document(answer).get("url")
        if url is None or isinstance(url, str):
            return url or None
        raise UnexpectedAnswerError(f"{answer.call} was answered with a url that is not text")

    async def enable_webhook(self, url: str) -> str:
        """Have events sent to this URL; returns the one that the provider says it has set."""
        answer = await self._call(Call("POST", "/email/webhook", orjson.dumps({"url": url})))
        confirmed = _document(answer).get("url")
        if isinstance(confirmed, str) and confirmed:
            return confirmed
        raise UnexpectedAnswerError(
            f"{answer.call} was answered without a url; ask which one is set before you rely on it"
        )

    async def disable_webhook(self, url: str) -> None:
        """Have no more events sent to this URL. Does nothing when it is not the one that is set."""
        answer = await self._call(Call("DELETE", "/email/webhook", orjson.dumps({"url": url})))
        # A 404 is what a repeat gets when the answer to the first was lost, but also what a wrong address gives.
        if answer.status == HTTPStatus.NOT_FOUND and await self.webhook() == url:
            raise UnexpectedAnswerError(f"{answer.call} was answered 404, yet the webhook is still set")

    async def message(self, message_id: str) -> ProviderMessage:
        """Look a message up, for its address.

        Raises:
            UnknownMessageError: the provider does not know it, or not yet.
        """
        # These would change the path that is asked for, and no message can have them as its id.
        if message_id in _NOT_A_MESSAGE:
            raise UnknownMessageError(f"{message_id!r} is not an id that a message can have")
        answer = await self._call(Call("GET", f"/email/messages/{quote(message_id, safe='')}"))
        if answer.status == HTTPStatus.NOT_FOUND:
            raise UnknownMessageError(
                f"the provider does not know message {message_id}: it may lag behind its own webhook, "
                "or the message belongs to another account than provider.api_token"
            )
        document = _document(answer)
        to, status = document.get("to"), document.get("status")
        if str(document.get("id")) != message_id or not isinstance(to, str) or not to.strip():
            raise UnexpectedAnswerError(f"{answer.call} was answered without that id and an address in `to`")
        return ProviderMessage(id=message_id, to=to, status=status if isinstance(status, str) else None)

    async def _call(self, call: Call) -> Answer:
        """The answer, which is 2xx or 404."""
        if self._token is None:
            raise MissingTokenError(
                f"{call} needs the provider's API token: set provider.api_token (BRIDGE_PROVIDER__API_TOKEN)"
            )
        # One object a call: a shared one mixes the state of its callers.
        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(self._settings.attempts),
            # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
            wait=wait_random_exponential(multiplier=_FIRST_BACKOFF, max=self._settings.backoff_max),
            retry=retry_if_exception_type(ProviderUnavailableError),
            reraise=True,
        )
        answer: Answer = await retrying(self._attempt, call, self._token)
        return answer

    async def _attempt(self, call: Call, token: str) -> Answer:
        failures: list[ProviderUnavailableError] = []
        for address in self._addresses:
            try:
                return await self._ask(address, call, token)
            except ThrottledError as refusal:
                self._pace.hold(refusal.retry_after or 0.0)
                raise
            except ProviderUnavailableError as failure:
                failures.append(failure)
        wait = max((failure.retry_after or 0.0 for failure in failures), default=0.0)
        self._pace.hold(wait)
        raise ProviderUnavailableError("; ".join(map(str, failures)), wait or None)

    async def _ask(self, address: str, call: Call, token: str) -> Answer:
        await self._pace.turn()
        host, began = host_of(address), time.monotonic()
        try:
            answer = await exchange(self._session, address, call, token)
        except TimeoutError as error:
            self._count("timeout", began)
            limit = f"{self._settings.timeout:g} s"
            raise ProviderUnavailableError(f"{call}: {host} did not answer within {limit}") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
            self._count("error", began)
            reason = excerpt(str(error), token)
            raise ProviderUnavailableError(f"{call}: {host} cannot be reached: {reason}") from error
        except aiohttp.ClientError as error:
            self._count("error", began)
            # Not `from error`: some of aiohttp's exceptions carry the request's headers, and so the token.
            raise UnexpectedAnswerError(
                f"{call}: {host} does not speak HTTP as we know it ({type(error).__name__}); "
                "check provider.base_url and provider.reserve_url"
            ) from None
        self._count(str(answer.status) if answer.status in _COUNTED else f"{answer.status // 100}xx", began)
        wait = retry_after(answer.retry_after, now=datetime.now(UTC), at_most=self._settings.retry_after_max)
        return _judged(answer, host, wait, token)

    def _count(self, status: str, began: float) -> None:
        self._metrics.provider_calls.labels(status).inc()
        self._metrics.provider_seconds.labels(status).observe(time.monotonic() - began)


def _judged(answer: Answer, host: str, wait: float | None, token: str) -> Answer:
    """The answer itself if it is 2xx or 404, else the error that it stands for."""
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
        raise ProviderUnavailableError(said, wait)
    raise UnexpectedAnswerError(said)


def _document(answer: Answer) -> dict[str, Any]:
    """The JSON object in a 2xx answer. The error says nothing of its content: it holds addresses and mail."""
    if answer.status == HTTPStatus.NOT_FOUND:
        raise UnexpectedAnswerError(f"{answer.call} was answered 404; check provider.base_url")
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict):
        return document
    raise UnexpectedAnswerError(
        f"{answer.call} was answered {answer.status} with {len(answer.body)} bytes that are not a JSON object; "
        "check provider.base_url"
    )
