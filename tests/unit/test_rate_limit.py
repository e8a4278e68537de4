"""When the provider may be asked: the rate, the pause, and how `Retry-After` is read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.provider.rate_limit import RateLimiter, retry_after

NOW = datetime(2026, 10, 21, 7, 28, 0, tzinfo=UTC)


class Time:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_a_short_pause_does_not_end_a_long_one() -> None:
    """Of two pauses the one that ends last counts; without any there is no wait."""
    time = Time()
    pace = RateLimiter(1000.0, sleep=time.sleep, clock=time.clock)
    await pace.acquire()
    assert time.now == 100.0
    pace.pause(30.0)
    pace.pause(5.0)
    await pace.acquire()
    assert time.now == 130.0


async def test_a_pause_also_holds_back_who_already_waits_for_the_rate() -> None:
    """A caller in the queue when the provider asks for a pause does not call in the middle of it."""
    time = Time()
    pace = RateLimiter(20.0, sleep=time.sleep, clock=time.clock)
    for _ in range(20):
        await pace.acquire()

    async def ask_for_a_pause() -> None:
        pace.pause(30.0)

    async with asyncio.TaskGroup() as group:
        # Tasks start in this order: the first is in the queue when the second speaks.
        group.create_task(pace.acquire())
        group.create_task(ask_for_a_pause())
    assert time.now == 130.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("3600", 60.0),
        ("999999999999", 60.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:28:30 -0000", 30.0),
        ("Wed, 21 Oct 2026 09:28:30 +0200", 30.0),
        ("Wed, 21 Oct 2026 09:28:00 GMT", 60.0),
        ("Wed, 21 Oct 2020 07:28:00 GMT", 0.0),
    ],
)
def test_a_wish_is_read_as_seconds_and_capped(value: str, seconds: float) -> None:
    """Seconds and dates become seconds from now; the past is 0, and more than the cap is the cap."""
    assert retry_after(value, now=NOW, at_most=60.0) == seconds


@pytest.mark.parametrize(
    "value", [None, "", "soon", "-5", "1e3", "٣", "nan", "Wed, 99 Oct 2026 07:28:30 GMT"]
)
def test_what_cannot_be_read_is_no_wish(value: str | None) -> None:
    """Without a header, or with one that is neither of the two forms, there is nothing to obey."""
    assert retry_after(value, now=NOW, at_most=60.0) is None


@given(
    st.text(max_size=60) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d+:\d+:\d+ [+-]\d+")
)
def test_no_header_can_make_it_fail_or_wait_for_longer_than_the_cap(value: str) -> None:
    """Whatever a server writes there is a wait within the bounds, or none."""
    seconds = retry_after(value, now=NOW, at_most=60.0)
    assert seconds is None or 0.0 <= seconds <= 60.0
