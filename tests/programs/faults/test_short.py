"""The short version of `make faults`: fewer faults, fewer events, the same comparison."""

from __future__ import annotations

import pytest

from tests.programs.faults import cases, suite

EVENTS = 1_500
RATE = 500.0


# Processes die here with open sockets, and whoever was connected to them learns of it when Python cleans up.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("case", [case for case in cases.ALL if case.quick], ids=lambda case: case.name)
async def test_what_was_answered_200_arrives_whatever_fails(case: cases.Case) -> None:
    """Under load, with the fault injected and mended: nothing answered 200 is lost, and the list is complete."""
    row = await suite.run(case, events=EVENTS, rate=RATE)
    assert (row.lost, row.unlisted) == (0, 0)
    assert row.accepted >= EVENTS
