"""What the kernel says of a process and its signals."""

from __future__ import annotations

from pathlib import Path


def signals(pid: int, which: str) -> set[int]:
    """The signals in one of the masks that the kernel shows of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            mask = int(line.split()[1], 16)
            return {number for number in range(1, 65) if mask >> number - 1 & 1}
    raise AssertionError(which)
