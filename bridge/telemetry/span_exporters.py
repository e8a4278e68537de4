"""Where spans are sent: to an OTLP receiver, or to an exporter of OpenTelemetry's SDK.

Only `span_export` imports this, where `tracing.enabled` is set: OpenTelemetry is an extra.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext

from bridge.telemetry.otlp_encoding import encoded_request
from bridge.telemetry.spans import own_scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.resources import Resource

    from bridge.telemetry.spans import Span

_NOBODY: Final = SpanContext(1, 1, is_remote=False)
KNOWN_SERIES: Final = "1.45."
"""Of opentelemetry-exporter-otlp-proto-http, on which the contract test has run: beyond its documented interface its client is used."""


class Exporter(Protocol):
    """Takes spans away."""

    def export(self, spans: Sequence[Span]) -> bool:
        """Send them; it blocks, and may raise anything. Returns whether they were taken."""

    def shutdown(self) -> None:
        """End the pause between two attempts."""


class SdkSpans:
    """Sends spans with an exporter of the SDK."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.shutdown = exporter.shutdown

    def export(self, spans: Sequence[Span]) -> bool:
        return self._exporter.export([span.readable() for span in spans]) is SpanExportResult.SUCCESS


class OtlpSpans:
    """Sends spans with the HTTP client of the SDK's exporter, but encodes them itself.

    The SDK's encoder takes as long for the spans of a request as the receiver for the whole request: it copies each one three times.
    """

    def __init__(self, exporter: OTLPSpanExporter, resource: Resource) -> None:
        """Args: whose client it takes; which process this is."""
        self.shutdown = exporter.shutdown
        self._client: Any = exporter._client  # noqa: SLF001 -- only for versions that the contract test has run on
        self._resource, self._scope = _encoded_origin(resource)

    def export(self, spans: Sequence[Span]) -> bool:
        request = encoded_request(self._resource, self._scope, (span.encoded() for span in spans))
        return bool(self._client.export(request).success)


def otlp_exporter(endpoint: str | None, resource: Resource) -> Exporter:
    """Args: the URL; None: as OpenTelemetry's environment variables say. Which process this is."""
    exporter = OTLPSpanExporter(endpoint=endpoint)
    if metadata.version("opentelemetry-exporter-otlp-proto-http").startswith(KNOWN_SERIES):
        return OtlpSpans(exporter, resource)
    return SdkSpans(exporter)


def _encoded_origin(resource: Resource) -> tuple[bytes, bytes]:
    """Resource and scope, as the library encodes them."""
    span = ReadableSpan("", _NOBODY, resource=resource, instrumentation_scope=own_scope())
    found = encode_spans([span]).resource_spans[0]
    return found.resource.SerializeToString(), found.scope_spans[0].scope.SerializeToString()
