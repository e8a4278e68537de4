"""Handles one request: checks the token, parses the event, makes it durable, answers."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from bridge import events
from bridge.amqp.publish_errors import ChannelClosedError, NackedError, PublishError
from bridge.broker import messages
from bridge.receiver import answers
from bridge.receiver.answers import RefusedError
from bridge.receiver.body import read_body
from bridge.receiver.deadline_queue import DeadlineQueue
from bridge.receiver.handler_metrics import HandlerMetrics
from bridge.receiver.refusal_log import RefusalLog
from bridge.spool.errors import SpoolError
from bridge.telemetry import logs
from bridge.timestamps import unix_ms_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.amqp.frames import Message
    from bridge.amqp.publisher import Publisher
    from bridge.receiver.access import Access
    from bridge.receiver.answers import WebhookAnswer
    from bridge.settings.sections import Receiver
    from bridge.spool.entries import SpoolEntry
    from bridge.spool.refused_events import RefusedEvents
    from bridge.spool.spool import Spool
    from bridge.telemetry.metrics import Metrics

    SendAnswer = Callable[[WebhookAnswer], None]

log = logs.logger("receiver")

WEBHOOK_PATH: Final = "/webhooks/msndr/"
DISK_TIMEOUT_SECONDS: Final = 1.0
"""Timeout of an fsync: far above any disk that works, below the timeouts of clients."""

_ALLOWED: Final = "GET, HEAD, POST"


class _Pending:
    """A body that is being made durable, and the callback for its answer."""

    __slots__ = (
        "began",
        "late_confirm",
        "message",
        "nack",
        "quarantine_reason",
        "received_at",
        "send_answer",
    )

    def __init__(self, send_answer: SendAnswer, message: Message, received_at: int, began: float) -> None:
        self.send_answer = send_answer
        self.message = message
        self.received_at = received_at
        self.began = began
        self.quarantine_reason: str | None = None
        """Why it goes to the quarantine; None if it is an event."""
        self.late_confirm: asyncio.Future[PublishError | None] | None = None
        """The outcome of the publish, once `confirm_wait` is over."""
        self.nack: NackedError | None = None
        """RabbitMQ's nack. Other queues than the one that refused may have the message all the same."""

    def answer(self, durability: str) -> WebhookAnswer:
        if self.quarantine_reason is not None:
            return answers.quarantined(self.quarantine_reason)
        return answers.accepted(self.message.message_id, durability)


class Handler:
    """Answers the webhook. Every answer is counted. A 200 for a POST means that the event is durable."""

    def __init__(
        self,
        settings: Receiver,
        *,
        access: Access,
        publisher: Publisher,
        spool: Spool,
        refused: RefusedEvents,
        exchange: str,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._access = access
        self._publisher = publisher
        self._spool = spool
        self._refused = refused
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._trace = logs.tracer(log)
        self._counts = HandlerMetrics(metrics)
        self._count = self._counts.answered
        self._unconfirmed = DeadlineQueue[_Pending](
            self._loop, seconds=settings.confirm_wait, on_timeout=self._on_confirm_timeout
        )
        self._unwritten = DeadlineQueue[_Pending](
            self._loop, seconds=DISK_TIMEOUT_SECONDS, on_timeout=self._on_spool_timeout
        )
        self._refusal_log = RefusalLog()

    @property
    def answered(self) -> int:
        """Number of answered requests."""
        return self._counts.number

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle a request that took aiohttp's path."""
        began = time.perf_counter()
        try:
            self._admit(request)
            if request.method != hdrs.METH_POST:
                return answers.to_response(self._count(answers.ready(), began))
            body = await read_body(request, timeout=self._settings.body_timeout)
        except RefusedError as refused:
            return answers.to_response(self._count(refused.answer, began))
        answered: asyncio.Future[WebhookAnswer] = self._loop.create_future()
        self.take(body, partial(_resolve, answered), began)
        return answers.to_response(await answered)

    def failed(self, status: int, reason: str) -> WebhookAnswer:
        """The answer to a request that is not HTTP, or has failed unexpectedly."""
        return self._count(RefusedError(status, reason, closes=True).answer, time.perf_counter())

    def admits(self, path: str) -> bool:
        """Whether this path is the webhook's, with a token that is valid now.

        Args:
            path: as the client wrote it, without the query. A percent-encoded token is not admitted: the rules and
                log filters of a proxy would not recognise it.
        """
        return path.startswith(WEBHOOK_PATH) and self._access.allows(path[len(WEBHOOK_PATH) :])

    def take(self, body: bytes, send_answer: SendAnswer, began: float) -> None:
        """Handle the whole body of an admitted request.

        Args:
            body: of the request.
            send_answer: called once with the answer, before this returns or later. It must not raise.
            began: when the request began, by `time.perf_counter`.
        """
        received_at = unix_ms_now()
        try:
            event = events.parse(body)
        except events.NotJsonError as reason:
            send_answer(self._count(RefusedError(400, str(reason)).answer, began))
            return
        except events.MalformedError as malformed:
            why = str(malformed)
            outgoing = messages.malformed_message(body, why, exchange=self._exchange, received_at=received_at)
            pending = _Pending(send_answer, outgoing, received_at, began)
            pending.quarantine_reason = why
            log.warning(
                "a body is not an event: it goes to the quarantine",
                action="receiver.quarantine",
                event_id=outgoing.message_id,
                reason=why,
            )
        else:
            outgoing = messages.event_message(event, body, exchange=self._exchange, received_at=received_at)
            pending = _Pending(send_answer, outgoing, received_at, began)
        self._publish(pending)

    def _publish(self, pending: _Pending) -> None:
        """Publish, and wait for the confirm, at most `confirm_wait`. Otherwise write to the spool."""
        refused = self._refused.any and self._refused.refusal_of(pending.message) is not None
        if not refused and self._publisher.usable:
            try:
                self._publisher.send(pending.message, partial(self._on_publish_outcome, pending))
            except PublishError:
                pass  # the answer says `spooled`; the link has logged the reason
            else:
                self._unconfirmed.add(pending)
                return
        self._to_spool(pending)

    def _on_publish_outcome(self, pending: _Pending, error: PublishError | None) -> None:
        """The outcome of a publish."""
        if isinstance(error, ChannelClosedError):
            self._refused.learn_from(error)
        if pending.late_confirm is not None:
            if not pending.late_confirm.done():
                pending.late_confirm.set_result(error)
        elif not self._unconfirmed.remove(pending):
            return
        elif error is None:
            if self._refused.nacked:
                self._refused.note_live_confirm(pending.message.routing_key)
            self._accept(pending, answers.CONFIRMED)
        else:
            if isinstance(error, NackedError):
                pending.nack = error
            self._to_spool(pending)

    def _on_confirm_timeout(self, pending: _Pending) -> None:
        pending.late_confirm = self._loop.create_future()
        self._to_spool(pending)

    def _to_spool(self, pending: _Pending) -> None:
        self._unwritten.add(pending)
        self._spool.enqueue(
            pending.received_at,
            pending.message.body,
            partial(self._on_spool_outcome, pending),
            held=pending.late_confirm is not None or pending.nack is not None,
        )

    def _on_spool_outcome(self, pending: _Pending, outcome: SpoolEntry | SpoolError) -> None:
        """The outcome of a spool write. The request may have been answered already."""
        in_time = self._unwritten.remove(pending)
        confirm = pending.late_confirm
        if isinstance(outcome, SpoolError):
            if in_time:
                self._refuse(pending, str(outcome))
            return
        if pending.nack is not None:
            self._set_aside(outcome, pending, pending.nack)
        if confirm is not None:
            confirm.add_done_callback(partial(self._on_late_confirm, outcome, pending))
        if in_time:
            self._accept(pending, answers.SPOOLED)

    def _on_spool_timeout(self, pending: _Pending) -> None:
        self._refuse(pending, f"the spool's disk has not answered in {DISK_TIMEOUT_SECONDS:g} s")

    def _refuse(self, pending: _Pending, why: str) -> None:
        """Answer 503: the disk fails or hangs. If it writes the event later, the drain will publish it."""
        if pending.late_confirm is not None and _is_confirmed(pending.late_confirm):
            self._accept(pending, answers.CONFIRMED)
            return
        refused = RefusedError(
            503, "neither RabbitMQ nor the spool can take it", retry_after=str(self._settings.retry_after)
        )
        self._refusal_log.refused(why)
        if self._trace is not None:
            self._trace("event refused", action="receiver.refused", event_id=pending.message.message_id)
        pending.send_answer(self._count(refused.answer, pending.began))

    def _on_late_confirm(
        self, entry: SpoolEntry, pending: _Pending, confirm: asyncio.Future[PublishError | None]
    ) -> None:
        """The late outcome of an event in the spool: remove it if it was confirmed, else leave it to the drain."""
        error = confirm.result()
        if error is None:
            self._spool.remove_confirmed(entry)
        elif isinstance(error, NackedError):
            self._set_aside(entry, pending, error)
        else:
            self._spool.release(entry)

    def _set_aside(self, entry: SpoolEntry, pending: _Pending, error: NackedError) -> None:
        """Set a nacked event aside: published again at once, the queues that took it would get it twice."""
        refusal = self._refused.note_nack(pending.message, error)
        self._spool.set_aside(entry, refusal)
        self._refused.report.add(refusal)

    def _accept(self, pending: _Pending, durability: str) -> None:
        outgoing = pending.message
        if self._refusal_log.active:
            self._refusal_log.accepted()
        self._counts.accepted(outgoing, pending.received_at)
        if self._trace is not None:
            self._trace(
                "event accepted",
                action="receiver.accepted",
                event_id=outgoing.message_id,
                name=outgoing.routing_key,
                durability=durability,
            )
        pending.send_answer(self._count(pending.answer(durability), pending.began))

    def _admit(self, request: web.BaseRequest) -> None:
        if not self.admits(request.raw_path.partition("?")[0]):
            raise RefusedError(404, "there is nothing here")
        if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST}:
            raise RefusedError(405, f"only {_ALLOWED}", allow=_ALLOWED)


def _resolve(answered: asyncio.Future[WebhookAnswer], answer: WebhookAnswer) -> None:
    """The waiter may be cancelled: the client has disconnected, or the receiver ends."""
    if not answered.done():
        answered.set_result(answer)


def _is_confirmed(confirm: asyncio.Future[PublishError | None]) -> bool:
    return confirm.done() and confirm.result() is None
