"""The span of a publish: from the moment a message is sent to RabbitMQ's confirm."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from bridge.amqp.message_types import Message
    from bridge.amqp.publish_errors import PublishCallback, PublishError
    from bridge.telemetry.spans import Span, Spans
    from bridge.telemetry.trace_context import TraceContext


def start_publish_span(
    spans: Spans, message: Message, *, parent: Span | TraceContext, operation: str = "send"
) -> Span:
    """The span of a message that is about to be published.

    Args:
        spans: makes it.
        message: its names follow the semantic conventions of OpenTelemetry for messaging.
        parent: what the publish comes after.
        operation: the first word of the span's name.
    """
    return spans.start(
        f"{operation} {message.exchange}",
        spans.PRODUCER,
        {
            "messaging.system": "rabbitmq",
            "messaging.operation.type": "send",
            "messaging.destination.name": message.exchange,
            "messaging.rabbitmq.destination.routing_key": message.routing_key,
            "messaging.message.id": message.message_id,
        },
        parent=parent,
    )


def end_at_confirm(span: Span, confirm: asyncio.Future[None]) -> None:
    """End the span at the confirm, or with the error that comes in its place."""
    confirm.add_done_callback(partial(_end, span))


def ending(span: Span, callback: PublishCallback) -> PublishCallback:
    """The callback of a publish that first ends this span, as `end_at_confirm` does."""

    def end(error: PublishError | None) -> None:
        span.end(error="" if error is None else str(error))
        callback(error)

    return end


def _end(span: Span, confirm: asyncio.Future[None]) -> None:
    if confirm.cancelled():
        span.end(error="nobody waits for the confirm any more")
    else:
        error = confirm.exception()
        span.end(error="" if error is None else str(error))
