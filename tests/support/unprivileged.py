"""Who may not read everything: root passes over the permissions of files, unless that is taken from it."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_VERSION: Final = 0x20080522
"""Of the two structures of Linux's `capget` and `capset`: the second has two words of each of three sets."""
_SETS: Final = 3
_PASSING_OVER_PERMISSIONS: Final = 1 << 1 | 1 << 2
"""The bits of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, in the first word of each set."""


def drop_privileges() -> None:
    """From now on the permissions of files hold for this process.

    Raises:
        OSError: the kernel refuses.
    """
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    sets = (ctypes.c_uint32 * (2 * _SETS))()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    for number in range(_SETS):
        sets[number] &= ~_PASSING_OVER_PERMISSIONS
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


@contextmanager
def sealed(folder: Path) -> Iterator[None]:
    """Nobody may list or enter this folder until the context ends."""
    mode = folder.stat().st_mode
    folder.chmod(0)
    try:
        yield
    finally:
        folder.chmod(mode)
