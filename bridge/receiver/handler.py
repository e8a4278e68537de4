"""Handles one request: checks the token, parses the event, makes it durable, answers."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import hdrs, web

from bridge import events
from bridge.broker import messages
from bridge.receiver import answers
from bridge.receiver.answers import RequestRejectedError
from bridge.receiver.body import read_body
from bridge.receiver.durability import Durability, NotDurableError
from bridge.receiver.handler_metrics import HandlerMetrics
from bridge.receiver.rejection_log import RejectionLog
from bridge.telemetry import logs
from bridge.timestamps import unix_ms_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import CIMultiDictProxy

    from bridge.amqp.message_types import Message
    from bridge.amqp.publisher import Publisher
    from bridge.receiver.access import Access
    from bridge.receiver.answers import WebhookAnswer
    from bridge.settings.sections import Receiver
    from bridge.spool.known_refusals import KnownRefusals
    from bridge.spool.spool import Spool
    from bridge.telemetry.metrics import Metrics

    SendAnswer = Callable[[WebhookAnswer], None]
    OnDone = Callable[[str | NotDurableError], None]

log = logs.logger("receiver")

WEBHOOK_PATH: Final = "/webhooks/msndr/"
_ALLOWED: Final = "GET, HEAD, POST"


class MakesDurable(Protocol):
    """What `Durability` does."""

    def make_durable(self, message: Message, received_at: int, on_done: OnDone) -> None:
        """As `Durability.make_durable`."""


class Handler:
    """Answers the webhook. Every answer is counted. A 200 for a POST means that the event is durable."""

    def __init__(
        self,
        *,
        settings: Receiver,
        access: Access,
        publisher: Publisher,
        spool: Spool,
        known_refusals: KnownRefusals,
        exchange: str,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._access = access
        self._durability: MakesDurable = Durability(
            publisher, spool=spool, known_refusals=known_refusals, confirm_wait=settings.confirm_wait
        )
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._trace = logs.tracer(log)
        self._metrics = HandlerMetrics(metrics)
        self._count = self._metrics.answered
        self._rejection_log = RejectionLog()

    @property
    def answered(self) -> int:
        """Number of answered requests."""
        return self._metrics.answer_count

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle a request that took aiohttp's path."""
        began = time.perf_counter()
        try:
            self._admit(request)
            if request.method != hdrs.METH_POST:
                return answers.to_response(self._count(answers.ready(), began))
            body = await read_body(request, timeout=self._settings.body_timeout)
        except RequestRejectedError as rejected:
            return answers.to_response(self._count(rejected.answer, began))
        answered: asyncio.Future[WebhookAnswer] = self._loop.create_future()
        self.take(body, partial(_resolve, answered), began, request.headers)
        return answers.to_response(await answered)

    def failed(self, status: int, reason: str) -> WebhookAnswer:
        """The answer to a request that is not HTTP, or has failed unexpectedly."""
        return self._count(RequestRejectedError(status, reason, closes=True).answer, time.perf_counter())

    def admits(self, path: str) -> bool:
        """Whether this path is the webhook's, with a token that is valid now.

        Args:
            path: as the client wrote it, without the query. A percent-encoded token is not admitted: the rules and
                log filters of a proxy would not recognise it.
        """
        return path.startswith(WEBHOOK_PATH) and self._access.allows(path[len(WEBHOOK_PATH) :])

    def take(
        self, body: bytes, send_answer: SendAnswer, began: float, headers: CIMultiDictProxy[str]
    ) -> None:
        """Handle the whole body of an admitted request.

        Args:
            body: of the request.
            send_answer: called once with the answer, before this returns or later. It must not raise.
            began: when the request began, by `time.perf_counter`.
            headers: of the request. Only `TracedHandler` reads any.
        """
        del headers
        received_at = unix_ms_now()
        why: str | None = None
        try:
            event = events.parse(body)
        except events.NotJsonError as reason:
            send_answer(self._count(RequestRejectedError(400, str(reason)).answer, began))
            return
        except events.MalformedError as malformed:
            why = str(malformed)
            message = messages.malformed_message(body, why, exchange=self._exchange, received_at=received_at)
            log.warning(
                "a body is not an event: it goes to the quarantine",
                action="receiver.quarantine",
                event_id=message.message_id,
                reason=why,
            )
        else:
            message = messages.event_message(event, body, exchange=self._exchange, received_at=received_at)
        self._durability.make_durable(
            message, received_at, partial(self._on_done, message, received_at, send_answer, began, why)
        )

    def _on_done(
        self,
        message: Message,
        received_at: int,
        send_answer: SendAnswer,
        began: float,
        quarantine_reason: str | None,
        outcome: str | NotDurableError,
    ) -> None:
        """The message is durable, or is not, and then the answer is 503."""
        if isinstance(outcome, NotDurableError):
            self._rejection_log.rejected(str(outcome))
            if self._trace is not None:
                self._trace("event rejected", action="receiver.rejected", event_id=message.message_id)
            rejected = RequestRejectedError(
                503, "neither RabbitMQ nor the spool can take it", retry_after=str(self._settings.retry_after)
            )
            send_answer(self._count(rejected.answer, began))
            return
        if self._rejection_log.active:
            self._rejection_log.accepted()
        self._metrics.accepted(message, received_at)
        if self._trace is not None:
            self._trace(
                "event accepted",
                action="receiver.accepted",
                event_id=message.message_id,
                name=message.routing_key,
                durability=outcome,
            )
        if quarantine_reason is None:
            answer = answers.accepted(message.message_id, outcome)
        else:
            answer = answers.quarantined(quarantine_reason)
        send_answer(self._count(answer, began))

    def _admit(self, request: web.BaseRequest) -> None:
        if not self.admits(request.raw_path.partition("?")[0]):
            raise RequestRejectedError(404, "there is nothing here")
        if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST}:
            raise RequestRejectedError(405, f"only {_ALLOWED}", allow=_ALLOWED)


def _resolve(answered: asyncio.Future[WebhookAnswer], answer: WebhookAnswer) -> None:
    """The waiter may be cancelled: the client has disconnected, or the receiver ends."""
    if not answered.done():
        answered.set_result(answer)
