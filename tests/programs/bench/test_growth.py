"""Whether a curve of costs bends upward, and how it is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.programs.bench import growth, report, run
from tests.programs.bench.growth_curves import curve
from tests.programs.bench.test_results import NOTHING


@pytest.mark.parametrize(
    ("costs", "bends"),
    [
        ((10.0, 10.4, 10.9), False),
        ((40.0, 10.0, 10.0), False),
        ((10.0, 11.0, 14.0), False),
        ((10.0, 11.0, 110.0), True),
        ((40.0, 10.0, 30.0), True),
        ((10.0, 30.0, 31.0), False),
        ((10.0,), False),
    ],
    ids=["flat", "falls", "as a tree", "the square", "falls, then rises", "a step", "one size"],
)
def test_a_curve_bends_where_a_unit_costs_ever_more(costs: tuple[float, ...], *, bends: bool) -> None:
    """Beyond what trees of indexes cost, compared with the size at which it is cheapest."""
    sizes = (1_000, 10_000, 100_000)
    found = curve("list", "check", "us", list(zip(sizes, costs, strict=False)))
    assert found.bends is bends
    assert found.ratios[-1] == pytest.approx(costs[-1] / costs[0])


def test_each_thing_that_grows_has_a_table() -> None:
    """In the order of sizes, and apart from the tables that docs/performance.md shows."""
    found = (
        curve("list", "check", "us", [(100, 3.0), (10, 1.0)]),
        curve("list", "record", "us", [(10, 2.0), (100, 2.0)]),
        curve("spool", "put", "us", [(10, 1.0)]),
    )
    results = replace(NOTHING, growth=found)
    shown = report.growth_markdown(results)
    assert shown.count("**Cost against size") == 2
    assert "| what | unit | 10 | 100 | last ÷ first | bends upward |" in shown
    assert "| check | us | 1.0 | 3.0 | 3.00 | YES |" in shown
    assert "Cost against size" not in report.markdown(results)


def test_a_part_can_be_chosen_alone() -> None:
    """By the part of its name, or all of them together."""
    assert run.chosen(["growth: spool"]) == {"growth: spool"}
    assert run.chosen(["growth"]) == {part.name for part in growth.PARTS}
