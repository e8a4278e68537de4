"""Traces of the parts under test, in memory; and an OTLP receiver."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bridge.telemetry.spans import Spans
from bridge.telemetry.trace_context import TraceContext, new_context
from tests.support.eventually import eventually
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span
    from opentelemetry.sdk.trace import ReadableSpan

SENDER = TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "congo=t61rcWkgMzE")
"""Of a sender that records its trace: the example of the specification."""
UNRECORDED = TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
"""Of one that does not."""


class Recorded:
    """Makes spans, and keeps those that have ended."""

    def __init__(self, *, sampling: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        self.spans = Spans(
            lambda span: self._keep(span.readable()), resource=Resource.get_empty(), sampling=sampling
        )

    def _keep(self, span: ReadableSpan) -> None:
        self._exporter.export([span])

    @property
    def names(self) -> list[str]:
        """Of all spans, as they have ended."""
        return [span.name for span in self._exporter.get_finished_spans()]

    def named(self, name: str) -> list[ReadableSpan]:
        """All spans of this name, as they have ended."""
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    async def one(self, name: str) -> ReadableSpan:
        """The only span of this name, once it has ended."""
        await eventually(lambda: name in self.names)
        (found,) = self.named(name)
        return found


def context_of(span: ReadableSpan) -> TraceContext:
    """As a header has it."""
    assert span.context is not None
    return new_context(span.context.trace_id, span.context.span_id, span.context.trace_state.to_header())


def parent_of(span: ReadableSpan) -> TraceContext | None:
    """The context of the span that it comes after."""
    if span.parent is None:
        return None
    return new_context(span.parent.trace_id, span.parent.span_id, span.parent.trace_state.to_header())


class OtlpReceiver:
    """Takes spans over HTTP, as a collector does."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = {}
        """By the name of the service."""
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator[OtlpReceiver]:
        made = cls()
        application = web.Application()
        application.router.add_post("/v1/traces", made._take)
        runner = web.AppRunner(application)
        await runner.setup()
        port = free_port()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            made.url = f"http://127.0.0.1:{port}"
            yield made
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for of_resource in sent.resource_spans:
            attributes = {one.key: one.value.string_value for one in of_resource.resource.attributes}
            kept = self.spans.setdefault(attributes["service.name"], [])
            for of_scope in of_resource.scope_spans:
                kept += of_scope.spans
        return web.Response(content_type="application/x-protobuf")
