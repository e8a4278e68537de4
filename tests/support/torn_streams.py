"""Leaves a stream on the disk as a power cut may: its index lost, its last chunk torn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_INDEX_HEADER = 8
_INDEX_RECORD = 29
"""8 bytes id, 8 time, 8 epoch, 4 position of the chunk in the segment, 1 kind: osiris_log.erl of osiris 1.3.1 and 1.8."""
_POSITION = slice(-5, -1)
_HEADER_AND_MORE = 60
"""A chunk's header has 48 bytes; what its end says of the writers is behind its data."""


def tear(node: Path) -> None:
    """Tear the only stream in the folder of a node that does not run.

    Segment and index are written without a sync, so after a power cut either may be shorter than the other. RabbitMQ 3.10 takes a stream
    without an index record for an empty one, then reads its segment all the same, and crashes at the end of it.
    """
    [index] = node.rglob("stream/*/*.index")
    records = index.read_bytes()
    assert len(records) > _INDEX_HEADER + _INDEX_RECORD
    last_chunk = int.from_bytes(records[_POSITION], "big")
    os.truncate(index.with_suffix(".segment"), last_chunk + _HEADER_AND_MORE)
    os.truncate(index, _INDEX_HEADER)
