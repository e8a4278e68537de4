"""Makes a message durable before it is answered: confirmed by RabbitMQ in time, or else fsynced in the spool."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.publish_errors import ChannelClosedError, NackedError, PublishError
from bridge.receiver.answers import CONFIRMED, SPOOLED
from bridge.receiver.deadline_queue import DeadlineQueue
from bridge.spool.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.amqp.message_types import Message
    from bridge.amqp.publisher import Publisher
    from bridge.spool.entries import SpoolEntry
    from bridge.spool.known_refusals import KnownRefusals
    from bridge.spool.spool import Spool

    OnDone = Callable[[str | "NotDurableError"], None]

DISK_TIMEOUT_SECONDS: Final = 1.0
"""Timeout of an fsync: far above any disk that works, below the timeouts of clients."""


class NotDurableError(Exception):
    """Neither RabbitMQ nor the spool has the message. If a slow disk writes it later, the drain publishes it."""


class _Pending:
    """A message that is being made durable."""

    __slots__ = ("late_confirm", "message", "nack", "on_done", "received_at")

    def __init__(self, message: Message, received_at: int, on_done: OnDone) -> None:
        self.message = message
        self.received_at = received_at
        self.on_done = on_done
        self.late_confirm: asyncio.Future[PublishError | None] | None = None
        """The outcome of the publish, once `confirm_wait` is over."""
        self.nack: NackedError | None = None
        """RabbitMQ's nack. Other queues than the one that refused may have the message all the same."""


class Durability:
    """Publishes a message, and waits for the confirm, at most `confirm_wait`. Otherwise it writes to the spool."""

    def __init__(
        self, publisher: Publisher, *, spool: Spool, known_refusals: KnownRefusals, confirm_wait: float
    ) -> None:
        """Create it for the running event loop.

        Args:
            publisher: of live traffic.
            spool: of this process.
            known_refusals: what RabbitMQ is known to refuse: that is not published, but goes to the spool.
            confirm_wait: seconds, `receiver.confirm_wait`.
        """
        self._publisher = publisher
        self._spool = spool
        self._known_refusals = known_refusals
        self._loop = asyncio.get_running_loop()
        self._unconfirmed = DeadlineQueue[_Pending](
            self._loop, seconds=confirm_wait, on_timeout=self._on_confirm_timeout
        )
        self._unwritten = DeadlineQueue[_Pending](
            self._loop, seconds=DISK_TIMEOUT_SECONDS, on_timeout=self._on_spool_timeout
        )

    def make_durable(self, message: Message, received_at: int, on_done: OnDone) -> None:
        """Make a message durable.

        Args:
            message: persistent; its body is the provider's bytes.
            received_at: Unix milliseconds.
            on_done: called once, before this returns or later: with `confirmed`, `spooled` or the error. It must not raise.
        """
        pending = _Pending(message, received_at, on_done)
        known = self._known_refusals
        refused = known.any and known.refusal_of(message) is not None
        # One that is not confirmed would hold up all others, and come to the other queues once more than it must.
        held = bool(known.unconfirmed) and known.unconfirmed.holds(message.routing_key)
        if not (refused or held) and self._publisher.usable:
            try:
                self._publisher.send(message, partial(self._on_publish_outcome, pending))
            except PublishError:
                pass  # the answer says `spooled`; the link has logged the reason
            else:
                self._unconfirmed.add(pending)
                return
        self._to_spool(pending)

    def _on_publish_outcome(self, pending: _Pending, error: PublishError | None) -> None:
        """The outcome of a publish."""
        if isinstance(error, ChannelClosedError):
            self._known_refusals.learn_from(error)
        if pending.late_confirm is not None:
            if not pending.late_confirm.done():
                pending.late_confirm.set_result(error)
        elif not self._unconfirmed.remove(pending):
            return
        elif error is None:
            if self._known_refusals.nacked:
                self._known_refusals.note_live_confirm(pending.message.routing_key)
            pending.on_done(CONFIRMED)
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
            trace=pending.message.trace,
        )

    def _on_spool_outcome(self, pending: _Pending, outcome: SpoolEntry | SpoolError) -> None:
        """The outcome of a spool write. The request may have been answered already."""
        in_time = self._unwritten.remove(pending)
        confirm = pending.late_confirm
        if isinstance(outcome, SpoolError):
            if in_time:
                self._fail(pending, str(outcome))
            return
        if pending.nack is not None:
            self._set_aside(outcome, pending, pending.nack)
        if confirm is not None:
            confirm.add_done_callback(partial(self._on_late_confirm, outcome, pending))
        if in_time:
            pending.on_done(SPOOLED)

    def _on_spool_timeout(self, pending: _Pending) -> None:
        self._fail(pending, f"the spool's disk has not answered in {DISK_TIMEOUT_SECONDS:g} s")

    def _fail(self, pending: _Pending, why: str) -> None:
        """The disk fails or hangs, and only a confirm that has arrived meanwhile can still make the message durable."""
        confirm = pending.late_confirm
        confirmed = confirm is not None and confirm.done() and confirm.result() is None
        pending.on_done(CONFIRMED if confirmed else NotDurableError(why))

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
        """Set a nacked event aside. If it were published again at once, the queues that took it would get it twice."""
        refusal = self._known_refusals.note_nack(pending.message, error)
        self._spool.set_aside(entry, refusal)
        self._known_refusals.report.add(refusal)
