"""Structured logs: JSON for programs, coloured lines for a terminal, each with an `action`."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import orjson
import structlog

from bridge.telemetry import uncaught
from bridge.telemetry.many_lines import ManyLinesHandler
from bridge.telemetry.scrubbing import Scrubber, secrets_of
from bridge.telemetry.terminal import clean, escaped, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

    from bridge.settings.sections import Logs, Settings

    Level = Literal["debug", "info", "warning", "error"]

LIBRARY: Final = "library"
"""The action of a line of a library. The field `logger` names the library, or the package of the bridge."""

_OF_SEVERAL_LINES: Final = frozenset({"exception", "stack"})
_NOISY_LIBRARIES = ("aio_pika", "aiormq", "aiohttp", "sqlalchemy", "alembic")


def configure_for(settings: Settings, *, level: Level | None = None) -> None:
    """As `configure`, with all secrets of these settings hidden. Uncaught exceptions are logged, too.

    Args:
        settings: all settings.
        level: overrides the level of the settings.
    """
    configure(
        settings.logs if level is None else settings.logs.model_copy(update={"level": level}),
        secrets=secrets_of(settings),
    )
    uncaught.log_all(logger("telemetry"))


def configure(settings: Logs, *, secrets: Iterable[str] = ()) -> None:
    """Set up the logging of this process, once, at its start. Everything goes to standard error.

    Args:
        settings: format and level.
        secrets: texts that are hidden in every line.
    """
    time = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        time,
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    scrubber = Scrubber(secrets, mask_addresses=settings.mask_addresses)
    handler = (
        ManyLinesHandler(sys.stderr, time=time, scrubber=scrubber, line=_json)
        if writes_json(settings)
        else logging.StreamHandler(sys.stderr)
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _mark_library_line],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                scrubber,
                *_renderers(settings),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for library in _NOISY_LIBRARIES:
        # We log a lost connection once; the libraries would repeat it with tracebacks.
        logging.getLogger(library).setLevel(logging.CRITICAL if settings.level != "debug" else logging.DEBUG)
    # asyncio's errors are kept: nothing else reports a failed task or callback.
    logging.getLogger("asyncio").setLevel(logging.ERROR if settings.level != "debug" else logging.DEBUG)


def writes_json(settings: Logs) -> bool:
    """Whether the lines are JSON objects; else they are for people."""
    return settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())


def logger(package: str) -> FilteringBoundLogger:
    """A logger for one package of the bridge, such as `worker`. Each call has an `action`, by which the logs are searched."""
    return cast("FilteringBoundLogger", structlog.get_logger(package))


def info_many(package: str, events: Iterable[Mapping[str, Any]]) -> None:
    """Log many events at `info`, in order: the lines are those that `logger(package).info` would write.

    Args:
        package: as in `logger`.
        events: the fields of each, with its message as `event`, and an `action`. They are read only where `info` is logged.
    """
    bound = logger(package).bind()
    if not bound.is_enabled_for(logging.INFO):
        return
    handlers = logging.getLogger().handlers
    if len(handlers) == 1 and isinstance(handlers[0], ManyLinesHandler) and _goes_to_handlers():
        handlers[0].write(package, events)
        return
    for fields in events:
        bound.info(**fields)


def _goes_to_handlers() -> bool:
    """Whether structlog hands its events to `logging`: a test that captures them takes them before."""
    processors = structlog.get_config()["processors"]
    return bool(processors) and processors[-1] is structlog.stdlib.ProcessorFormatter.wrap_for_formatter


def tracer(log: FilteringBoundLogger) -> Callable[..., Any] | None:
    """A function that logs each event at `debug`; None at other levels, so that it costs nothing."""
    bound = log.bind()
    return bound.debug if bound.is_enabled_for(logging.DEBUG) else None


def _mark_library_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event.setdefault("action", LIBRARY)
    return event


def _json(event: Mapping[str, Any], **_: Any) -> str:
    try:
        return escaped(orjson.dumps(event).decode())
    except orjson.JSONEncodeError:  # a lone surrogate, or a number beyond 64 bits
        return json.dumps(event)


def _cleaned(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Make each value one line, except tracebacks."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = clean(value) if key in _OF_SEVERAL_LINES else one_line(value)
    return event


def _renderers(settings: Logs) -> list[Processor]:
    if writes_json(settings):
        return [
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(serializer=_json),
        ]
    # Tracebacks are text by now, without secrets.
    return [
        _cleaned,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]
