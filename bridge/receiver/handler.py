"""One request: who is it, what does it say, is it durable, what is answered."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import HttpVersion11, hdrs, web

from bridge import events
from bridge.broker import message
from bridge.broker.publisher import PublishError
from bridge.receiver.spool_folder import SpoolError
from bridge.telemetry import logs
from bridge.telemetry.metrics import name_label

if TYPE_CHECKING:
    from bridge.broker.publisher import Message, Publisher
    from bridge.receiver.access import Access
    from bridge.receiver.spool import Spool
    from bridge.receiver.spool_file import Entry
    from bridge.settings import Receiver
    from bridge.telemetry.metrics import Metrics

log = logs.logger("receiver")

PATH: Final = "/webhooks/msndr/"
MAX_BODY: Final = 64 * 1024
"""Bytes. The provider's largest documented event is below 1 KiB; the rest is room for long URLs."""

DISK_SECONDS: Final = 5.0
"""What an fsync may take before the disk counts as hanging: far above any that works, below a client's patience."""

CONFIRMED: Final = "confirmed"
SPOOLED: Final = "spooled"

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
        self,
        settings: Receiver,
        *,
        access: Access,
        publisher: Publisher,
        spool: Spool,
        exchange: str,
        metrics: Metrics,
    ) -> None:
        self.answered = 0
        """Requests answered so far; grows with live traffic."""
        self._settings = settings
        self._access = access
        self._publisher = publisher
        self._spool = spool
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
        self.answered += 1
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
        outgoing = message.of_event(event, body, exchange=self._exchange, received_at=received_at)
        durability = await self._durable(outgoing, received_at)
        self._metrics.received.labels(name_label(event.name)).inc()
        return durability, {"status": "accepted", "id": event.id, "durability": durability}

    async def _quarantine(self, body: bytes, reason: str, received_at: int) -> tuple[str, dict[str, Any]]:
        outgoing = message.of_malformed(body, reason, exchange=self._exchange, received_at=received_at)
        await self._durable(outgoing, received_at)
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

    async def _durable(self, outgoing: Message, received_at: int) -> str:
        """Wait for RabbitMQ's confirm, but not longer than `confirm_wait`; otherwise for the spool's fsync.

        Raises:
            RefusedError: 503, neither can take the event.
        """
        confirm = self._publish(outgoing)
        if confirm is not None:
            await asyncio.wait([confirm], timeout=self._settings.confirm_wait)
            if _succeeded(confirm):
                return CONFIRMED
        try:
            async with asyncio.timeout(DISK_SECONDS):
                entry = await self._spool.put(received_at, outgoing.body, held=_pending(confirm))
        except (SpoolError, TimeoutError) as error:
            if confirm is not None and _succeeded(confirm):
                return CONFIRMED
            raise RefusedError(
                503, "neither RabbitMQ nor the spool can take it", retry_after=str(self._settings.retry_after)
            ) from error
        if confirm is not None:
            confirm.add_done_callback(partial(self._came_late, entry))
        return SPOOLED

    def _publish(self, outgoing: Message) -> asyncio.Future[None] | None:
        if not self._publisher.usable:
            return None
        try:
            return self._publisher.publish(outgoing)
        except PublishError:
            return None  # counted as `spooled`; why it could not be sent, the link has logged

    def _came_late(self, entry: Entry, confirm: asyncio.Future[None]) -> None:
        """The confirm of an event that went to the spool: with it the entry goes, without it the drain has it."""
        if _succeeded(confirm):
            self._spool.settle(entry)
        else:
            self._spool.release(entry)


async def _ask_for_body(request: web.BaseRequest) -> None:
    """Tell a client that waits to be told (`Expect: 100-continue`, RFC 9110 10.1.1); some wait for ever."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(_CONTINUE)


def _too_large() -> RefusedError:
    return RefusedError(413, f"the body is larger than {MAX_BODY} bytes", closes=True)


def _pending(confirm: asyncio.Future[None] | None) -> bool:
    return confirm is not None and not confirm.done()


def _succeeded(confirm: asyncio.Future[None]) -> bool:
    return confirm.done() and not confirm.cancelled() and confirm.exception() is None


def _response(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type=_JSON, headers=headers)
