"""Puts the tables that are made from code between the marks of their pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tests.docs import capacity, tables
from tests.docs.tables import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MADE: Final[dict[str, tuple[Callable[[str], str], ...]]] = {
    "docs/reference/settings.md": (tables.settings,),
    "docs/reference/commands.md": (tables.commands,),
    "docs/reference/metrics.md": (tables.metrics,),
    "docs/reference/topology.md": (tables.exchanges_and_queues,),
    "docs/capacity.md": capacity.PAGE,
    "CONTRIBUTING.md": (tables.layers,),
}
"""Page -> what makes its tables, in their order, of the page as it stands."""
_BEGIN: Final = "<!-- made by `make docs`; do not edit from here -->"
_END: Final = "<!-- to here -->"


def made() -> dict[Path, str]:
    """Each page that has such a table, as it should be."""
    return {(path := ROOT / name): with_table(path.read_text(), path) for name in _MADE}


def with_table(page: str, path: Path) -> str:
    """The text of the page of this path, with its tables made anew.

    Raises:
        ValueError: the marks between which they go are not there.
    """
    makers = _MADE[str(path.relative_to(ROOT))]
    between = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    if len(between.findall(page)) != len(makers):
        raise ValueError(f"{path} lacks the marks {_BEGIN} and {_END}, {len(makers)} times")
    following = iter(makers)
    return between.sub(lambda _: f"{_BEGIN}\n\n{next(following)(page)}\n\n{_END}", page)
