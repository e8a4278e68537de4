"""The rows as people read them."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.programs.power_cuts.one_cut import Row

_COLUMNS = (
    "seed", "list in", "confirmed", "spooled", "a second", "pages dropped", "torn", "names lost",
    "confirmed, lost from a quorum queue", "spooled, lost", "lost from the stream alone", "stream not readable",
    "works again after", "promises broken",
)  # fmt: skip


def summary(row: Row) -> str:
    """A line while the next cut begins; and what was broken."""
    line = (
        f"cut {row.seed} ({row.database}): {row.confirmed} confirmed, {row.spooled} spooled; lost: "
        f"{row.lost_of_quorum} from the quorum queue, {row.lost_of_spool} of the spool, {_stream(row)} from the stream alone; "
        f"{row.lost.pages_dropped} pages dropped, {row.lost.pages_torn} torn"
    )
    return "\n".join((line, *(f"  {one}" for one in row.violations)))


def markdown(rows: Sequence[Row]) -> str:
    """All of them, and a last row with the sums, and the median of the rates."""
    lines = [
        f"| {row.seed} | {row.database} | {row.confirmed:,} | {row.spooled:,} | {row.answered_rate:,.0f} "
        f"| {row.lost.pages_dropped} | {row.lost.pages_torn} | {row.lost.names + row.lost.renames} | {row.lost_of_quorum} | {row.lost_of_spool} | {_stream(row, '')} "
        f"| {'yes' if row.lost_of_stream is None else 'no'} "
        f"| {row.back_seconds:.0f} s | {len(row.violations)} |"
        for row in rows
    ]
    head = (f"| {' | '.join(_COLUMNS)} |", "|---:|---|" + "---:|" * (len(_COLUMNS) - 2))
    return "\n".join((*head, *lines, _sums(rows)))


def _sums(rows: Sequence[Row]) -> str:
    lost = [row.lost for row in rows]
    unreadable = sum(row.lost_of_stream is None for row in rows)
    of_streams = sum(row.lost_of_stream or 0 for row in rows)
    return (
        f"| {len(rows)} cuts | | {sum(row.confirmed for row in rows):,} | {sum(row.spooled for row in rows):,} "
        f"| {median(row.answered_rate for row in rows):,.0f} "
        f"| {sum(one.pages_dropped for one in lost)} | {sum(one.pages_torn for one in lost)} "
        f"| {sum(one.names + one.renames for one in lost)} | {sum(row.lost_of_quorum for row in rows)} "
        f"| {sum(row.lost_of_spool for row in rows)} | {of_streams:,} | {unreadable} "
        f"| | {sum(len(row.violations) for row in rows)} |"
    )


def _stream(row: Row, unreadable: str = "not readable") -> str:
    return unreadable if row.lost_of_stream is None else f"{row.lost_of_stream:,}"
