"""Acknowledging many at once: everything that is handled, and nothing that is not."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.amqp.message_types import Delivery
from bridge.tasks import background_task
from bridge.worker.delivery_result import DeliveryResult, failed_delivery
from bridge.worker.failures import Failure
from bridge.worker.unacknowledged import UnacknowledgedDeliveries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

MALFORMED = Failure("malformed", "no JSON", "parse")


class Channel:
    """RabbitMQ's side: what is outstanding, and which acknowledgements came for it."""

    def __init__(self) -> None:
        self.outstanding: set[int] = set()
        self.frames: list[tuple[int, bool]] = []
        self.waits = 0
        self.acknowledged: set[int] = set()

    async def basic_ack(self, delivery_tag: int, multiple: bool = False, wait: bool = True) -> None:  # noqa: FBT001, FBT002 -- aiormq's own signature
        if wait:
            self.waits += 1
            await asyncio.sleep(0)  # as a write that has to wait for its turn
        covered = {
            tag for tag in self.outstanding if tag == delivery_tag or (multiple and tag < delivery_tag)
        }
        # RabbitMQ closes the channel over an acknowledgement of what is not outstanding.
        assert delivery_tag in covered
        self.frames.append((delivery_tag, multiple))
        self.outstanding -= covered
        self.acknowledged |= covered


class Setup:
    def __init__(self) -> None:
        self.channel = Channel()
        self.routing: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self.outcomes: Counter[str] = Counter()
        self.deliveries = UnacknowledgedDeliveries(self._route_failure, self._on_acknowledge)
        self.handled: set[int] = set()

    def deliver(self, tags: Iterable[int]) -> None:
        for tag in tags:
            self.channel.outstanding.add(tag)
            self.deliveries.take(_delivery(tag))

    def handle(self, tag: int) -> None:
        self.handled.add(tag)
        self.deliveries.report(DeliveryResult(_delivery(tag), "added"))

    async def acknowledged(self) -> set[int]:
        """What has been acknowledged when there is nothing more to acknowledge."""
        for _ in range(100):
            await asyncio.sleep(0)
        return self.channel.acknowledged

    def _on_acknowledge(self, results: Sequence[DeliveryResult], seconds: Sequence[float]) -> None:
        assert len(seconds) == len(results)
        assert all(one >= 0 for one in seconds)
        self.outcomes.update(result.outcome for result in results)

    async def _route_failure(self, _: Delivery, __: Failure) -> str:
        confirmed = asyncio.Event()
        self.routing.put_nowait(confirmed)
        await confirmed.wait()
        return "dead"


@asynccontextmanager
async def setup() -> AsyncIterator[Setup]:
    made = Setup()
    async with (
        background_task(
            made.deliveries.acknowledge(cast("Any", None), cast("Any", made.channel)), name="acknowledge"
        ) as acknowledging,
        background_task(made.deliveries.route_failures(), name="route") as routing,
    ):
        yield made
        assert not acknowledging.done()
        assert not routing.done()


async def test_what_is_handled_in_one_loop_cycle_is_acknowledged_in_one_frame() -> None:
    """A hundred results are one `basic.ack` with `multiple`."""
    async with setup() as made:
        made.deliver(range(1, 101))
        for tag in range(1, 101):
            made.handle(tag)
        await made.deliveries.wait_until_empty()
    assert made.channel.frames == [(100, True)]


async def test_a_slow_first_delivery_does_not_hold_up_the_others() -> None:
    """What is handled behind it is acknowledged one by one, and the slow one is not covered."""
    async with setup() as made:
        made.deliver([1, 2, 3])
        made.handle(2)
        made.handle(3)
        assert await made.acknowledged() == {2, 3}
        assert made.channel.frames == [(2, False), (3, False)]
        assert made.channel.waits == 1, "the frames of one loop cycle are waited for together"
        assert len(made.deliveries) == 1
        made.handle(1)
        await made.deliveries.wait_until_empty()
    assert made.channel.frames[2:] == [(1, True)]


async def test_results_in_any_order_are_acknowledged_together() -> None:
    """The order of the results of one loop cycle does not matter."""
    async with setup() as made:
        made.deliver([1, 2, 3, 4])
        for tag in (3, 1, 2):
            made.handle(tag)
        assert await made.acknowledged() == {1, 2, 3}
    assert made.channel.frames == [(3, True)]


async def test_what_goes_to_another_queue_is_acknowledged_when_it_is_there() -> None:
    """Until then nothing covers it, whatever is handled behind it."""
    async with setup() as made:
        made.deliver([1, 2])
        made.deliveries.report(failed_delivery(_delivery(1), MALFORMED))
        made.handle(2)
        confirmed = await made.routing.get()
        assert await made.acknowledged() == {2}
        confirmed.set()
        await made.deliveries.wait_until_empty()
    assert made.channel.acknowledged == {1, 2}


async def test_what_is_handled_is_counted_by_its_outcome() -> None:
    """Each once; what has failed, by what became of it, when it is there."""
    async with setup() as made:
        made.deliver([1, 2, 3, 4])
        made.deliveries.report(DeliveryResult(_delivery(1), "repeated"))
        made.deliveries.report(failed_delivery(_delivery(2), MALFORMED))
        made.handle(3)
        made.handle(4)
        await made.acknowledged()
        assert made.outcomes == {"repeated": 1, "added": 2}
        (await made.routing.get()).set()
        await made.deliveries.wait_until_empty()
        assert made.outcomes["dead"] == 1


async def test_those_that_have_failed_do_not_wait_for_each_other() -> None:
    """One that RabbitMQ does not confirm holds up no other."""
    async with setup() as made:
        made.deliver([1, 2])
        for tag in (1, 2):
            made.deliveries.report(failed_delivery(_delivery(tag), MALFORMED))
        _, second = await made.routing.get(), await made.routing.get()
        second.set()
        assert await made.acknowledged() == {2}


async def test_it_is_empty_only_when_the_last_is_acknowledged() -> None:
    """Stopping waits for the acknowledgement itself, not for the result."""
    async with setup() as made:
        made.deliver([1])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await made.deliveries.wait_until_empty()
        made.handle(1)
        await made.deliveries.wait_until_empty()
        assert made.channel.acknowledged == {1}


@given(
    order=st.permutations(range(1, 13)),
    cycles=st.sets(st.integers(1, 11)),
    delivered_first=st.integers(0, 12),
)
def test_an_acknowledgement_never_covers_what_is_not_handled(
    order: list[int], cycles: set[int], delivered_first: int
) -> None:
    """In every order of results, over any number of cycles, with deliveries between them."""

    async def scenario() -> None:
        async with setup() as made:
            made.deliver(range(1, delivered_first + 1))
            waiting = list(range(delivered_first + 1, 13))
            for number, tag in enumerate(order, start=1):
                # RabbitMQ delivers in the order of the tags.
                while waiting and waiting[0] <= tag:
                    made.deliver([waiting.pop(0)])
                made.handle(tag)
                if number in cycles:
                    assert await made.acknowledged() == made.handled
            await made.deliveries.wait_until_empty()
            assert await made.acknowledged() == set(range(1, 13))

    asyncio.run(scenario())


def _delivery(tag: int) -> Delivery:
    return Delivery(tag, False, "", "", b"", b"")  # noqa: FBT003 -- redelivered, by its place
