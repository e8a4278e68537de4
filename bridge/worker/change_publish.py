"""Publishes one change of the list, with the trace that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.amqp.publish_errors import PublishError
from bridge.broker.change_messages import change_message
from bridge.broker.publish_spans import ending, start_publish_span
from bridge.broker.trace_headers import with_trace
from bridge.telemetry.trace_context import from_text

if TYPE_CHECKING:
    from bridge.amqp.publish_errors import PublishCallback
    from bridge.amqp.publisher import Publisher
    from bridge.suppression.change import Change
    from bridge.telemetry.spans import Spans


class ChangePublish:
    """The publish of changes to one exchange."""

    def __init__(self, publisher: Publisher, *, exchange: str, spans: Spans | None = None) -> None:
        """Args: sends them; where to; makes the spans of recorded traces: without it, contexts are only passed on."""
        self._publisher = publisher
        self._exchange = exchange
        self._spans = spans

    def send(self, change: Change, callback: PublishCallback, *, mandatory: bool) -> None:
        """As `Publisher.send`, where the change must reach a queue or need not. Raises PublishError: it was not sent."""
        message = change_message(change, exchange=self._exchange, mandatory=mandatory)
        if change.trace is None or (trace := from_text(change.trace)) is None:
            self._publisher.send(message, callback)
            return
        if self._spans is None or not trace.sampled:
            self._publisher.send(with_trace(message, trace), callback)
            return
        span = start_publish_span(self._spans, message, parent=trace)
        try:
            self._publisher.send(with_trace(message, span.context), ending(span, callback))
        except PublishError as error:
            span.end(error=str(error))
            raise
