"""The tables of docs/capacity.md: of the model, and what the simulation and the benchmark have written down."""

from __future__ import annotations

from typing import Final

from tests.docs.tables import ROOT
from tests.programs.capacity import tables

_GROWTH: Final = ROOT / "tests" / "programs" / "bench" / "growth.md"


def costs(_: str) -> str:
    """What the model is made of."""
    return tables.costs()


def examples(_: str) -> str:
    """What some loads take."""
    return tables.examples()


def simulated(_: str) -> str:
    """What `make capacity ARGS=--simulate` has written."""
    return tables.SIMULATED.read_text().strip()


def growth(_: str) -> str:
    """What `make bench ARGS='--only growth'` has written, on what machine first."""
    return _GROWTH.read_text().strip()


PAGE: Final = (costs, examples, simulated, growth)
"""In the order of the page."""
