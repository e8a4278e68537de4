"""Standard output of a command: it works with any encoding, and lost output is reported by a line and the exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_OF_WRITING: Final = frozenset({errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EPIPE, errno.EBADF})
_NOT_WRITTEN: Final = 1
"""Exit code if the command has succeeded and its output was lost."""


def run_and_flush(command: Callable[[], object]) -> None:
    """Run a command to its exit. All of its output is written, or the loss is reported.

    Raises:
        SystemExit: with its exit code, or 1 if that was 0 and output was lost.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Otherwise a character that the encoding does not have would end the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    code: int | str | None = 0
    try:
        command()
    except SystemExit as end:
        code = end.code
    except OSError as error:
        if error.errno not in _OF_WRITING or error.filename is not None:
            raise
        code = _lost(error, code)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _lost(error, code)
    raise SystemExit(code)


def _lost(error: OSError, code: int | str | None) -> int | str:
    """Report lost output. The descriptor is replaced, because Python would write again at its end, and exit with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno != errno.EPIPE:  # a reader that has closed the pipe, such as `head`, needs no report
        line = f"bridge: cannot write to standard output: {error.strerror}; some output is lost\n"
        with suppress(OSError):
            sys.stderr.write(line)
            sys.stderr.flush()
    return code or _NOT_WRITTEN
