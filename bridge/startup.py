"""What a process does before it loads libraries: standard streams, umask, and signals to stop."""

from __future__ import annotations

import os
import signal
import sys

_STANDARD_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
"""Standard input, output and error, in the order of their descriptors."""

_UMASK = 0o077
"""Files of this process and its children are private."""


def prepare() -> None:
    """Open closed standard streams, make new files private, and block the signals to stop.

    The signals stay pending until they are unblocked or waited for. Files contain personal data or secrets.
    """
    open_standard_streams()
    os.umask(_UMASK)
    hold_signals()


def signals_to_stop() -> set[signal.Signals]:
    """The signals that stop a role. SIGHUP is not one if it was ignored at the start, as under `nohup`."""
    stopping = {signal.SIGTERM, signal.SIGINT}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        stopping.add(signal.SIGHUP)
    return stopping


def hold_signals() -> None:
    """Block the signals to stop in every thread. The kernel keeps them pending, also for a process with id 1."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signals_to_stop())


def release_signals() -> None:
    """Unblock the signals to stop. A pending one acts now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals_to_stop())


def open_standard_streams() -> None:
    """Open the null device for each closed descriptor of the first three.

    Otherwise the next file or socket would get its number, and receive what is written to the stream.
    """
    for descriptor, (name, mode) in enumerate(_STANDARD_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(descriptor, True)  # noqa: FBT003 -- the function takes nothing by name
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 -- as long as the process
