"""Spans, for OTLP and for exporters of OpenTelemetry's SDK. Only `tracing` imports this, where `tracing.enabled` is set: it is an extra."""

from __future__ import annotations

import math
import random
import sys
import time
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from bridge.telemetry.otlp_encoding import encoded_span
from bridge.telemetry.trace_context import TraceContext, new_context
from bridge.telemetry.version import own_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from opentelemetry.sdk.resources import Resource

    Attributes = Mapping[str, str | int | bool]

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_NO_STATE: Final = TraceState()
_UNSET: Final = Status(StatusCode.UNSET)
_NOTHING: Final[Attributes] = MappingProxyType({})


class Span:
    """A span that is recorded. It ends once. What is sent is made of it later, where nobody waits."""

    __slots__ = (
        "_attributes", "_ended_at", "_error", "_kind", "_links", "_more", "_name", "_parent", "_span_id", "_spans",
        "_started_at", "_trace_id",
    )  # fmt: skip

    def __init__(
        self,
        spans: Spans,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        parent: Span | TraceContext | None,
        links: Iterable[Span | TraceContext],
    ) -> None:
        """Use `Spans.start` instead."""
        self._spans = spans
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._more: Attributes = _NOTHING
        self._parent = parent
        self._links = links
        self._error = ""
        if parent is None:
            self._trace_id = random.getrandbits(128)
        elif isinstance(parent, Span):
            self._trace_id = parent._trace_id  # noqa: SLF001 -- of this class
        else:
            self._trace_id = int(parent.trace_id, 16)
        self._span_id = random.getrandbits(64)
        self._started_at = self._ended_at = time.time_ns()

    @property
    def tracestate(self) -> str:
        """That of the sender, where it has given one."""
        return "" if self._parent is None else self._parent.tracestate

    @property
    def context(self) -> TraceContext:
        """For what comes after it, in this process and in others."""
        return new_context(self._trace_id, self._span_id, self.tracestate)

    def set(self, attributes: Attributes) -> None:
        """Set these attributes."""
        self._more = {**self._more, **attributes} if self._more else attributes

    def end(self, attributes: Attributes = _NOTHING, *, error: str = "") -> None:
        """End it. Args: attributes to set; what has failed, in one line, if something has."""
        self._ended_at = time.time_ns()
        if attributes:
            self.set(attributes)
        self._error = error
        self._spans.on_end(self)

    def encoded(self) -> bytes:
        """As `otlp_encoding.encoded_span`."""
        parent = self._parent
        return encoded_span(
            trace_id=self._trace_id,
            span_id=self._span_id,
            tracestate=self.tracestate,
            parent=None if parent is None else _ids(parent)[1:],
            name=self._name,
            kind=self._kind.value + 1,  # 0 is no kind there
            started_at=self._started_at,
            ended_at=self._ended_at,
            attributes={**self._attributes, **self._more},
            links=[_ids(one) for one in self._links],
            error=self._error,
        )

    def readable(self) -> ReadableSpan:
        """As exporters of the SDK take it."""
        return ReadableSpan(
            self._name,
            _sdk(self),
            None if self._parent is None else _sdk(self._parent),
            self._spans.resource,
            {**self._attributes, **self._more},
            links=[Link(_sdk(one)) for one in self._links],
            kind=self._kind,
            status=Status(StatusCode.ERROR, self._error) if self._error else _UNSET,
            start_time=self._started_at,
            end_time=self._ended_at,
            instrumentation_scope=self._spans.scope,
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

    def __init__(self, on_end: Callable[[Span], None], *, resource: Resource, sampling: float) -> None:
        """Make the maker.

        Args:
            on_end: takes each span that has ended; it does not wait for anything.
            resource: which process this is.
            sampling: the share of the new traces that is recorded, from 0 to 1. A trace that somebody else began is
                recorded if its context says so.
        """
        self.on_end = on_end
        self.resource = resource
        self.scope = own_scope()
        self.sampling = sampling

    def next_gap(self) -> int:
        """How many new traces are not recorded before the next one that is, if each is recorded by chance.

        To count so many down costs a fraction of a random number for each.
        """
        if self.sampling <= 0:
            return sys.maxsize
        if self.sampling >= 1:
            return 0
        return int(math.log(1 - random.random()) / math.log1p(-self.sampling))  # noqa: S311 -- nobody gains from guessing it

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
        return Span(self, name, kind, attributes, parent, links)


def own_scope() -> InstrumentationScope:
    """Who makes the spans."""
    return InstrumentationScope("bridge", own_version())


def _ids(one: Span | TraceContext) -> tuple[int, int, bool]:
    """Of its trace, of itself, and whether another process, or an earlier one, has made it."""
    if isinstance(one, Span):
        return one._trace_id, one._span_id, False  # noqa: SLF001 -- of this module
    return int(one.trace_id, 16), int(one.span_id, 16), True


def _sdk(one: Span | TraceContext) -> SpanContext:
    """The context as the SDK has it."""
    trace_id, span_id, is_remote = _ids(one)
    state = TraceState.from_header([one.tracestate]) if one.tracestate else _NO_STATE
    return SpanContext(trace_id, span_id, is_remote, _SAMPLED, state)
