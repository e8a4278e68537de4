"""Spans, as OpenTelemetry's SDK exports them. Only `tracing` imports this, where `tracing.enabled` is set: it is an extra."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from bridge.telemetry.trace_context import TraceContext, new_context
from bridge.telemetry.version import own_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from opentelemetry.sdk.resources import Resource

    Attributes = Mapping[str, str | int | bool]

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_NO_STATE: Final = TraceState()
_UNSET: Final = Status(StatusCode.UNSET)


class Span:
    """A span that is recorded. It ends once."""

    __slots__ = ("_attributes", "_kind", "_links", "_name", "_parent", "_sdk", "_spans", "_started_at")

    def __init__(
        self,
        spans: Spans,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        parent: SpanContext | None,
        links: tuple[Link, ...],
    ) -> None:
        """Use `Spans.start` instead."""
        self._spans = spans
        self._name = name
        self._kind = kind
        self._attributes = dict(attributes)
        self._parent = parent
        self._links = links
        trace_id, state = (
            (random.getrandbits(128), _NO_STATE) if parent is None else (parent.trace_id, parent.trace_state)
        )
        self._sdk = SpanContext(trace_id, random.getrandbits(64), False, _SAMPLED, state)  # noqa: FBT003 -- it is not remote
        self._started_at = time.time_ns()

    @property
    def sdk(self) -> SpanContext:
        """Its context, as the SDK has it."""
        return self._sdk

    @property
    def context(self) -> TraceContext:
        """For what comes after it, in this process and in others."""
        state = self._sdk.trace_state
        return new_context(self._sdk.trace_id, self._sdk.span_id, state.to_header() if state else "")

    def set(self, attributes: Attributes) -> None:
        """Set these attributes."""
        self._attributes.update(attributes)

    def end(self, attributes: Attributes | None = None, *, error: str = "") -> None:
        """End it. Args: attributes to set; what has failed, in one line, if something has."""
        if attributes:
            self._attributes.update(attributes)
        self._spans.on_end(
            ReadableSpan(
                self._name,
                self._sdk,
                self._parent,
                self._spans.resource,
                self._attributes,
                links=self._links,
                kind=self._kind,
                status=Status(StatusCode.ERROR, error) if error else _UNSET,
                start_time=self._started_at,
                end_time=time.time_ns(),
                instrumentation_scope=self._spans.scope,
            )
        )

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
    """Makes spans, and decides which traces are recorded. All its spans are: whoever does not record makes none.

    The SDK's own tracer takes ten times as long for a span as a receiver can spare, and does nothing that is needed here: the
    parents are known, and every span is recorded.
    """

    SERVER = SpanKind.SERVER
    PRODUCER = SpanKind.PRODUCER
    CONSUMER = SpanKind.CONSUMER
    CLIENT = SpanKind.CLIENT
    INTERNAL = SpanKind.INTERNAL
    """Kinds, for those that do not import OpenTelemetry."""

    def __init__(
        self, on_end: Callable[[ReadableSpan], None], *, resource: Resource, sampling: float
    ) -> None:
        """Make the maker.

        Args:
            on_end: takes each span that has ended; it does not wait for anything.
            resource: which process this is.
            sampling: the share of the new traces that is recorded, from 0 to 1. A trace that somebody else began is
                recorded if its context says so.
        """
        self.on_end = on_end
        self.resource = resource
        self.scope = InstrumentationScope("bridge", own_version())
        self.sampling = sampling

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
        parent: Span | TraceContext | None,
        links: Iterable[Span | TraceContext] = (),
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
            self,
            name,
            kind,
            attributes,
            None if parent is None else _sdk(parent),
            tuple(Link(_sdk(one)) for one in links),
        )


def _sdk(context: Span | TraceContext) -> SpanContext:
    """The context as the SDK has it."""
    if isinstance(context, Span):
        return context.sdk
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=_SAMPLED,
        trace_state=TraceState.from_header([context.tracestate]) if context.tracestate else _NO_STATE,
    )
