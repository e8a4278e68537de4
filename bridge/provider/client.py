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
from bridge.provider.http import Answer, Call, excerpt, exchange, host_of
from bridge.provider.rate_limit import Backoff, Clock, Pace, Sleep, retry_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.settings.sections import Provider
    from bridge.telemetry.metrics import Metrics

_LONGEST_HEADER: Final = 64 * 1024
_COUNTED: Final = frozenset({200, 201, 204, 400, 401, 403, 404, 422, 429})
_NOT_A_MESSAGE: Final = frozenset({"", ".", ".."})


@dataclass(frozen=True, slots=True)
class ProviderMessage:
    """What the provider says of a message."""

    id: str
    to: str
    """The recipient's address, as the sender wrote it."""
    status: str | None
    """For example `queued`, `sent`, `delivered`, `soft_bounced`, `hard_bounced`."""


@dataclass(frozen=True, slots=True)
class WebhookSeen:
    """What the provider says of its webhook."""

    url: str | None
    not_found: bool
    """The answer was a 404."""


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
        timeout=aiohttp.ClientTimeout(total=settings.timeout),
        cookie_jar=aiohttp.DummyCookieJar(),
        # Who waits for one of aiohttp's hundred places would time out unasked; the rate bounds how many there are.
        connector=aiohttp.TCPConnector(limit=0),
        max_line_size=_LONGEST_HEADER,
        max_field_size=_LONGEST_HEADER,
    ) as session:
        yield ProviderClient(settings, metrics, session, sleep, clock)


class ProviderClient:
    """Calls of the provider's API, retried, at one pace for all who share this client.

    An attempt asks `provider.base_url` and, if that cannot be reached or answers 5xx, `provider.reserve_url` at
    once. A 4xx is an answer: the reserve is not asked. Connection errors, timeouts, 429 and 5xx are tried again,
    `provider.attempts` attempts in all, after exponentially growing random waits (full jitter). `Retry-After`, up to
    `provider.retry_after_max`, holds back every caller of this client where it comes with a 429; with a 5xx, which may
    be due to what was asked for, only the one who got it. A 404 is never retried here.

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
        return (await self.look_at_webhook()).url

    async def look_at_webhook(self) -> WebhookSeen:
        """The same, and whether it was a 404 that said so: a wrong `provider.base_url` is answered like that, too."""
        answer = await self._call(Call("GET", "/email/webhook"))
        if answer.status == HTTPStatus.NOT_FOUND or not answer.body.strip():
            return WebhookSeen(None, not_found=answer.status == HTTPStatus.NOT_FOUND)
        url = _document(answer).get("url")
        if url is None or isinstance(url, str):
            return WebhookSeen(url or None, not_found=False)
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

    async def turn(self) -> None:
        """Wait until there is room for one more call; for a caller who then looks whether it is still to be made."""
        await self._pace.turn()

    async def message(self, message_id: str, *, in_turn: bool = False) -> ProviderMessage:
        """Look a message up, for its address.

        Args:
            message_id: as an event has it.
            in_turn: the caller has waited for its `turn` already.

        Raises:
            UnknownMessageError: the provider does not know it, or not yet.
        """
        call = Call("GET", f"/email/messages/{_quoted(message_id)}")
        answer = await self._call(call, _Turns(self._pace, had=in_turn))
        if answer.status == HTTPStatus.NOT_FOUND:
            raise UnknownMessageError(
                f"the provider does not know message {message_id}: it may lag behind its own webhook, "
                "or the message belongs to another account than provider.api_token"
            )
        for document in tolerant_json.documents(answer.body):
            to = tolerant_json.recipient(document.get("to"))
            if to is not None and tolerant_json.whole_number_or_text(document.get("id")) == message_id:
                return ProviderMessage(message_id, to, tolerant_json.sound_text(document.get("status")))
        _document(answer)  # which has its own words for what is no object at all
        raise UnexpectedAnswerError(f"{answer.call} was answered without that id and an address in `to`")

    async def _call(self, call: Call, turns: _Turns | None = None) -> Answer:
        """The answer, which is 2xx or 404."""
        if self._token is None:
            raise MissingTokenError(
                f"{call} needs the provider's API token: set provider.api_token (BRIDGE_PROVIDER__API_TOKEN)"
            )
        # One object a call: a shared one mixes the state of its callers.
        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(self._settings.attempts),
            wait=Backoff(self._settings.backoff_max),
            retry=retry_if_exception_type(ProviderUnavailableError),
            reraise=True,
        )
        answer: Answer = await retrying(self._attempt, call, turns or _Turns(self._pace), self._token)
        return answer

    async def _attempt(self, call: Call, turns: _Turns, token: str) -> Answer:
        failures: list[ProviderUnavailableError] = []
        for address in self._addresses:
            await turns.next()
            try:
                return await self._ask(address, call, token)
            except ThrottledError as refusal:
                self._pace.hold(refusal.retry_after or 0.0)
                raise
            except ProviderUnavailableError as failure:
                failures.append(failure)
        wait = max((failure.retry_after or 0.0 for failure in failures), default=0.0)
        answered = any(isinstance(failure, ServerFailureError) for failure in failures)
        kind = ServerFailureError if answered else ProviderUnavailableError
        raise kind("; ".join(map(str, failures)), wait or None)

    async def _ask(self, address: str, call: Call, token: str) -> Answer:
        host, began = host_of(address), time.monotonic()
        try:
            answer = await exchange(self._session, address, call, token)
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
        self._count(str(answer.status) if answer.status in _COUNTED else f"{answer.status // 100}xx", began)
        wait = retry_after(answer.retry_after, now=datetime.now(UTC), at_most=self._settings.retry_after_max)
        return _judged(answer, host, wait, token)

    def _count(self, status: str, began: float) -> None:
        self._metrics.provider_calls.labels(status).inc()
        self._metrics.provider_seconds.labels(status).observe(time.monotonic() - began)


class _Turns:
    """The turns of one call, which may have had its first."""

    def __init__(self, pace: Pace, *, had: bool = False) -> None:
        self._pace = pace
        self._had = had

    async def next(self) -> None:
        if self._had:
            self._had = False
        else:
            await self._pace.turn()


def _quoted(message_id: str) -> str:
    """An id as one segment of a path, which it cannot change."""
    try:
        if message_id not in _NOT_A_MESSAGE:
            return quote(message_id, safe="")
    except UnicodeEncodeError:
        pass
    raise UnknownMessageError(f"{message_id!r} is not an id that a message can have")


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
        raise ServerFailureError(said, wait)
    raise UnexpectedAnswerError(said)


def _document(answer: Answer) -> dict[str, Any]:
    """The JSON object in a 2xx answer. The error says nothing of its content: it holds addresses and mail."""
    if answer.status == HTTPStatus.NOT_FOUND:
        raise UnexpectedAnswerError(f"{answer.call} was answered 404; check provider.base_url")
    for document in tolerant_json.documents(answer.body):
        return document
    raise UnexpectedAnswerError(
        f"{answer.call} was answered {answer.status} with {len(answer.body)} bytes that are not a JSON object; "
        "check provider.base_url"
    )
