"""What a process does before it loads a library: from its first moment it can be told to stop, and it can write."""

from __future__ import annotations

import os
import signal
import sys

_STANDARD = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
"""Standard input, output and error, in the order of their descriptors."""

_UMASK = 0o077
"""Nothing that this process or one of its children makes is for others."""


def prepare() -> None:
    """Open what is closed of the standard streams, keep new files private, and hold back the signals to stop.

    They are held back until somebody takes them. What we write is about persons, or secret.
    """
    open_standard_streams()
    os.umask(_UMASK)
    hold_signals()


def signals_to_stop() -> set[signal.Signals]:
    """Those that stop a role. SIGHUP is none where it was ignored at the start, as under `nohup`."""
    stopping = {signal.SIGTERM, signal.SIGINT}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        stopping.add(signal.SIGHUP)
    return stopping


def hold_signals() -> None:
    """From now on a signal to stop is kept by the kernel, for every thread, also where this process has the id 1."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signals_to_stop())


def release_signals() -> None:
    """Signals to stop act as usual; one that was held back does so now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals_to_stop())


def open_standard_streams() -> None:
    """Put the null device where one of the first three descriptors is closed.

    The next file or socket would get its number otherwise, and be written to by whoever means the stream.
    """
    for descriptor, (name, mode) in enumerate(_STANDARD):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(descriptor, True)  # noqa: FBT003 -- the function takes nothing by name
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 -- as long as the process
