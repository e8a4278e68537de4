"""When soft bounces suppress an address, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis
from hypothesis import strategies as st

from bridge.suppression.policy import SoftBounceRule
from bridge.suppression.soft_bounces import SoftBounce, last_episode

if TYPE_CHECKING:
    from random import Random

RULE = SoftBounceRule(threshold=3, window=100, expiry=50, factor=2.0, expiry_max=120)


def bounces(*times: int) -> list[SoftBounce]:
    """One of a message each."""
    return [SoftBounce(at, f"e{number}", f"m{number}") for number, at in enumerate(times)]


def until(*times: int, after: int | None = None, rule: SoftBounceRule = RULE) -> int | None:
    episode = last_episode(bounces(*times), rule, after=after)
    return None if episode is None else episode.ends_at


def test_so_many_messages_within_the_window_suppress_from_the_last_of_them_on() -> None:
    """Not fewer, and not in a longer time; the episode says which were counted."""
    assert until(10, 20) is None
    assert until(10, 60, 110) is None, "a hundred seconds are over at the end of the window"
    assert until(10, 60, 109) == 159
    episode = last_episode(bounces(1, 10, 105, 109), RULE)
    assert episode is not None
    assert (episode.first.at, episode.last.at, episode.count) == (10, 109, 3)


def test_one_message_counts_once_however_often_it_bounces() -> None:
    """The provider tries again by itself."""
    again = [SoftBounce(at, f"e{at}", "m1") for at in range(10)]
    assert last_episode(again, RULE) is None
    episode = last_episode([*again, SoftBounce(20, "x", "m2"), SoftBounce(30, "y", "m3")], RULE)
    assert episode is not None
    assert (episode.count, episode.first.at, episode.ends_at) == (12, 0, 80)


def test_what_bounces_meanwhile_does_not_count_and_afterwards_counting_starts_anew() -> None:
    """Also at the very second of the end."""
    first = (10, 20, 30)
    assert until(*first, 40, 79) == 80
    assert until(*first, 79, 80, 81) == 80, "two after the end"
    assert until(*first, 79, 80, 81, 82) == 182, "three"


def test_each_further_time_is_longer_up_to_the_maximum() -> None:
    """By the factor."""
    times = [10, 20, 30, 80, 81, 82]
    assert until(*times) == 82 + 100
    assert until(*times, 182, 183, 184) == 184 + 120
    assert until(*times, 182, 183, 184, 304, 305, 306) == 306 + 120


def test_after_a_delivery_or_a_removal_all_starts_anew() -> None:
    """What bounced until that second counts no more, and the next time is a first time."""
    times = (10, 20, 30, 80, 81, 82)
    assert until(*times, after=82) is None
    assert until(*times, after=20) == 81 + 50, "of the first three one is left"
    assert until(*times, after=30) == 82 + 50


def test_an_address_that_has_not_bounced_for_long_starts_anew() -> None:
    """So that what is no longer needed can be pruned: that changes no result."""
    later = 82 + RULE.memory
    assert until(10, 20, 30, 80, 81, 82, later, later + 1, later + 2) == later + 2 + 120
    anew = until(10, 20, 30, 80, 81, 82, later + 1, later + 2, later + 3)
    assert anew == until(later + 1, later + 2, later + 3) == later + 3 + 50
    assert RULE.needed_since(later + 1) == 83


TIMES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 5)), max_size=30)
RULES = st.builds(
    SoftBounceRule,
    threshold=st.integers(1, 4),
    window=st.integers(1, 100),
    expiry=st.integers(1, 50),
    factor=st.floats(1, 3),
    expiry_max=st.integers(50, 100),
)


@hypothesis.given(TIMES, RULES, st.none() | st.integers(0, 400), st.randoms(use_true_random=False))
def test_the_order_in_which_they_come_says_nothing(
    times: list[tuple[int, int]], rule: SoftBounceRule, after: int | None, chance: Random
) -> None:
    """And neither does what bounced before the last delivery, nor before a time that is needed no more."""
    given = [SoftBounce(at, f"e{number}", f"m{of}") for number, (at, of) in enumerate(times)]
    shuffled = chance.sample(given, len(given))
    episode = last_episode(given, rule, after=after)
    assert last_episode(shuffled, rule, after=after) == episode
    assert last_episode([one for one in given if after is None or one.at > after], rule) == episode
    if episode is not None:
        assert episode.last.at < episode.ends_at <= episode.last.at + rule.expiry_max
        assert rule.threshold <= episode.count
        assert episode.last.at - episode.first.at < rule.window
