"""Spans in OTLP's protobuf: the same as the SDK's exporter sends, which is asked each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource

from bridge.telemetry import span_exporters
from bridge.telemetry.span_exporters import OtlpSpans, SdkSpans, otlp_exporter
from bridge.telemetry.spans import Spans
from tests.support.tracing import SENDER, UNRECORDED

if TYPE_CHECKING:
    from bridge.telemetry.spans import Span

RESOURCE = Resource.create({"service.name": "bridge-receiver", "service.version": "1", "n": 7})
ENDPOINT = "http://127.0.0.1:1/v1/traces"


class Client:
    """In place of the exporter's HTTP client."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.success = True

    def export(self, data: bytes) -> Client:
        self.sent.append(data)
        return self


def sent(ended: list[Span]) -> ExportTraceServiceRequest:
    """What our exporter sends of these."""
    exporter = OTLPSpanExporter(endpoint=ENDPOINT)
    client: Any = Client()
    exporter._client = client
    assert OtlpSpans(exporter, RESOURCE).export(ended)
    request: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(client.sent[0])
    return request


@pytest.mark.parametrize("kind", ["SERVER", "PRODUCER", "CONSUMER", "CLIENT", "INTERNAL"])
@pytest.mark.parametrize("error", ["", "answered 503", "x" * 300])
def test_a_span_is_sent_as_the_sdk_sends_it(kind: str, error: str) -> None:
    """Parents of this process and of another, links, trace state, each kind, errors, and long texts."""
    ended: list[Span] = []
    spans = Spans(ended.append, resource=RESOURCE, sampling=1.0)
    root = spans.start("POST /webhook", getattr(spans, kind), {"http.request.method": "POST"}, parent=None)
    child = spans.start("send " + "x" * 200, getattr(spans, kind), {"a": "ä" * 9000}, parent=root)
    other = spans.start("process", getattr(spans, kind), {}, parent=SENDER, links=[root, UNRECORDED])
    for one in (child, other, root):
        one.end({"status": 200, "zero": 0, "below": -3, "yes": True, "no": False, "empty": ""}, error=error)
    assert sent(ended) == encode_spans([one.readable() for one in ended])


@given(
    name=st.text(max_size=300),
    attributes=st.dictionaries(
        st.text(min_size=1), st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1)
    ),
)
def test_whatever_stands_in_a_span_is_sent_as_the_sdk_sends_it(
    name: str, attributes: dict[str, str | int | bool]
) -> None:
    """Any text, and each integer that OTLP has."""
    ended: list[Span] = []
    Spans(ended.append, resource=RESOURCE, sampling=1.0).start(
        name, Spans.INTERNAL, attributes, parent=None
    ).end()
    assert sent(ended) == encode_spans([one.readable() for one in ended])


def test_text_that_is_no_unicode_loses_no_other_span() -> None:
    """A lone surrogate becomes a question mark."""
    ended: list[Span] = []
    Spans(ended.append, resource=RESOURCE, sampling=1.0).start(
        "a", Spans.INTERNAL, {"key": "\ud800"}, parent=None
    ).end()
    (attribute,) = sent(ended).resource_spans[0].scope_spans[0].spans[0].attributes
    assert attribute.value.string_value == "?"


def test_another_version_of_the_exporter_encodes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client is not promised; where it may have changed, the documented interface is used."""
    assert isinstance(otlp_exporter(ENDPOINT, RESOURCE), OtlpSpans)
    monkeypatch.setattr(span_exporters, "KNOWN_SERIES", "1.44.")
    assert isinstance(otlp_exporter(ENDPOINT, RESOURCE), SdkSpans)
