"""What a power cut took: the figures for tables."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Lost:
    """Counts; they add up."""

    pages_dropped: int = 0
    """Pages of 4 KiB that were written, and of which the disk has what was there before, or nothing."""
    pages_torn: int = 0
    """Pages of which the disk has some sectors of 512 bytes."""
    sizes: int = 0
    """Files that have another length than they had."""
    names: int = 0
    """Names of folders that are missing, are there again, or lead to another file; without those of renames."""
    renames: int = 0
    """Renames that did not take place."""

    def __add__(self, other: Lost) -> Lost:
        return Lost(*map(sum, zip(astuple(self), astuple(other), strict=True)))
