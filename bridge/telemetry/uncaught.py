"""Logs uncaught exceptions of the process, of threads and of destructors."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType

    from structlog.typing import FilteringBoundLogger

FAILED: Final = "process.failed"
"""The action of an uncaught exception: a bug of ours."""


def log_all(log: FilteringBoundLogger) -> None:
    """Log uncaught exceptions and warnings from now on, with the traceback as a field."""

    def ended(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, traceback)
            return
        log.critical(
            "the process ends with an uncaught exception", action=FAILED, exc_info=(kind, error, traceback)
        )

    def thread_ended(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else ""
        if args.exc_value is not None:
            log.critical(
                "a thread ends with an uncaught exception",
                action=FAILED,
                thread=name,
                exc_info=args.exc_value,
            )

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        # In a destructor, or during garbage collection.
        log.error(
            "an exception that cannot be raised",
            action=FAILED,
            what=repr(args.object),
            exc_info=args.exc_value,
        )

    sys.excepthook = ended
    threading.excepthook = thread_ended
    sys.unraisablehook = unraisable
    logging.captureWarnings(capture=True)
