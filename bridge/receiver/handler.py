"""One request: who is it, what does it say, is it durable, what is answered."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import HttpVersion11, hdrs, web

from bridge import events
from bridge.broker import message
from bridge.broker.publisher import PublishError
from bridge.telemetry import logs
from bridge.telemetry.metrics import name_label

if TYPE_CHECKING:
    from bridge.broker.publisher import Message, Publisher
    from bridge.receiver.access import Access
    from bridge.settings import Receiver
    from bridge.telemetry.metrics import Metrics

log = logs.logger("receiver")

PATH: Final = "/webhooks/msndr/"
MAX_BODY: Final = 64 * 1024
"""Bytes. The provider's largest documented event is below 1 KiB; the rest is room for long URLs."""

_ALLOWED: Final = "GET, HEAD, POST"
_JSON: Final = "application/json"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class RefusedError(Exception):
    """The request gets no 200. Its message is the reason that the caller is told."""

    def __init__(self, status: int, reason: str, *, closes: bool = False, **headers: str) -> None:
        """Say why.

        Args:
            status: of the answer.
            reason: for the caller.
            closes: the connection ends: what is still on its way on it is not another request.
            headers: of the answer; `retry_after` is `Retry-After`.
        """
        super().__init__(reason)
        self.status = status
        self.closes = closes
        self.headers = {name.replace("_", "-").title(): value for name, value in headers.items()}


class Handler:
    """Answers the webhook. Every answer is counted; a 200 for a POST means that the event is durable."""

    def __init__(
        self, settings: Receiver, *, access: Access, publisher: Publisher, exchange: str, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._access = access
        self._publisher = publisher
        self._exchange = exchange
        self._metrics = metrics

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        began = time.perf_counter()
        try:
            answer, body = await self._answer(request)
            response = _response(200, body)
        except RefusedError as refused:
            answer = str(refused.status)
            response = self.refusal(refused)
        self._metrics.answers.labels(answer).inc()
        self._metrics.answer_seconds.observe(time.perf_counter() - began)
        return response

    def refusal(self, refused: RefusedError) -> web.Response:
        response = _response(refused.status, {"status": "refused", "reason": str(refused)}, refused.headers)
        if refused.closes:
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> tuple[str, dict[str, Any]]:
        path = request.path
        if not path.startswith(PATH) or not self._access.allows(path[len(PATH) :]):
            raise RefusedError(404, "there is nothing here")
        if request.method in {hdrs.METH_GET, hdrs.METH_HEAD}:
            return "probe", {"status": "ready"}
        if request.method != hdrs.METH_POST:
            raise RefusedError(405, f"only {_ALLOWED}", allow=_ALLOWED)
        body = await self._read(request)
        received_at = time.time_ns() // 1_000_000
        try:
            event = events.parse(body)
        except events.NotJsonError as reason:
            raise RefusedError(400, str(reason)) from None
        except events.MalformedError as malformed:
            return await self._quarantine(body, str(malformed), received_at)
        await self._confirmed(message.of_event(event, body, exchange=self._exchange, received_at=received_at))
        self._metrics.received.labels(name_label(event.name)).inc()
        return "confirmed", {"status": "accepted", "id": event.id, "durability": "confirmed"}

    async def _quarantine(self, body: bytes, reason: str, received_at: int) -> tuple[str, dict[str, Any]]:
        await self._confirmed(
            message.of_malformed(body, reason, exchange=self._exchange, received_at=received_at)
        )
        self._metrics.received.labels(events.MALFORMED).inc()
        log.warning("quarantined a body that is no event", action="receiver.quarantine", reason=reason)
        return "quarantined", {"status": "quarantined", "reason": reason}

    async def _read(self, request: web.BaseRequest) -> bytes:
        if (request.content_length or 0) > MAX_BODY:
            raise _too_large()
        content, body = request.content, bytearray()
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                await _ask_for_body(request)
                while not content.at_eof():
                    body += await content.readany()
                    if len(body) > MAX_BODY:
                        raise _too_large()
        except TimeoutError:
            raise RefusedError(
                408, f"the body did not arrive in {self._settings.body_timeout:g} s", closes=True
            ) from None
        except (web.RequestPayloadError, OSError):
            # OSError: the client has gone. Nobody hears the answer, but it is counted.
            raise RefusedError(400, "the body is cut off or badly encoded", closes=True) from None
        return bytes(body)

    async def _confirmed(self, message: Message) -> None:
        """Wait for RabbitMQ's confirm, but not longer than `confirm_wait`.

        Raises:
            RefusedError: 503, the event is not known to be durable.
        """
        try:
            confirm = self._publisher.publish(message)
            done, _ = await asyncio.wait([confirm], timeout=self._settings.confirm_wait)
            if not done:
                raise self._unavailable(f"RabbitMQ has not confirmed in {self._settings.confirm_wait:g} s")
            confirm.result()
        except PublishError as error:
            raise self._unavailable(str(error)) from None

    def _unavailable(self, reason: str) -> RefusedError:
        return RefusedError(503, reason, retry_after=str(self._settings.retry_after))


async def _ask_for_body(request: web.BaseRequest) -> None:
    """Tell a client that waits to be told (`Expect: 100-continue`, RFC 9110 10.1.1); some wait for ever."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(_CONTINUE)


def _too_large() -> RefusedError:
    return RefusedError(413, f"the body is larger than {MAX_BODY} bytes", closes=True)


def _response(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type=_JSON, headers=headers)
