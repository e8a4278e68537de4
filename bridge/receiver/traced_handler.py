"""The handler of a receiver that traces: it begins a trace, or goes on with the sender's. It is wired only with tracing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from multidict import istr

from bridge.broker.publish_spans import start_publish_span
from bridge.broker.trace_headers import with_trace
from bridge.receiver.durability import NotDurableError
from bridge.receiver.handler import WEBHOOK_PATH, Handler
from bridge.telemetry import trace_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import CIMultiDictProxy

    from bridge.amqp.message_types import Message
    from bridge.receiver.answers import WebhookAnswer
    from bridge.receiver.handler import MakesDurable, OnDone, SendAnswer
    from bridge.telemetry.spans import Span, Spans
    from bridge.telemetry.trace_context import TraceContext

_TRACEPARENT: Final = istr(trace_context.TRACEPARENT)
_TRACESTATE: Final = istr(trace_context.TRACESTATE)
_NAME: Final = f"POST {WEBHOOK_PATH.rstrip('/')}"
_REQUEST: Final = {"http.request.method": "POST"}
_SERVER_FAILURE: Final = 500


class TracedHandler(Handler):
    """As `Handler`, with two spans for a request whose trace is recorded: the request, and the way to a durable place.

    Most traces are not recorded. What such a request costs more is a look at one header, and a count. Its message has
    no trace context, so whoever consumes it may begin a trace. But a context that the sender has given is passed on.
    """

    def __init__(self, spans: Spans, **options: Any) -> None:
        """Args: makes the spans; everything else as for `Handler`."""
        super().__init__(**options)
        self._spans = spans
        self._untraced = self._durability
        self._take_untraced = super().take
        self._until_recorded = spans.next_gap()
        """How many new traces are not recorded before the next one that is."""

    def take(
        self, body: bytes, send_answer: SendAnswer, began: float, headers: CIMultiDictProxy[str]
    ) -> None:
        sender = _of_sender(headers) if _TRACEPARENT in headers else None
        if sender is None:
            if self._until_recorded:
                self._until_recorded -= 1
                self._take_untraced(body, send_answer, began, headers)
                return
            self._until_recorded = self._spans.next_gap()
        elif not sender.sampled:
            self._take_with(_Passing(sender, self._untraced), body, send_answer, began, headers)
            return
        request = self._spans.start(_NAME, self._spans.SERVER, _REQUEST, parent=sender)
        self._take_with(
            _Recording(self._spans, request, self._untraced, self._trace),
            body,
            partial(_answered, request, send_answer),
            began,
            headers,
        )

    def _take_with(
        self,
        durability: MakesDurable,
        body: bytes,
        send_answer: SendAnswer,
        began: float,
        headers: CIMultiDictProxy[str],
    ) -> None:
        """Handle this one request with another durability: nothing is awaited meanwhile."""
        self._durability = durability
        try:
            self._take_untraced(body, send_answer, began, headers)
        finally:
            self._durability = self._untraced


class _Passing:
    """Passes the sender's context on: the sender does not record this trace, and so nobody does."""

    def __init__(self, trace: TraceContext, durability: MakesDurable) -> None:
        self._trace = trace
        self._durability = durability

    def make_durable(self, message: Message, received_at: int, on_done: OnDone) -> None:
        self._durability.make_durable(with_trace(message, self._trace), received_at, on_done)


class _Recording:
    """Makes the span of the publish, whose context the message carries."""

    def __init__(
        self,
        spans: Spans,
        request: Span,
        durability: MakesDurable,
        log_at_debug: Callable[..., object] | None,
    ) -> None:
        self._spans = spans
        self._request = request
        self._durability = durability
        self._log = log_at_debug

    def make_durable(self, message: Message, received_at: int, on_done: OnDone) -> None:
        sending = start_publish_span(self._spans, message, parent=self._request)
        if self._log is not None:
            self._log(
                "event belongs to a recorded trace",
                action="receiver.traced",
                event_id=message.message_id,
                trace_id=sending.context.trace_id,
            )
        self._durability.make_durable(
            with_trace(message, sending.context), received_at, partial(_durable, sending, on_done)
        )


def _durable(sending: Span, on_done: OnDone, outcome: str | NotDurableError) -> None:
    if isinstance(outcome, NotDurableError):
        sending.end(error=str(outcome))
    else:
        sending.end({"bridge.durability": outcome})
    on_done(outcome)


def _answered(request: Span, send_answer: SendAnswer, answer: WebhookAnswer) -> None:
    send_answer(answer)
    failed = f"answered {answer.status}" if answer.status >= _SERVER_FAILURE else ""
    request.end({"http.response.status_code": answer.status}, error=failed)


def _of_sender(headers: CIMultiDictProxy[str]) -> TraceContext | None:
    """The sender's context; None if its header is invalid, which counts as none."""
    return trace_context.from_headers(headers.getall(_TRACEPARENT), headers.getall(_TRACESTATE, ()))
