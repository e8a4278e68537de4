"""Structured log events: JSON for machines, readable in a terminal, each with an `action`."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import orjson
import structlog

from bridge.telemetry import uncaught
from bridge.telemetry.scrubbing import Scrubber, secrets_of
from bridge.telemetry.terminal import clean, escaped, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

    from bridge.settings.sections import Logs, Settings

    Level = Literal["debug", "info", "warning", "error"]

LIBRARY: Final = "library"
"""The action of a line that is not ours; its `logger` says whose it is."""

_OF_SEVERAL_LINES: Final = frozenset({"exception", "stack"})
_NOISY_LIBRARIES = ("aio_pika", "aiormq", "aiohttp", "sqlalchemy", "alembic")


def configure_for(settings: Settings, *, level: Level | None = None) -> None:
    """As `configure`, for a process that has these settings: none of their secrets is ever written.

    What nobody has caught is an event as well, wherever it happens.

    Args:
        settings: all of them.
        level: instead of theirs.
    """
    configure(
        settings.logs if level is None else settings.logs.model_copy(update={"level": level}),
        secrets=secrets_of(settings),
    )
    uncaught.log_all(logger("process"))


def configure(settings: Logs, *, secrets: Iterable[str] = ()) -> None:
    """Set up this process's logging once, at its start. Everything goes to standard error.

    Args:
        settings: how, and how much.
        secrets: texts that no line may show.
    """
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
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, _is_a_librarys],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                Scrubber(secrets, mask_addresses=settings.mask_addresses),
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
    # What it has to say of a task or a callback that failed is all that anybody will hear of it.
    logging.getLogger("asyncio").setLevel(logging.ERROR if settings.level != "debug" else logging.DEBUG)


def for_programs(settings: Logs) -> bool:
    """Whether each line is a JSON object; else they are for people."""
    return settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())


def logger(room: str) -> FilteringBoundLogger:
    """A logger for one room. Call it with `action=...`, the word to search the logs by."""
    return cast("FilteringBoundLogger", structlog.get_logger(room, room=room))


def tracer(room: FilteringBoundLogger) -> Callable[..., Any] | None:
    """How a room writes a line for each event, at `debug`; None where that is not asked for, and must cost nothing."""
    bound = room.bind()
    return bound.debug if bound.is_enabled_for(logging.DEBUG) else None


def _is_a_librarys(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event.setdefault("action", LIBRARY)
    return event


def _json(event: EventDict, **_: Any) -> str:
    try:
        return escaped(orjson.dumps(event).decode())
    except orjson.JSONEncodeError:  # a lone surrogate, or a number beyond 64 bits
        return json.dumps(event)


def _cleaned(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Each value one line; a traceback has its own."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = clean(value) if key in _OF_SEVERAL_LINES else one_line(value)
    return event


def _renderers(settings: Logs) -> list[Processor]:
    if for_programs(settings):
        return [
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(serializer=_json),
        ]
    # Tracebacks are text by now, with what is to be hidden hidden.
    return [
        _cleaned,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]
