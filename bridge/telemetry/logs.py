"""Structured log events: JSON for machines, readable in a terminal, each with an `action`."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, cast

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

    from bridge.settings import Logs

_NOISY_LIBRARIES = ("aio_pika", "aiormq", "aiohttp", "asyncio", "sqlalchemy", "alembic")


def configure(settings: Logs) -> None:
    """Set up this process's logging once, at its start. Everything goes to standard error."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(settings),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for library in _NOISY_LIBRARIES:
        # A lost connection is our event to report, once; the libraries' own lines repeat it with tracebacks.
        logging.getLogger(library).setLevel(logging.CRITICAL if settings.level != "debug" else logging.DEBUG)


def logger(room: str) -> FilteringBoundLogger:
    """A logger for one room. Call it with `action=...`, the word to search the logs by."""
    return cast("FilteringBoundLogger", structlog.get_logger(room, room=room))


def masked(address: str) -> str:
    """`jane@example.org` -> `j***@example.org`; of what is no address nothing is shown."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}***{at}{domain}" if at else "***"


def _renderers(settings: Logs) -> list[Processor]:
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    if as_json:
        return [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
