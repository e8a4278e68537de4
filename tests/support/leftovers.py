"""Processes that a test has started and that may outlive it: found by the folder that they work in."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def processes_of(directory: Path) -> list[int]:
    """Processes that have this folder in their command line or environment."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue  # it has ended, or is another user's
        if os.fsencode(directory) in told:
            found.append(int(process.name))
    return found


def end_processes_of(directory: Path) -> None:
    """The node of a `bridge dev` that had to be killed would stay for good."""
    for pid in processes_of(directory):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
