"""Standard output of a command: any encoding takes it, and what cannot be written is told by a line and exit code."""

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
"""Exit code where the command itself has done well: who reads the output does not have it."""


def written(command: Callable[[], object]) -> None:
    """Run a command to its exit, with all of its output written or the loss told.

    Raises:
        SystemExit: with its exit code, or 1 where that was 0 and output is lost.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # what an encoding does not have is written as \uXXXX
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
    """Python would try once more at its end, and exit with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno != errno.EPIPE:  # a reader that has gone, such as `head`, needs no telling
        line = (
            f"bridge: cannot write to standard output: {error.strerror}; what it would have said is unknown\n"
        )
        with suppress(OSError):
            sys.stderr.write(line)
            sys.stderr.flush()
    return code or _NOT_WRITTEN
