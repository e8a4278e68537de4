"""The circuit breaker: who fails is left alone, one asks whether it is over, and then all may."""

from __future__ import annotations

import asyncio

import pytest

from bridge.telemetry.metrics import Metrics
from bridge.worker.neighbours import Neighbour
from tests.support.eventually import eventually

FAILURES = 3


class Down(Exception):  # noqa: N818 -- a word of the test, not an error of ours
    pass


class Place:
    """A neighbour, and what it is asked."""

    def __init__(self, *, longest: float = 0.01) -> None:
        self.metrics = Metrics()
        self.neighbour = Neighbour("provider", failures=FAILURES, longest=longest, metrics=self.metrics)
        self.down = True
        self.calls = 0
        self.at_once = 0
        self.most_at_once = 0

    async def ask(self) -> str:
        return await self.neighbour.ask(self._call, failing=(Down,))

    async def patiently(self) -> str:
        while True:
            try:
                return await self.ask()
            except Down:
                continue

    async def open(self) -> None:
        for _ in range(FAILURES):
            with pytest.raises(Down):
                await self.ask()

    def sample(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"neighbour": "provider"})

    async def _call(self) -> str:
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.down:
            raise Down("it is down")
        return "well"


async def test_failures_in_a_row_open_it_and_state_and_reason_are_told() -> None:
    """Fewer do not; the metric is 0 while it is closed and 2 while it is open."""
    place = Place(longest=60)
    for _ in range(FAILURES - 1):
        with pytest.raises(Down):
            await place.ask()
    assert place.neighbour.description()["state"] == "closed"
    assert place.sample("bridge_breaker_state") == 0
    with pytest.raises(Down):
        await place.ask()
    assert not place.neighbour.well
    assert place.neighbour.description() == {"state": "open", "reason": "it is down"}
    assert place.sample("bridge_breaker_state") == 2
    assert place.sample("bridge_pauses_total") == 1


async def test_an_answer_between_failures_keeps_it_closed() -> None:
    """Others fare better: that one is not the neighbour's trouble."""
    place = Place()
    for _ in range(5 * FAILURES):
        place.down = True
        with pytest.raises(Down):
            await place.ask()
        place.down = False
        await place.ask()
    assert place.neighbour.well
    assert place.neighbour.answers == 5 * FAILURES


async def test_an_error_that_does_not_speak_against_it_is_an_answer() -> None:
    """A 404 is one, too: it comes out, and the neighbour is well."""
    place = Place()

    async def unknown() -> str:
        raise KeyError("no such message")

    for _ in range(2 * FAILURES):
        with pytest.raises(KeyError):
            await place.neighbour.ask(unknown, failing=(Down,))
    assert place.neighbour.well
    assert place.neighbour.answers == 2 * FAILURES


async def test_while_it_is_open_nobody_calls() -> None:
    """Those who come wait, and end when they are cancelled."""
    place = Place(longest=60)
    await place.open()
    place.down = False
    # The first pause is short: make it one that does not end by itself.
    place.neighbour._until = asyncio.get_running_loop().time() + 60
    waiting = [asyncio.create_task(place.ask()) for _ in range(10)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert place.calls == FAILURES
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_one_at_a_time_finds_out_whether_it_is_back_and_then_all_get_their_answer() -> None:
    """A hundred wait; while it is down there is never more than one call at a time."""
    place = Place()
    await place.open()
    place.most_at_once = 0
    waiting = [asyncio.create_task(place.patiently()) for _ in range(100)]
    await eventually(lambda: place.calls >= FAILURES + 5)
    assert place.most_at_once == 1
    place.down, failed = False, place.calls - FAILURES
    async with asyncio.timeout(20):
        assert await asyncio.gather(*waiting) == ["well"] * 100
    assert place.neighbour.well
    assert place.neighbour.description() == {"state": "closed", "reason": ""}
    assert place.sample("bridge_breaker_state") == 0
    assert place.calls == FAILURES + failed + 100, "each asks once, beside the probes that failed"


async def test_the_answer_to_a_call_from_before_closes_it() -> None:
    """It was made while the breaker was closed, and comes while it is open: the neighbour is back."""
    place = Place(longest=60)
    answered = asyncio.Event()

    async def slow() -> str:
        await answered.wait()
        return "well"

    early = asyncio.create_task(place.neighbour.ask(slow, failing=(Down,)))
    await asyncio.sleep(0)
    await place.open()
    assert not place.neighbour.well
    answered.set()
    assert await early == "well"
    assert place.neighbour.well


async def test_a_probe_that_is_cancelled_leaves_the_next_one_its_turn() -> None:
    """A session that ends in the middle of a probe does not leave the breaker half-open for ever."""
    place = Place()
    await place.open()

    async def never() -> str:
        await asyncio.Event().wait()
        raise AssertionError("it is cancelled")

    probe = asyncio.create_task(place.neighbour.ask(never, failing=(Down,)))
    await eventually(lambda: place.neighbour.description()["state"] == "half-open")
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    place.down = False
    assert await place.ask() == "well"
    assert place.neighbour.well
