"""Whether this process traces, decided once at its start: without `tracing.enabled` OpenTelemetry is not even imported."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.settings.errors import InvalidSettingsError
from bridge.telemetry import logs
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.settings.sections import Tracing
    from bridge.telemetry.metrics import Metrics
    from bridge.telemetry.spans import Spans

log = logs.logger("telemetry")

_FLUSH_SECONDS: Final = 2.0
"""How long the end of a process may wait for the OTLP receiver."""
_ABANDON_SECONDS: Final = 0.5
"""On top of it: an exporter that hangs is left behind."""


@asynccontextmanager
async def open_tracing(
    settings: Tracing, *, role: str, metrics: Metrics, drain_timeout: float
) -> AsyncIterator[Spans | None]:
    """What makes the spans of this process, until the context ends; None where it does not trace.

    Args:
        settings: `[tracing]`.
        role: `receiver` or `worker`.
        metrics: count the spans.
        drain_timeout: seconds that the role has to finish; the last spans get no more than this either.

    Raises:
        InvalidSettingsError: it is to trace, and the extra `tracing` is not installed.
    """
    if not settings.enabled:
        yield None
        return
    try:
        from bridge.telemetry.span_export import SpanExport  # noqa: PLC0415 -- OpenTelemetry is an extra
    except ModuleNotFoundError as missing:
        raise InvalidSettingsError(
            f"tracing.enabled: it needs OpenTelemetry, which is not installed ({missing}): pip install 'bridge[tracing]', "
            "or set it to false (BRIDGE_TRACING__ENABLED)"
        ) from None
    export = SpanExport(settings, role=role, metrics=metrics)
    log.info("traces are recorded", action="tracing.started", sampling=settings.sampling)
    seconds = min(_FLUSH_SECONDS, drain_timeout)
    try:
        yield export.spans
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + _ABANDON_SECONDS):
                await run_abandonable(partial(export.close, seconds))
