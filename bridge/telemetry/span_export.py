"""Sends spans to an OTLP receiver, from a thread of its own: events never wait for it, and what it cannot send is dropped.

Only `tracing` imports this, where `tracing.enabled` is set: OpenTelemetry is an extra.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    Resource,
)

from bridge.telemetry import logs
from bridge.telemetry.span_exporters import SdkSpans, otlp_exporter
from bridge.telemetry.spans import Spans
from bridge.telemetry.version import own_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace.export import SpanExporter

    from bridge.settings.sections import Tracing
    from bridge.telemetry.metrics import Metrics
    from bridge.telemetry.span_exporters import Exporter
    from bridge.telemetry.spans import Span

log = logs.logger("telemetry")

MAX_WAITING: Final = 2048
"""Spans that wait for the OTLP receiver: about 4 MB. Further ones are dropped."""
_BATCH: Final = 256
"""Spans in one request. To encode more at once would hold up the events for longer than 5 ms, by Python's lock."""
_PAUSE_SECONDS: Final = 5.0
"""After which what waits is sent, though it is no whole batch. Each request costs as much CPU as 20 events."""
_ABANDON_SECONDS: Final = 0.2
"""For an exporter that was told to stop. One that hangs is left behind."""
_LOG_SECONDS: Final = 60.0
"""The least time between two lines about dropped spans."""
_LIBRARY: Final = "opentelemetry"


class SpanExport:
    """The way of the spans out of this process."""

    def __init__(
        self, settings: Tracing, *, role: str, metrics: Metrics, exporter: SpanExporter | None = None
    ) -> None:
        """Start the thread that sends.

        Args:
            settings: where to send, and what share of the traces.
            role: of this process, part of the service's name.
            metrics: count what was sent and dropped.
            exporter: instead of one for OTLP.
        """
        self._said = _SaidByLibrary()
        self._drops = _Drops(metrics, self._said)
        resource = Resource.create(
            {
                SERVICE_NAME: f"{settings.service_name}-{role}",
                SERVICE_VERSION: own_version(),
                SERVICE_INSTANCE_ID: uuid.uuid4().hex,
            }
        )
        endpoint = None if settings.endpoint is None else _traces(settings.endpoint)
        way = otlp_exporter(endpoint, resource) if exporter is None else SdkSpans(exporter)
        self._sender = _Sender(way, self._drops, metrics)
        self.spans = Spans(self._sender.put, resource=resource, sampling=settings.sampling)
        """Makes the spans that are sent."""

    def close(self, seconds: float) -> None:
        """Send what waits, at most for so long, and drop the rest. It blocks."""
        self._sender.close(seconds)
        self._said.remove()


class _Sender:
    """A queue with a limit, and the thread that sends what is in it."""

    def __init__(self, exporter: Exporter, drops: _Drops, metrics: Metrics) -> None:
        self._exporter = exporter
        self._drops = drops
        self._exported = metrics.trace_spans.labels("exported")
        self._queue: deque[Span] = deque()
        self._wake_up = threading.Event()
        self._ending = self._abandoned = False
        self._taken = 0
        """How many spans were put into the queue. Only the event loop writes it."""
        self._done = 0
        """How many of them were sent or dropped. Only the thread writes it."""
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """A span has ended. It does not wait."""
        if self._taken - self._done >= MAX_WAITING:
            self._drops.dropped(1, "the OTLP receiver does not keep up")
            return
        self._taken += 1
        self._queue.append(span)
        if len(self._queue) == _BATCH:
            self._wake_up.set()

    def close(self, seconds: float) -> None:
        """Send what waits, at most for so long, and drop the rest. It blocks."""
        self._ending = True
        self._wake_up.set()
        self._thread.join(seconds)
        self._exporter.shutdown()  # it ends the pause between two attempts
        self._thread.join(_ABANDON_SECONDS)
        self._abandoned = True
        if unsent := self._taken - self._done:
            self._drops.dropped(unsent, "the process ends, and the OTLP receiver has not answered in time")
        self._drops.log_now()

    def _run(self) -> None:
        while not self._ending:
            self._wake_up.wait(_PAUSE_SECONDS)
            self._wake_up.clear()
            while self._queue and not self._abandoned:
                self._send([self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))])

    def _send(self, spans: Sequence[Span]) -> None:
        try:
            taken = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 -- whatever a library raises there, later spans are sent all the same
            self._drops.dropped(len(spans), repr(error))
        else:
            if self._abandoned:
                return  # they were counted as dropped
            if taken:
                self._exported.inc(len(spans))
                self._drops.sent()
            else:
                self._drops.dropped(len(spans), "")
        self._done += len(spans)


class _Drops:
    """Counts dropped spans, and logs them, seldom. The loop and the thread that sends call it."""

    def __init__(self, metrics: Metrics, said: _SaidByLibrary) -> None:
        self._dropped = metrics.trace_spans.labels("dropped")
        self._said = said
        self._unlogged = 0
        self._reason = ""
        self._next_log = float("-inf")
        self._failing = False

    def dropped(self, count: int, reason: str) -> None:
        """Args: how many; why, or nothing if the library has said it."""
        self._dropped.inc(count)
        self._unlogged += count
        self._reason = reason or self._said.last
        if time.monotonic() >= self._next_log:
            self.log_now()

    def sent(self) -> None:
        """A batch was sent."""
        if self._failing:
            self.log_now()
            self._failing = False
            self._next_log = float("-inf")
            log.info("spans reach the OTLP receiver again", action="tracing.sent_again")

    def log_now(self) -> None:
        """Log what was not logged yet."""
        if not self._unlogged:
            return
        count, self._unlogged = self._unlogged, 0
        self._next_log = time.monotonic() + _LOG_SECONDS
        self._failing = True
        log.warning(
            "spans were dropped: their traces are incomplete; events are not concerned. Is tracing.endpoint an OTLP receiver "
            "(HTTP, protobuf) that answers?",
            action="tracing.dropped",
            spans=count,
            reason=self._reason,
        )


class _SaidByLibrary(logging.Handler):
    """Keeps the last lines that OpenTelemetry logs, in place of the log: it writes one for each attempt."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last: deque[str] = deque(maxlen=2)
        """An error, and before it the attempt that says what the error is of."""
        self._library = logging.getLogger(_LIBRARY)
        self._library.addHandler(self)
        self._library.propagate = False

    @property
    def last(self) -> str:
        """In one line."""
        return "; ".join(self._last)

    def emit(self, record: logging.LogRecord) -> None:
        self._last.append(record.getMessage())

    def remove(self) -> None:
        """Let the library log as before, once nobody in this process keeps its lines."""
        self._library.removeHandler(self)
        self._library.propagate = not any(isinstance(one, _SaidByLibrary) for one in self._library.handlers)


def _traces(endpoint: str) -> str:
    """The URL for traces at this endpoint, as the OTLP exporters make it: without a path it is the base of all signals."""
    scheme, _, rest = endpoint.partition("://")
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}/{path or 'v1/traces'}"
