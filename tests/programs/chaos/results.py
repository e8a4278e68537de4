"""What came of the seeds: lines for people, a file for programs, and the table of the documentation."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.programs.chaos.run import Outcome

_COLUMNS: Final = (
    "nodes", "seeds", "runs", "faults", "answered 200", "of them spooled", "changes", "runs with a violation"
)  # fmt: skip

_LONG_SECONDS: Final = 15


def line(outcome: Outcome) -> str:
    """A seed."""
    answered = " ".join(f"{what}: {count}" for what, count in sorted(outcome.answered.items()))
    words = [
        f"seed {outcome.seed}: {len(outcome.faults)} faults, {outcome.accepted} answered 200 ({answered})",
        f"{outcome.delivered} delivered, {outcome.changes} changes, {outcome.entries} entries",
        f"{outcome.took:.0f} s, settled in {outcome.settled:.0f} s",
        *([f"waited for {outcome.waited_for}"[:300]] if outcome.settled > _LONG_SECONDS else []),
        *(f"skipped {one}" for one in outcome.skipped),
        *(f"fell {one}"[:200] for one in outcome.fell),
        *(f"by hand: {one}"[:300] for one in outcome.by_hand),
        *(f"VIOLATION {one}" for one in outcome.violations[:10]),
    ]
    if len(outcome.violations) > 10:
        words.append(f"… {len(outcome.violations)} violations in all")
    if outcome.broken:
        words.append(f"COULD NOT BE RUN: {outcome.broken}")
    return "; ".join(words[:3]) + "".join(f"\n    {word}" for word in words[3:])


def summary(outcomes: Sequence[Outcome]) -> str:
    """All of them, in one line."""
    accepted = sum(one.accepted for one in outcomes)
    violations = sum(len(one.violations) for one in outcomes)
    said = f"{len(outcomes)} seeds, {accepted} answered 200, {violations} violations"
    broken = [str(one.seed) for one in outcomes if one.broken]
    return said + (f"; could not be run: {', '.join(broken)}" if broken else "")


def read(file: Path) -> list[dict[str, Any]]:
    """A file of results."""
    return [json.loads(one) for one in file.read_text().splitlines()]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """By the number of nodes; then how often each kind of fault was drawn."""
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    ran = [row for row in rows if not row["broken"]]
    for nodes in sorted({row["nodes"] for row in ran}):
        of_these = [row for row in ran if row["nodes"] == nodes]
        cells = (
            nodes,
            _ranges(row["seed"] for row in of_these),
            len(of_these),
            sum(len(row["faults"]) for row in of_these),
            f"{sum(row['accepted'] for row in of_these):,}",
            f"{sum(row['answered'].get('spooled', 0) for row in of_these):,}",
            f"{sum(row['changes'] for row in of_these):,}",
            sum(bool(row["violations"]) for row in of_these),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    drawn = Counter(fault[1] for row in ran for fault in row["faults"])
    skipped = Counter(_kind(one, drawn) for row in ran for one in row["skipped"])
    lines += ["", "| fault | drawn | could not be done at that moment |", "|---|---|---|"]
    lines += [f"| {kind} | {count} | {skipped[kind]} |" for kind, count in sorted(drawn.items())]
    return "\n".join(lines)


def _kind(skipped: str, kinds: Counter[str]) -> str:
    return next(kind for kind in kinds if skipped.startswith(f"{kind} "))


def _ranges(numbers: Any) -> str:
    """As `1 to 5, 7`, with a dash."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in found)
