"""What a checker says of a history that is not as promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN: Final = 12
"""Lines that are named."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One promise that was not kept."""

    rule: str
    """Which one: a name of docs/testing.md."""
    about: str
    """The address, the event's id or its message's, or the change."""
    message: str
    lines: tuple[int, ...] = ()
    """Of the merged history, from 1, in which it can be seen."""

    def __str__(self) -> str:
        seen = ", ".join(map(str, self.lines[:_SHOWN])) + (", …" if len(self.lines) > _SHOWN else "")
        return f"{self.rule}: {self.message}" + (f" (lines {seen})" if seen else "")


def summary(violations: Sequence[Violation], *, shown: int = 10) -> str:
    """The first ones, a line each, and how many there are."""
    lines = [str(one) for one in violations[:shown]]
    if len(violations) > shown:
        lines.append(f"… and {len(violations) - shown} more")
    return "\n".join(lines)
