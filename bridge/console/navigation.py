"""The pages in the order of the menu."""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """One line of the menu."""

    path: str
    """Below /console."""
    title: str


ENTRIES: Final = (
    Entry("/", "Overview"),
    Entry("/address", "Address"),
    Entry("/list", "List"),
    Entry("/dead-letters", "Dead letters"),
    Entry("/subscribers", "Subscribers"),
    Entry("/live", "Live"),
    Entry("/archive", "Archive"),
)


def entry_of(path: str) -> Entry | None:
    """The entry under which this path is. Args: a path below /console, such as /address/jane@example.org."""
    for entry in ENTRIES:
        if path == entry.path or (entry.path != "/" and path.startswith(f"{entry.path}/")):
            return entry
    return None
