"""The rows as tables: for people, for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.programs.others.comparison import Row

COLUMNS: Final = (
    "fault", "bridge", "answered 200", "lost of these", "twice in the queue", "refused", "no answer",
    "of both not in the queue", "longest wait for a 200", "200 after more than 5 s", "recovery",
)  # fmt: skip


def cells(row: Row) -> list[str]:
    """One line; what is there in the archive alone is said beside what is lost."""
    lost = f"{row.lost:,}" + (f" ({row.archived:,} in the archive)" if row.archived else "")
    recovery = "none in 45 s" if row.hangs else f"{row.recovery:.1f} s"
    if row.did_not_stop:
        recovery += f"; did not stop in 30 s, {row.did_not_stop} times"
    return [
        row.fault, row.bridge, f"{row.accepted:,}", lost, f"{row.duplicates:,}", f"{row.refused:,}",
        f"{row.unanswered:,}", f"{row.gone:,}", _seconds(row.longest), f"{row.slow:,}", recovery,
    ]  # fmt: skip


def markdown(rows: Iterable[Row]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
