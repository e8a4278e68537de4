"""Spans, made with OpenTelemetry's SDK. Only `tracing` imports this, where `tracing.enabled` is set: the SDK is an extra."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from bridge.telemetry.trace_context import TraceContext, new_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opentelemetry import trace

    Attributes = Mapping[str, str | int | bool]

_ROOT: Final = Context()
"""No parent: what runs in the caller's own context does not matter."""


class Span:
    """A span that is recorded. It ends once."""

    __slots__ = ("_span", "context")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        found = span.get_span_context()
        self.context: TraceContext = new_context(
            found.trace_id, found.span_id, found.trace_state.to_header() if found.trace_state else ""
        )
        """For what comes after it, in this process and in others."""

    def set(self, attributes: Attributes) -> None:
        """Set these attributes."""
        self._span.set_attributes(attributes)

    def end(self, attributes: Attributes | None = None, *, error: str = "") -> None:
        """End it. Args: attributes to set; what has failed, in one line, if something has."""
        if attributes:
            self._span.set_attributes(attributes)
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()

    @contextmanager
    def ending(self) -> Iterator[None]:
        """End it with the context. What is raised there stands in it by its kind alone: a text may name a person."""
        failed = "interrupted"
        try:
            yield
            failed = ""
        except Exception as error:
            failed = type(error).__name__
            raise
        finally:
            self.end(error=failed)


class Spans:
    """Makes spans, and decides which traces are recorded. All its spans are: whoever does not record makes none."""

    SERVER = SpanKind.SERVER
    PRODUCER = SpanKind.PRODUCER
    CONSUMER = SpanKind.CONSUMER
    CLIENT = SpanKind.CLIENT
    INTERNAL = SpanKind.INTERNAL
    """Kinds, for those that do not import OpenTelemetry."""

    def __init__(self, tracer: trace.Tracer, *, sampling: float) -> None:
        """Args: a tracer that records every span; the share of the new traces that is recorded."""
        self._tracer = tracer
        self.sampling = sampling
        """From 0 to 1. A trace that somebody else began is recorded if its context says so."""

    @property
    def samples(self) -> bool:
        """Whether this new trace is recorded: by chance."""
        return random.random() < self.sampling  # noqa: S311 -- nobody gains from guessing it

    def start(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        *,
        parent: TraceContext | None,
        links: Iterable[TraceContext] = (),
    ) -> Span:
        """Start a span.

        Args:
            name: of few different ones: no ids.
            kind: one of the above.
            attributes: what is known of it: no addresses, tokens or texts of the provider.
            parent: what it comes after; None for the first span of a trace.
            links: what else has to do with it.
        """
        return Span(
            self._tracer.start_span(
                name,
                _ROOT if parent is None else set_span_in_context(NonRecordingSpan(_sdk(parent)), _ROOT),
                kind,
                attributes,
                [Link(_sdk(one)) for one in links],
            )
        )


def _sdk(context: TraceContext) -> SpanContext:
    """The context as the SDK has it."""
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([context.tracestate]) if context.tracestate else TraceState(),
    )
