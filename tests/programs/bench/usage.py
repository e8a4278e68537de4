"""What processes have used, as the kernel counts it: CPU time, memory now, memory at its highest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_KIB: Final = 1024
# Of /proc/PID/stat, counted from behind the name, which may hold spaces (proc_pid_stat(5), less three).
_PARENT, _GROUP, _USER, _SYSTEM = 1, 2, 11, 12


@dataclass(frozen=True, slots=True)
class Usage:
    """Of several processes together, with all their threads."""

    cpu: float
    """Seconds, since each of them started."""
    resident: int
    """Bytes (VmRSS)."""
    peak: int
    """Bytes, the sum of each one's highest (VmHWM)."""


def of_tree(pid: int) -> Usage:
    """A process and all that it has started.

    Raises:
        ProcessLookupError: it has ended.
    """
    parents = {child: int(fields[_PARENT]) for child, fields in _processes()}
    family, newest = {pid}, {pid}
    while newest:
        newest = {child for child, parent in parents.items() if parent in newest}
        family |= newest
    return _together(family)


def of_group(group: int) -> Usage:
    """All processes of a process group, as that of a private node.

    Raises:
        ProcessLookupError: there are none.
    """
    return _together(pid for pid, fields in _processes() if int(fields[_GROUP]) == group)


def _together(pids: Iterable[int]) -> Usage:
    every = [usage for pid in pids if (usage := _one(pid)) is not None]
    if not every:
        raise ProcessLookupError("the process that is measured has ended")
    return Usage(
        cpu=sum(one.cpu for one in every),
        resident=sum(one.resident for one in every),
        peak=sum(one.peak for one in every),
    )


def _one(pid: int) -> Usage | None:
    try:
        fields = _stat(pid)
        status = (_PROC / str(pid) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    memory = dict(line.split(":", 1) for line in status.splitlines() if line.startswith("Vm"))
    return Usage(
        cpu=(int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS,
        resident=_bytes(memory.get("VmRSS")),
        peak=_bytes(memory.get("VmHWM")),
    )


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), _stat(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended since


def _stat(pid: int) -> list[str]:
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _bytes(kibibytes: str | None) -> int:
    return int(kibibytes.split()[0]) * _KIB if kibibytes else 0
