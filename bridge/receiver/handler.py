"""One request: who is it, what does it say, is it durable, what is answered."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11, hdrs, web

from bridge import events
from bridge.amqp.publish_errors import ChannelClosedError, NackedError, PublishError
from bridge.broker import messages
from bridge.events import KNOWN_NAMES, MALFORMED
from bridge.receiver import answers
from bridge.receiver.answers import RefusedError
from bridge.receiver.deadline_queue import Waiting
from bridge.receiver.refusal_log import Refusing
from bridge.spool.folder import SpoolError
from bridge.telemetry import instruments, logs
from bridge.telemetry.metrics import OTHER, name_label

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.amqp.frames import Message
    from bridge.amqp.publisher import Publisher
    from bridge.receiver.access import Access
    from bridge.receiver.answers import Answer
    from bridge.settings.sections import Receiver
    from bridge.spool.refused_events import RefusedEvents
    from bridge.spool.spool import Spool
    from bridge.spool.spool_file import Entry
    from bridge.telemetry.buffered import Tally
    from bridge.telemetry.metrics import Metrics

    Reply = Callable[[Answer], None]

log = logs.logger("receiver")

PATH: Final = "/webhooks/msndr/"
MAX_BODY: Final = 64 * 1024
"""Bytes. The provider's largest documented event is below 1 KiB; the rest is room for long URLs."""

DISK_SECONDS: Final = 1.0
"""What an fsync may take before the disk counts as hanging: far above any that works, below a client's patience."""

_ALLOWED: Final = "GET, HEAD, POST"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Pending:
    """A body that is on its way to a durable place, and whoever waits for the answer."""

    __slots__ = ("began", "confirm", "nacked", "outgoing", "reason", "received_at", "reply")

    def __init__(self, reply: Reply, outgoing: Message, received_at: int, began: float) -> None:
        self.reply = reply
        self.outgoing = outgoing
        self.received_at = received_at
        self.began = began
        self.reason: str | None = None
        """Why it goes to the quarantine, if it does."""
        self.confirm: asyncio.Future[PublishError | None] | None = None
        """What became of the publish after all; when it was waited for long enough."""
        self.nacked: NackedError | None = None
        """That RabbitMQ has refused it; other queues than the one that did may have it all the same."""

    def answer(self, durability: str) -> Answer:
        if self.reason is not None:
            return answers.quarantined(self.reason)
        return answers.accepted(self.outgoing.message_id, durability)


class Handler:
    """Answers the webhook. Every answer is counted; a 200 for a POST means that the event is durable."""

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
        self.answered = 0
        """Requests answered so far; grows with live traffic."""
        self._settings = settings
        self._access = access
        self._publisher = publisher
        self._spool = spool
        self._refused = refused
        self._exchange = exchange
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._trace = logs.tracer(log)
        self._answers: dict[str, Tally] = {}
        self._received: dict[str, Tally] = {}
        self._answer_seconds = metrics.spread(metrics.answer_seconds, instruments.FAST)
        self._ages = metrics.ages(instruments.RECEIVED)
        for label in answers.USUAL:
            self._answer_tally(label)
        for name in (*sorted(KNOWN_NAMES), MALFORMED, OTHER):
            self._received_tally(name)
        self._unconfirmed = Waiting[_Pending](
            self._loop, seconds=settings.confirm_wait, overdue=self._not_confirmed
        )
        self._unwritten = Waiting[_Pending](self._loop, seconds=DISK_SECONDS, overdue=self._not_written)
        self._refusing = Refusing()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """A request as aiohttp hands it on."""
        began = time.perf_counter()
        try:
            self._admit(request)
            if request.method != hdrs.METH_POST:
                return answers.response(self._counted(answers.ready(), began))
            body = await self._read(request)
        except RefusedError as refused:
            return answers.response(self._counted(refused.answer, began))
        answered: asyncio.Future[Answer] = self._loop.create_future()
        self.take(body, partial(_reply, answered), began)
        return answers.response(await answered)

    def failed(self, status: int, reason: str) -> Answer:
        """What the connection has to refuse itself: what is no HTTP, or an unforeseen failure."""
        return self._counted(RefusedError(status, reason, closes=True).answer, time.perf_counter())

    def admits(self, path: str) -> bool:
        """Whether this path is the webhook's, with a token that is valid now.

        Args:
            path: as the client wrote it, without a query. What a proxy's rules and its log's masks do not recognise,
                such as a percent-encoded token, is not admitted.
        """
        return path.startswith(PATH) and self._access.allows(path[len(PATH) :])

    def take(self, body: bytes, reply: Reply, began: float) -> None:
        """A body that has come whole, from somebody who was admitted.

        Args:
            body: of the request.
            reply: called with the answer, once: before this returns, or later. It must not raise.
            began: when the request did, by `time.perf_counter`.
        """
        received_at = time.time_ns() // 1_000_000
        try:
            event = events.parse(body)
        except events.NotJsonError as reason:
            reply(self._counted(RefusedError(400, str(reason)).answer, began))
            return
        except events.MalformedError as malformed:
            why = str(malformed)
            outgoing = messages.of_malformed(body, why, exchange=self._exchange, received_at=received_at)
            pending = _Pending(reply, outgoing, received_at, began)
            pending.reason = why
            log.warning(
                "quarantines a body that is no event",
                action="receiver.quarantine",
                event_id=outgoing.message_id,
                reason=why,
            )
        else:
            outgoing = messages.of_event(event, body, exchange=self._exchange, received_at=received_at)
            pending = _Pending(reply, outgoing, received_at, began)
        self._publish(pending)

    def _publish(self, pending: _Pending) -> None:
        """Wait for RabbitMQ's confirm, but not longer than `confirm_wait`; otherwise for the spool's fsync."""
        refused = self._refused.any and self._refused.of(pending.outgoing) is not None
        if not refused and self._publisher.usable:
            try:
                self._publisher.send(pending.outgoing, partial(self._told, pending))
            except PublishError:
                pass  # the answer says `spooled`; why it could not be sent, the link has logged
            else:
                self._unconfirmed.add(pending)
                return
        self._to_spool(pending)

    def _told(self, pending: _Pending, error: PublishError | None) -> None:
        """What became of a publish."""
        if isinstance(error, ChannelClosedError):
            self._refused.heard(error)
        if pending.confirm is not None:
            if not pending.confirm.done():
                pending.confirm.set_result(error)
        elif not self._unconfirmed.remove(pending):
            return
        elif error is None:
            if self._refused.nacked:
                self._refused.confirmed(pending.outgoing.routing_key)
            self._durable(pending, answers.CONFIRMED)
        else:
            if isinstance(error, NackedError):
                pending.nacked = error
            self._to_spool(pending)

    def _not_confirmed(self, pending: _Pending) -> None:
        pending.confirm = self._loop.create_future()
        self._to_spool(pending)

    def _to_spool(self, pending: _Pending) -> None:
        self._unwritten.add(pending)
        self._spool.keep(
            pending.received_at,
            pending.outgoing.body,
            partial(self._written, pending),
            held=pending.confirm is not None or pending.nacked is not None,
        )

    def _written(self, pending: _Pending, outcome: Entry | SpoolError) -> None:
        """What became of an entry; whoever waited for it may have been told something already."""
        in_time = self._unwritten.remove(pending)
        confirm = pending.confirm
        if isinstance(outcome, SpoolError):
            if in_time:
                self._nowhere(pending, str(outcome))
            return
        if pending.nacked is not None:
            self._set_aside(outcome, pending, pending.nacked)
        if confirm is not None:
            confirm.add_done_callback(partial(self._came_late, outcome, pending))
        if in_time:
            self._durable(pending, answers.SPOOLED)

    def _not_written(self, pending: _Pending) -> None:
        self._nowhere(pending, f"the spool's disk has not answered in {DISK_SECONDS:g} s")

    def _nowhere(self, pending: _Pending, why: str) -> None:
        """The disk refuses, or hangs: what it writes in the end the drain has, but nobody waits for it any more."""
        if pending.confirm is not None and _succeeded(pending.confirm):
            self._durable(pending, answers.CONFIRMED)
            return
        refused = RefusedError(
            503, "neither RabbitMQ nor the spool can take it", retry_after=str(self._settings.retry_after)
        )
        self._refusing.refused(why)
        if self._trace is not None:
            self._trace("refuses an event", action="receiver.refused", event_id=pending.outgoing.message_id)
        pending.reply(self._counted(refused.answer, pending.began))

    def _came_late(
        self, entry: Entry, pending: _Pending, confirm: asyncio.Future[PublishError | None]
    ) -> None:
        """The confirm of an event that went to the spool: with it the entry goes, without it the drain has it."""
        error = confirm.result()
        if error is None:
            self._spool.settle(entry)
        elif isinstance(error, NackedError):
            self._set_aside(entry, pending, error)
        else:
            self._spool.release(entry)

    def _set_aside(self, entry: Entry, pending: _Pending, error: NackedError) -> None:
        """The drain is not to publish it again at once: the queues that took it would have it twice."""
        refusal = self._refused.nack(pending.outgoing, error)
        self._spool.set_aside(entry, refusal)
        self._refused.report.add(refusal)

    def _durable(self, pending: _Pending, durability: str) -> None:
        outgoing = pending.outgoing
        if self._refusing.lasts:
            self._refusing.accepted()
        self._received[name_label(outgoing.routing_key)].count += 1
        if outgoing.happened_at is not None:
            self._ages.observe(pending.received_at / 1000 - outgoing.happened_at)
        if self._trace is not None:
            self._trace(
                "has an event",
                action="receiver.accepted",
                event_id=outgoing.message_id,
                name=outgoing.routing_key,
                durability=durability,
            )
        pending.reply(self._counted(pending.answer(durability), pending.began))

    def _counted(self, answer: Answer, began: float) -> Answer:
        tally = self._answers.get(answer.label) or self._answer_tally(answer.label)
        tally.count += 1
        self._answer_seconds.observe(time.perf_counter() - began)
        self.answered += 1
        return answer

    def _answer_tally(self, label: str) -> Tally:
        made = self._answers[label] = self._metrics.tally(self._metrics.answers.labels(label))
        return made

    def _received_tally(self, name: str) -> None:
        self._received[name] = self._metrics.tally(self._metrics.received.labels(name))

    def _admit(self, request: web.BaseRequest) -> None:
        if not self.admits(request.raw_path.partition("?")[0]):
            raise RefusedError(404, "there is nothing here")
        if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST}:
            raise RefusedError(405, f"only {_ALLOWED}", allow=_ALLOWED)

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


def _reply(answered: asyncio.Future[Answer], answer: Answer) -> None:
    """Whoever waited may be cancelled: the client has gone, or the receiver ends."""
    if not answered.done():
        answered.set_result(answer)


async def _ask_for_body(request: web.BaseRequest) -> None:
    """Tell a client that waits to be told (`Expect: 100-continue`, RFC 9110 10.1.1); some wait for ever."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(_CONTINUE)


def _too_large() -> RefusedError:
    return RefusedError(413, f"the body is larger than {MAX_BODY} bytes", closes=True)


def _succeeded(confirm: asyncio.Future[PublishError | None]) -> bool:
    return confirm.done() and confirm.result() is None
