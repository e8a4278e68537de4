"""The client of the provider's API (msndr): the webhook's URL, and the address of a message."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp
import orjson

from bridge.provider import tolerant_json
from bridge.provider.calls import ApiCalls
from bridge.provider.errors import UnexpectedAnswerError, UnknownMessageError
from bridge.provider.http import ApiRequest, ApiResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.provider.rate_limit import Clock, Sleep
    from bridge.settings.sections import Provider
    from bridge.telemetry.metrics import Metrics

_MAX_HEADER: Final = 64 * 1024
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
    """Calls the provider's API, with retries as in `ApiCalls`. All callers of a client share its rate limit.

    Every method raises a `ProviderError`: `MissingTokenError` before a request is sent, `UnauthorizedError`,
    `UnexpectedAnswerError`, or `ProviderUnavailableError` after the last attempt.
    """

    def __init__(
        self, settings: Provider, metrics: Metrics, session: aiohttp.ClientSession, sleep: Sleep, clock: Clock
    ) -> None:
        """Use `connect` instead. Args: as there; the session sends the requests."""
        self._calls = ApiCalls(settings, metrics, session, sleep, clock)

    @property
    def has_token(self) -> bool:
        """Whether there is an API token: without one no call is possible."""
        return self._calls.has_token

    async def webhook(self) -> str | None:
        """The URL to which the provider posts events; None if none is set.

        The answer for no webhook is not documented: an empty body, no `url` and a 404 all count as none.
        """
        return (await self.read_webhook()).url

    async def read_webhook(self) -> WebhookState:
        """The webhook, and whether the answer was a 404, which may also mean a wrong `provider.base_url`."""
        answer = await self._calls.call(ApiRequest("GET", "/email/webhook"))
        if answer.status == HTTPStatus.NOT_FOUND or not answer.body.strip():
            return WebhookState(None, not_found=answer.status == HTTPStatus.NOT_FOUND)
        url = _document(answer).get("url")
        if url is None or isinstance(url, str):
            return WebhookState(url or None, not_found=False)
        raise UnexpectedAnswerError(f"{answer.call} was answered with a url that is not text")

    async def enable_webhook(self, url: str) -> str:
        """Set the webhook to this URL. Returns the URL that the provider confirms."""
        answer = await self._calls.call(ApiRequest("POST", "/email/webhook", orjson.dumps({"url": url})))
        confirmed = _document(answer).get("url")
        if isinstance(confirmed, str) and confirmed:
            return confirmed
        raise UnexpectedAnswerError(
            f"{answer.call} was answered without a url; check which one is set before you rely on it"
        )

    async def disable_webhook(self, url: str) -> None:
        """Remove the webhook. Does nothing if another URL is set."""
        answer = await self._calls.call(ApiRequest("DELETE", "/email/webhook", orjson.dumps({"url": url})))
        # A retry gets a 404 if the answer to the first attempt was lost, but so does a wrong base URL.
        if answer.status == HTTPStatus.NOT_FOUND and await self.webhook() == url:
            raise UnexpectedAnswerError(f"{answer.call} was answered 404, yet the webhook is still set")

    async def wait_for_rate(self) -> None:
        """Wait until the rate limit allows one more call, for a caller that checks something between wait and call."""
        await self._calls.wait_for_rate()

    async def message(self, message_id: str, *, rate_acquired: bool = False) -> ProviderMessage:
        """Look up a message, for its address.

        Args:
            message_id: as an event has it.
            rate_acquired: the caller has called `wait_for_rate` already.

        Raises:
            UnknownMessageError: the provider does not know the message, or not yet.
        """
        call = ApiRequest("GET", f"/email/messages/{_quoted(message_id)}")
        answer = await self._calls.call(call, rate_acquired=rate_acquired)
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


def _quoted(message_id: str) -> str:
    """The id as one segment of the URL's path, percent-encoded."""
    try:
        if message_id not in _PATH_SEGMENTS:
            return quote(message_id, safe="")
    except UnicodeEncodeError:
        pass
    raise UnknownMessageError(f"{message_id!r} is not an id that a message can have")


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
