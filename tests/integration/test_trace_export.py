"""The way of spans out of a process: in the background, bounded, and no event's business."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

import bridge
from bridge.receiver.access import Access
from bridge.receiver.handler import Handler
from bridge.roles.receiver import open_parts
from bridge.settings.errors import InvalidSettingsError
from bridge.settings.sections import Tracing
from bridge.telemetry.span_export import MAX_WAITING, SpanExport
from bridge.telemetry.tracing import open_tracing
from tests.conftest import TOKEN
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.tracing import OtlpReceiver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from bridge.settings.sections import Settings
    from bridge.telemetry.metrics import Metrics

pytestmark = pytest.mark.quick

PACKAGE = Path(bridge.__file__).parent
ALL = Tracing(enabled=True, sampling=1.0)
PATIENCE_SECONDS = 90
WHOLE_BATCH = 256
"""It is sent at once."""


def spans(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("bridge_trace_spans_total", {"outcome": outcome}) or 0


def record(export: SpanExport, count: int) -> None:
    for _ in range(count):
        export.spans.start("span", export.spans.INTERNAL, {}, parent=None).end()


async def closed(export: SpanExport, seconds: float) -> None:
    """As at the end of a role: far from for ever."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.to_thread(export.close, seconds)


class Stuck(SpanExporter):
    """An OTLP receiver that does not answer, until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        self.asked.set()
        self.let_go.wait()
        return SpanExportResult.SUCCESS


async def test_more_than_can_wait_is_dropped_and_counted(metrics: Metrics) -> None:
    """While the OTLP receiver hangs nobody waits, and memory has a limit; afterwards all goes on."""
    stuck = Stuck()
    export = SpanExport(ALL, role="receiver", metrics=metrics, exporter=stuck)
    with capture_logs() as logged:
        record(export, MAX_WAITING + 10)
        assert (spans(metrics, "dropped"), spans(metrics, "exported")) == (10, 0)
        stuck.let_go.set()
        await eventually(lambda: spans(metrics, "exported") == MAX_WAITING)
        record(export, 1)
        await closed(export, PATIENCE_SECONDS)
    assert spans(metrics, "exported") == MAX_WAITING + 1
    assert [line["action"] for line in logged] == ["tracing.dropped", "tracing.dropped", "tracing.sent_again"]
    assert sum(line["spans"] for line in logged[:2]) == 10
    assert "does not keep up" in logged[0]["reason"]


async def test_the_end_does_not_wait_for_an_otlp_receiver_that_hangs(metrics: Metrics) -> None:
    """What it has not taken in time is dropped, counted and logged."""
    stuck = Stuck()
    export = SpanExport(ALL, role="receiver", metrics=metrics, exporter=stuck)
    record(export, WHOLE_BATCH + 3)
    await eventually(stuck.asked.is_set)
    with capture_logs() as logged:
        await closed(export, 0.01)
    assert spans(metrics, "dropped") == WHOLE_BATCH + 3
    assert [(line["action"], line["spans"]) for line in logged] == [("tracing.dropped", WHOLE_BATCH + 3)]
    stuck.let_go.set()


@pytest.mark.parametrize("how", ["away", "refuses"])
async def test_an_otlp_receiver_that_is_away_or_refuses_costs_spans_alone(
    metrics: Metrics, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says so, with the reason; the library's own lines are left out."""
    # One that is away is asked again until that time is over; one that refuses is given the time to say so.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2" if how == "away" else "10")
    url = f"http://127.0.0.1:{free_port()}"
    async with OtlpReceiver.serving() as collector:
        if how == "refuses":
            url = f"{collector.url}/no-such-path"
        export = SpanExport(ALL.model_copy(update={"endpoint": url}), role="receiver", metrics=metrics)
        with capture_logs() as logged:
            record(export, 3)
            await closed(export, PATIENCE_SECONDS)
    assert spans(metrics, "dropped") == 3
    assert [(line["action"], line["spans"]) for line in logged] == [("tracing.dropped", 3)]
    assert "404" in logged[0]["reason"] if how == "refuses" else "Failed to export" in logged[0]["reason"]
    assert logging.getLogger("opentelemetry").propagate, "as before"


async def test_where_nothing_is_traced_nothing_is_there(settings: Settings, metrics: Metrics) -> None:
    """No other handler, and no other object on the way of an event."""
    async with (
        open_tracing(settings.tracing, role="receiver", metrics=metrics, drain_timeout=1) as made,
        open_parts(settings, Access([TOKEN]), metrics, made) as parts,
    ):
        assert made is None
        assert type(parts.handler) is Handler
    assert b"bridge_trace_spans" not in metrics.exposition()


def test_opentelemetry_is_loaded_by_three_modules_alone() -> None:
    """And these at the start of a process that traces: elsewhere the extra need not be installed."""
    loads = re.compile(r"(?m)^(from|import) (opentelemetry|bridge\.telemetry\.span)")
    found = {path.stem for path in PACKAGE.rglob("*.py") if loads.search(path.read_text("utf-8"))}
    assert found == {"spans", "span_export", "span_exporters"}


async def test_tracing_without_the_extra_is_one_clear_error(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to install."""
    for ours in ("span_export", "span_exporters"):
        monkeypatch.delitem(sys.modules, f"bridge.telemetry.{ours}")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(InvalidSettingsError, match=r"tracing.enabled: .*pip install 'bridge\[tracing\]'"):
        async with open_tracing(ALL, role="receiver", metrics=metrics, drain_timeout=1):
            pass
