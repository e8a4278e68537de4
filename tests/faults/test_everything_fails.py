"""The short version of `make faults`: fewer faults, fewer events, the same checker."""

from __future__ import annotations

import pytest

from tests.programs.faults import cases, suite
from tests.support.history.violations import summary

EVENTS = 1_500
"""For each fault."""
RATE = 500.0


# Processes die here with open sockets, and whoever was connected to them learns of it when Python cleans up.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_what_was_answered_200_arrives_whatever_fails() -> None:
    """Under load, one fault after the other injected and mended: the history keeps every rule."""
    # RabbitMQ ends last: a quorum queue that it made less than a second before its end may never work again.
    quick = sorted(
        (case for case in cases.ALL if case.quick), key=lambda case: case.name.startswith("broker")
    )
    assert len(quick) == 4
    violations = await suite.run_together(quick, events=EVENTS, rate=RATE)
    assert not violations, summary(violations)
