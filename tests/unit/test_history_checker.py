"""The checker of histories: honest ones are accepted."""

from __future__ import annotations

from random import Random  # noqa: TC003 -- hypothesis reads the annotations

import pytest  # noqa: TC002 -- hypothesis reads the annotations
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.history.checker import check
from tests.support.history.history import History
from tests.support.history.honest import honest_history
from tests.support.history.violations import summary


@given(st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_a_bridge_leaves_that_keeps_its_promises_is_accepted(random: Random, listening: bool) -> None:  # noqa: FBT001 -- hypothesis draws it
    """With repeats, redeliveries, events without an answer, a list that lags; whether the changes are heard or not."""
    violations = check(History(honest_history(random, listening=listening)))
    assert not violations, summary(violations)


@given(st.randoms(use_true_random=False))
@settings(max_examples=5, deadline=None)
def test_a_history_is_the_same_when_it_was_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, random: Random
) -> None:
    """Each kind of record, in the order of time."""
    file = tmp_path_factory.mktemp("history") / "history.jsonl"
    history = History(honest_history(random))
    history.write(file)
    assert History.read(file).records == history.records
