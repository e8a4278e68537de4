"""What nobody has caught, as events of the log: an exception that ends the process, a thread, or nothing but itself."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType

    from structlog.typing import FilteringBoundLogger

FAILED: Final = "process.failed"
"""The action: a mistake of ours, to be reported as a bug."""


def log_all(log: FilteringBoundLogger) -> None:
    """From now on Python's last words, and warnings, are events; a traceback is a field of one."""

    def ended(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, traceback)
            return
        log.critical("ends with an error", action=FAILED, exc_info=(kind, error, traceback))

    def thread_ended(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else ""
        if args.exc_value is not None:
            log.critical("a thread ends with an error", action=FAILED, thread=name, exc_info=args.exc_value)

    def went_unheard(args: sys.UnraisableHookArgs) -> None:
        # Python raises it nowhere: in a destructor, or while it collects garbage.
        log.error(
            "an error that nobody can catch", action=FAILED, what=repr(args.object), exc_info=args.exc_value
        )

    sys.excepthook = ended
    threading.excepthook = thread_ended
    sys.unraisablehook = went_unheard
    logging.captureWarnings(capture=True)
