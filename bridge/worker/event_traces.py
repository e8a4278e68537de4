"""The spans of a worker's deliveries. They stand around its parts, which know nothing of them; wired only with tracing."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge import events
from bridge.broker.trace_headers import trace_of
from bridge.suppression.list_writer import NO_ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from bridge.amqp.message_types import Delivery
    from bridge.suppression.store import Store
    from bridge.suppression.suppressing_events import ListEvent, RecordedEvent
    from bridge.telemetry.spans import Span, Spans
    from bridge.telemetry.trace_context import TraceContext
    from bridge.worker.consumer import DeliveryCounts
    from bridge.worker.delivery_result import DeliveryResult
    from bridge.worker.failures import Failure
    from bridge.worker.suppressor import Lookup
    from bridge.worker.unacknowledged import RouteFailure

_FAILED: Final = frozenset({"delayed", "dead"})
"""Outcomes of an attempt that has failed."""


@dataclass(slots=True)
class _OpenDelivery:
    """A delivery with a trace context that is not acknowledged yet."""

    event_id: str
    message_id: str
    """The provider's, by which it is looked up; empty where the body is no event."""
    context: TraceContext
    """What comes next belongs to this."""
    span: Span | None
    """None: the trace is not recorded, and its context is only passed on."""
    failure: str = ""
    """A keyword: the reason for which it is moved to another queue."""


class EventTraces:
    """The traced deliveries of one consumer: each has a span from its arrival to its acknowledgement."""

    def __init__(self, spans: Spans, *, queue: str, database: str) -> None:
        """Args: makes the spans; the queue's name; the kind of the database, for the spans."""
        self._spans = spans
        self._queue = queue
        self._database = database
        self._open: dict[int, _OpenDelivery] = {}
        """By delivery tag."""
        self._by_event: dict[str, _OpenDelivery] = {}

    def counts(self, inner: DeliveryCounts) -> DeliveryCounts:
        """The consumer's counts, which see each delivery come and go."""
        return _TracedCounts(inner, self)

    def on_requeued(self, inner: Callable[[Sequence[bytes]], None]) -> Callable[[Sequence[bytes]], None]:
        """What is called when a session ends, and RabbitMQ requeues all that is not acknowledged."""

        def requeued(properties: Sequence[bytes]) -> None:
            for tag in list(self._open):
                self.end(tag, "requeued")
            inner(properties)

        return requeued

    def route_failure(self, inner: RouteFailure) -> RouteFailure:
        """What moves a message that has failed to another queue."""

        async def route(incoming: Delivery, failure: Failure) -> str:
            if (found := self._open.get(incoming.tag)) is not None:
                found.failure = failure.reason
            return await inner(incoming, failure)

        return route

    def recorder(self, store: Store) -> TracedRecorder:
        """The list, as the suppressor uses it."""
        return TracedRecorder(store, self, self._spans, database=self._database)

    def lookup(self, inner: Lookup) -> Lookup:
        """What asks the provider."""
        return _TracedLookup(inner, self, self._spans)

    def of_events(self, event_ids: Collection[str]) -> dict[str, _OpenDelivery]:
        """Event id -> its open delivery, of those that have a trace context."""
        if not self._by_event:
            return {}
        return {one: self._by_event[one] for one in event_ids if one in self._by_event}

    def of_message(self, message_id: str) -> Span | None:
        """The span of a delivery whose event is about this message of the provider's."""
        found = (one.span for one in self._by_event.values() if one.message_id == message_id)
        return next((span for span in found if span is not None), None)

    def begin(self, delivery: Delivery) -> None:
        """A delivery has come."""
        sender = trace_of(delivery.properties)
        if sender is None:
            return
        event_id, message_id = _ids(delivery)
        span = self._start(delivery, event_id, sender) if sender.sampled else None
        context = sender if span is None else span.context
        opened = _OpenDelivery(event_id, message_id, context, span)
        self._open[delivery.tag] = self._by_event[event_id] = opened

    def _start(self, delivery: Delivery, event_id: str, sender: TraceContext) -> Span:
        return self._spans.start(
            f"process {self._queue}",
            self._spans.CONSUMER,
            {
                "messaging.system": "rabbitmq",
                "messaging.operation.type": "process",
                "messaging.destination.name": self._queue,
                "messaging.rabbitmq.destination.routing_key": delivery.routing_key,
                "messaging.message.id": event_id,
                "bridge.redelivered": delivery.redelivered,
            },
            parent=sender,
        )

    def end(self, tag: int, outcome: str) -> None:
        """A delivery is acknowledged, or goes back to its queue."""
        found = self._open.pop(tag, None)
        if found is None:
            return
        if self._by_event.get(found.event_id) is found:
            del self._by_event[found.event_id]
        if found.span is not None:
            failure = found.failure or outcome if outcome in _FAILED else ""
            found.span.end({"bridge.outcome": outcome}, error=failure)

    @property
    def any(self) -> bool:
        """Whether a delivery with a trace context is open."""
        return bool(self._open)


class _TracedCounts:
    def __init__(self, inner: DeliveryCounts, traces: EventTraces) -> None:
        self._inner = inner
        self._traces = traces

    @property
    def acknowledged(self) -> int:
        return self._inner.acknowledged

    def watch(self, prefetch: int, unacknowledged: Callable[[], int]) -> None:
        self._inner.watch(prefetch, unacknowledged)

    def taken(self, delivery: Delivery) -> None:
        self._inner.taken(delivery)
        self._traces.begin(delivery)

    def acknowledging(self, results: Sequence[DeliveryResult], seconds: Sequence[float], now: float) -> None:
        self._inner.acknowledging(results, seconds, now)
        if self._traces.any:
            for result in results:
                self._traces.end(result.delivery.tag, result.outcome)


class _TracedLookup:
    def __init__(self, inner: Lookup, traces: EventTraces, spans: Spans) -> None:
        self._inner = inner
        self._traces = traces
        self._spans = spans

    async def address(self, message_id: str) -> str:
        parent = self._traces.of_message(message_id)
        if parent is None:
            return await self._inner.address(message_id)
        attributes = {"http.request.method": "GET", "url.template": "/email/messages/{id}"}
        span = self._spans.start("look up address", self._spans.CLIENT, attributes, parent=parent)
        with span.ending():
            return await self._inner.address(message_id)


class TracedRecorder:
    """The list. One transaction records many events: it has a span of its own, which is linked to each event's trace.

    In the trace of each event there is a span for the same time, and the change that the event makes comes after that.
    """

    def __init__(self, store: Store, traces: EventTraces, spans: Spans, *, database: str) -> None:
        """Args: the list; the open deliveries; makes the spans; the kind of the database."""
        self._store = store
        self._traces = traces
        self._spans = spans
        self._database = database

    async def known_addresses(self, message_ids: Collection[str]) -> dict[str, str]:
        """As `Store.known_addresses`."""
        return await self._store.known_addresses(message_ids)

    async def record(
        self, events: Sequence[ListEvent], *, actor: str, addresses: Mapping[str, str] = NO_ADDRESSES
    ) -> list[RecordedEvent]:
        """As `Store.record`."""
        found = self._traces.of_events([event.event_id for event in events])
        traces = {event_id: opened.context for event_id, opened in found.items()}
        recorded = {event_id: one.context for event_id, one in found.items() if one.span is not None}
        with ExitStack() as ending:
            writes = self._start(recorded, len(events), ending) if recorded else {}
            traces |= {event_id: write.context for event_id, write in writes.items()}
            results = await self._store.record(
                events,
                actor=actor,
                addresses=addresses,
                traces={event_id: trace.text for event_id, trace in traces.items()},
            )
            for result in results:
                if (write := writes.get(result.event.event_id)) is not None:
                    write.set({"bridge.outcome": result.outcome})
        return results

    def _start(self, recorded: Mapping[str, TraceContext], size: int, ending: ExitStack) -> dict[str, Span]:
        """The span of each event's write, and that of the transaction."""
        spans = self._spans
        batch = spans.start(
            "record events",
            spans.INTERNAL,
            {"bridge.batch.events": size},
            parent=None,
            links=recorded.values(),
        )
        ending.enter_context(batch.ending())
        writes = {}
        for event_id, context in recorded.items():
            write = spans.start(
                "write suppression list",
                spans.CLIENT,
                {"db.system.name": self._database, "bridge.batch.events": size},
                parent=context,
                links=(batch,),
            )
            ending.enter_context(write.ending())
            writes[event_id] = write
        return writes


def _ids(delivery: Delivery) -> tuple[str, str]:
    """Event id and the provider's message id; of a body that is no event, empty."""
    try:
        event = events.parse(delivery.body)
    except (events.MalformedError, events.NotJsonError):
        return "", ""
    return event.id, event.message_id
