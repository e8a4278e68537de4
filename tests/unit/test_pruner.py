"""The worker's pruner finds the size of a transaction that nobody notices."""

from __future__ import annotations

import pytest

from bridge.suppression.retention import Step
from bridge.worker.pruner import next_size


@pytest.mark.parametrize(
    ("rows", "step", "following"),
    [
        (100, Step(100, 0.001, 100), 200),
        (100, Step(100, 0.025, 100), 100),
        (100, Step(100, 0.035, 100), 50),
        (100, Step(7, 0.001, 7), 100),
        (100, Step(0, 0.001, 100), 200),
        (10, Step(10, 1.0, 10), 10),
        (10_000, Step(10_000, 0.001, 10_000), 10_000),
    ],
    ids=[
        "short",
        "as it should be",
        "long",
        "the last one",
        "one of rows that stay",
        "the smallest",
        "the greatest",
    ],
)
def test_the_next_transaction_is_half_as_large_after_a_long_one_and_twice_after_a_short_one(
    rows: int, step: Step, following: int
) -> None:
    """Within limits; one that has deleted all that there was says nothing."""
    assert next_size(rows, step) == following
