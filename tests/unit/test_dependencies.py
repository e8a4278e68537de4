"""The circuit breaker: who fails is left alone, a few find out whether it is over, and then all may."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from bridge.telemetry.metrics import Metrics
from bridge.worker import circuit_breaker
from bridge.worker.circuit_breaker import BreakerState, CircuitBreaker
from bridge.worker.dependencies import Dependency
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from bridge.worker.circuit_breaker import Probe
    from bridge.worker.dependencies import Operation

FAILURES = 3
PAUSE = 0.2
"""Seconds."""


class Down(Exception):  # noqa: N818 -- a word of the test, not an error of ours
    pass


class Odd(Down):
    """May be the fault of the one that is asked about."""


class Forbidden(Down):
    """Is nobody's own fault."""


class Place:
    """A dependency, and what it is asked."""

    def __init__(self, *, max_pause: float = 0.01, slow_after: float = 5.0) -> None:
        self.metrics = Metrics()
        self.dependency = Dependency(
            "provider",
            failure_limit=FAILURES,
            max_pause=max_pause,
            metrics=self.metrics,
            slow_after=slow_after,
            subject_errors=(Odd,),
            common_errors=(Forbidden,),
        )
        self.down: type[Down] | None = Down
        self.bad: set[str] = set()
        """Subjects of which each call fails, in a way that may be their own."""
        self.asked: list[str | None] = []
        self.at_once = 0
        self.most_at_once = 0

    async def ask(self, subject: str | None = None, *, operation: Operation = "read") -> str:
        return await self.dependency.call(
            lambda: self._call(subject), errors=(Down,), subject=subject, operation=operation
        )

    async def patiently(self, subject: str | None = None) -> str:
        while True:
            try:
                return await self.ask(subject)
            except Down:
                continue

    async def open(self) -> None:
        for _ in range(FAILURES):
            with pytest.raises(Down):
                await self.ask()

    def sample(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"dependency": "provider"})

    async def _call(self, subject: str | None) -> str:
        self.asked.append(subject)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if subject in self.bad:
            raise Odd("it is odd")
        if self.down:
            raise self.down("it is down")
        return "well"


async def test_failures_in_a_row_open_it_and_state_and_reason_are_logged() -> None:
    """Fewer do not; the metric is 0 while it is closed and 2 while it is open."""
    place = Place(max_pause=60)
    for _ in range(FAILURES - 1):
        with pytest.raises(Down):
            await place.ask()
    assert place.dependency.description() == {"state": "closed", "reason": ""}
    assert place.sample("bridge_breaker_state") == 0
    with pytest.raises(Down):
        await place.ask()
    assert not place.dependency.available
    assert not place.dependency.answering
    assert place.dependency.description() == {"state": "open", "reason": "it is down"}
    assert place.sample("bridge_breaker_state") == 2
    assert place.sample("bridge_pauses_total") == 1


async def test_an_answer_between_failures_keeps_it_closed() -> None:
    """Others fare better: that one is not the dependency's trouble."""
    place = Place()
    for _ in range(5 * FAILURES):
        place.down = Down
        with pytest.raises(Down):
            await place.ask()
        place.down = None
        await place.ask()
    assert place.dependency.available
    assert place.dependency.successes == 5 * FAILURES


async def test_an_error_that_does_not_speak_against_it_is_an_answer() -> None:
    """A 404 is one, too: it comes out, and the dependency is well."""
    place = Place()

    async def unknown() -> str:
        raise KeyError("no such message")

    for _ in range(2 * FAILURES):
        with pytest.raises(KeyError):
            await place.dependency.call(unknown, errors=(Down,))
    assert place.dependency.available
    assert place.dependency.successes == 2 * FAILURES


async def test_what_may_be_a_subjects_own_fault_opens_it_only_by_several_subjects() -> None:
    """One that fails alone, again and again, pauses nobody."""
    place = Place(max_pause=60)
    place.bad = {"1", "2", "3"}
    for subject in ("1", "1", "1", "1", "2", "2", "1"):
        with pytest.raises(Odd):
            await place.ask(subject)
    assert place.dependency.available
    with pytest.raises(Odd):
        await place.ask("3")
    assert not place.dependency.available


async def test_what_is_no_subjects_own_fault_opens_it_by_one() -> None:
    """Nobody listens there: for that it takes no second message."""
    place = Place(max_pause=60)
    for _ in range(FAILURES):
        with pytest.raises(Down):
            await place.ask("1")
    assert not place.dependency.available


async def test_while_it_is_open_nobody_calls() -> None:
    """Those who come wait, and end when they are cancelled."""
    breaker = CircuitBreaker(failure_limit=1, max_pause=60, on_change=lambda: None)
    breaker.failed(Down("it is down"))
    breaker._until += 60  # a first pause is short
    waiting = [asyncio.create_task(breaker.acquire()) for _ in range(10)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert breaker.state is BreakerState.OPEN


async def test_one_who_was_cancelled_a_moment_ago_keeps_nobody_else_waiting() -> None:
    """A cancelled task has not run yet when the dependency answers: the others are admitted all the same."""
    breaker = CircuitBreaker(failure_limit=1, max_pause=60, on_change=lambda: None)
    breaker.failed(Down("it is down"))
    breaker._until += 60
    waiting = [asyncio.create_task(breaker.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    breaker.succeeded()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1:] == [None, None]


async def test_one_who_was_cancelled_a_moment_ago_gets_no_probe() -> None:
    """It goes to one who still waits."""
    breaker = CircuitBreaker(failure_limit=1, max_pause=60, on_change=lambda: None)
    breaker.failed(Down("it is down"), subject="0")
    breaker._until += 60
    waiting = {subject: asyncio.create_task(breaker.acquire(subject)) for subject in "01"}
    await asyncio.sleep(0)
    waiting["1"].cancel()
    breaker._until = 0.0
    breaker._admit_next()
    async with asyncio.timeout(90):
        probe = await waiting["0"]
    assert probe is not None
    breaker.release(probe)


async def test_pauses_double_up_to_the_longest() -> None:
    """From a fifth of a second on."""
    breaker = CircuitBreaker(failure_limit=1, max_pause=1.0, on_change=lambda: None)
    breaker.failed(Down("it is down"))
    pauses = [breaker.pause]
    for _ in range(4):
        breaker._until = 0.0
        probe = await breaker.acquire()
        breaker.failed(Down("it is down"), probe=probe)
        breaker.release(probe)
        pauses.append(breaker.pause)
    assert pauses == [0.2, 0.4, 0.8, 1.0, 1.0]


async def test_one_at_a_time_finds_out_whether_it_is_back_and_then_all_get_their_answer() -> None:
    """A hundred wait; while it is down there is never more than one call at a time."""
    place = Place()
    await place.open()
    place.most_at_once = 0
    waiting = [asyncio.create_task(place.patiently()) for _ in range(100)]
    await eventually(lambda: len(place.asked) >= FAILURES + 5)
    assert place.most_at_once == 1
    place.down, failed = None, len(place.asked) - FAILURES
    async with asyncio.timeout(90):
        assert await asyncio.gather(*waiting) == ["well"] * 100
    assert place.dependency.available
    assert place.dependency.description() == {"state": "closed", "reason": ""}
    assert place.sample("bridge_breaker_state") == 0
    # The probe that was under way when it came back was counted before, and has an answer as well.
    assert len(place.asked) - (FAILURES + failed) in {99, 100}, (
        "each asks once, beside the probes that failed"
    )


@pytest.fixture
def _without_extra_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a machine stands still for a second, one who has not failed would be let through during a pause."""
    monkeypatch.setattr(circuit_breaker, "_EXTRA_PROBE_EVERY_SECONDS", 3600.0)


async def all_stand_in_line(breaker: CircuitBreaker) -> None:
    """Those whose tasks were just made; only then its pause is over, however long that took."""
    breaker._until += 60
    await asyncio.sleep(0)
    breaker._until = 0.0
    breaker._admit_next()


@pytest.mark.usefixtures("_without_extra_probes")
async def test_the_newest_finds_out_whether_it_is_back() -> None:
    """Those who came first may be the ones at which it fails."""
    breaker = CircuitBreaker(failure_limit=1, max_pause=PAUSE, on_change=lambda: None)
    breaker.failed(Down("it is down"), subject="0")
    waiting = {subject: asyncio.create_task(breaker.acquire(subject)) for subject in "0123"}
    await all_stand_in_line(breaker)
    assert breaker.state is BreakerState.HALF_OPEN
    await asyncio.sleep(0)
    assert [subject for subject, task in waiting.items() if task.done()] == ["3"]
    breaker.succeeded()
    await asyncio.gather(*waiting.values())


@pytest.mark.usefixtures("_without_extra_probes")
async def test_several_subjects_are_tried_before_the_next_pause() -> None:
    """As many as it takes to open it; who was tried longest ago is the next, so that each has its turn."""
    breaker = CircuitBreaker(
        failure_limit=FAILURES, max_pause=PAUSE, on_change=lambda: None, subject_errors=(Odd,)
    )
    everybody = [str(number) for number in range(7)]
    for subject in everybody[:FAILURES]:
        breaker.failed(Odd("it is odd"), subject=subject)
    waiting = {subject: asyncio.create_task(breaker.acquire(subject)) for subject in everybody}
    await all_stand_in_line(breaker)
    tried: list[list[str]] = []
    for pauses in range(1, 4):
        tried.append([])
        while breaker.pauses == pauses:
            async with asyncio.timeout(90):
                await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_COMPLETED)
            ((subject, task),) = [(subject, task) for subject, task in waiting.items() if task.done()]
            probe = await task
            assert probe is not None
            tried[-1].append(subject)
            waiting[subject] = asyncio.create_task(breaker.acquire(subject))
            breaker.failed(Odd("it is odd"), subject=subject, probe=probe)
            breaker.release(probe)
    assert [len(some) for some in tried] == [FAILURES] * 3
    assert tried[0] == ["6", "5", "4"]
    assert {subject for some in tried for subject in some} == set(everybody)
    breaker.succeeded()
    await asyncio.gather(*waiting.values())


@pytest.mark.parametrize(("error", "is_tried"), [(Odd, True), (Down, True), (Forbidden, False)])
async def test_who_has_not_failed_yet_does_not_wait_for_a_long_pause(
    error: type[Down], *, is_tried: bool
) -> None:
    """What is wrong may be those who have failed; unless that is certain to meet everybody."""
    breaker = CircuitBreaker(
        failure_limit=1,
        max_pause=60,
        on_change=lambda: None,
        subject_errors=(Odd,),
        common_errors=(Forbidden,),
    )
    breaker.failed(error("why"), subject="bad")
    breaker._until += 60
    breaker._next_extra_probe_at = 0.0
    bad, good = (asyncio.create_task(breaker.acquire(subject)) for subject in ("bad", "good"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not bad.done()
    assert good.done() is is_tried
    breaker.succeeded()
    await asyncio.gather(bad, good)


async def test_a_good_one_passes_many_that_fail_alone() -> None:
    """Nothing else comes, and all pauses are long: it has its answer all the same."""
    place = Place(max_pause=60)
    place.down, place.bad = None, {str(number) for number in range(26)}
    waiting = [asyncio.create_task(place.patiently(subject)) for subject in place.bad]
    await eventually(lambda: not place.dependency.available)
    async with asyncio.timeout(90):
        assert await place.patiently("good") == "well"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_the_answer_to_a_call_from_before_closes_it() -> None:
    """It was made while the breaker was closed, and comes while it is open: the dependency is back."""
    place = Place(max_pause=60)
    answered = asyncio.Event()

    async def slow() -> str:
        await answered.wait()
        return "well"

    early = asyncio.create_task(place.dependency.call(slow, errors=(Down,)))
    await asyncio.sleep(0)
    await place.open()
    assert not place.dependency.available
    answered.set()
    assert await early == "well"
    assert place.dependency.available


async def test_who_waits_for_the_rate_while_it_opens_does_not_call() -> None:
    """Only those calls are made that were made already."""
    place = Place(max_pause=60)
    room = asyncio.Event()

    async def throttle(probe: Probe | None) -> None:
        assert probe is None
        await room.wait()

    async def call() -> str:
        raise AssertionError("it is open")

    waiting = asyncio.create_task(place.dependency.call(call, errors=(Down,), throttle=throttle))
    await asyncio.sleep(0)
    await place.open()
    place.dependency._breakers["read"]._until += 60
    room.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_cancelled_probe_lets_the_next_one_go() -> None:
    """A session that ends in the middle of a probe does not leave the breaker half-open for ever."""
    place = Place()
    await place.open()

    async def never() -> str:
        await asyncio.Event().wait()
        raise AssertionError("it is cancelled")

    probe = asyncio.create_task(place.dependency.call(never, errors=(Down,)))
    await eventually(lambda: place.dependency.description()["state"] == "half-open")
    waiting = asyncio.create_task(place.ask())
    await asyncio.sleep(0)
    place.down = None
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    async with asyncio.timeout(90):
        assert await waiting == "well"
    assert place.dependency.available


async def test_what_writes_have_opened_no_read_closes() -> None:
    """The database answers each read and refuses each write: the pauses grow, and only a write ends them."""
    place = Place()
    for pauses in range(1, 6):
        place.down = Down
        while place.sample("bridge_pauses_total") != pauses:
            with pytest.raises(Down):
                await place.ask(operation="write")
        place.down = None
        for _ in range(3):
            assert await place.ask(operation="read") == "well"
        assert not place.dependency.available
        assert place.dependency.description()["state"] == "open"
    assert await place.ask(operation="write") == "well"
    assert place.dependency.available


async def test_a_call_that_is_not_answered_is_logged_while_its_breaker_is_closed() -> None:
    """It hangs: there is no failure that could open the breaker."""
    place = Place(slow_after=0.0)
    answered = asyncio.Event()

    async def slow() -> str:
        await answered.wait()
        return "well"

    assert place.sample("bridge_oldest_call_seconds") == 0
    call = asyncio.create_task(place.dependency.call(slow, errors=(Down,)))
    await asyncio.sleep(0)
    assert place.dependency.available
    assert not place.dependency.answering
    description = place.dependency.description()
    assert description["state"] == "closed"
    assert re.fullmatch(r"a call has not been answered for \d+ s", description["reason"])
    assert (place.sample("bridge_oldest_call_seconds") or 0) > 0
    answered.set()
    await call
    assert place.sample("bridge_oldest_call_seconds") == 0
