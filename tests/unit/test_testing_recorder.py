"""`bridge.testing.Recorder`: consumers that are right pass, and each that is wrong is shown the shortest sequence for it."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from bridge.testing import Consumer, ConsumerError, Recorder, change, event, malformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from aio_pika.abc import AbstractIncomingMessage

EVENTS = [event("opened", message_id=1), event("clicked", message_id=1), event("opened", message_id=2)]
SEED = 1
PATIENCE_SECONDS = 90.0
"""Of a consumer that settles all, and may stand still meanwhile, as this process may."""


def recorder(make: Callable[[], Any], **how: Any) -> Recorder:
    return Recorder(make, seed=SEED, **{"patience": PATIENCE_SECONDS} | how)


def careful() -> Consumer:
    """Drops repeats, acknowledges after the work, and rejects what it cannot read."""
    handled: list[str] = []

    async def handle(message: AbstractIncomingMessage) -> None:
        async with message.process():
            if message.type == "malformed":
                raise ValueError("no event")
            if message.message_id is not None and message.message_id not in handled:
                handled.append(message.message_id)

    return Consumer(handle, effects=lambda: handled, state=lambda: sorted(handled))


def careful_with_pika() -> Consumer:
    handled: list[str] = []

    def handle(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if properties.type == "malformed":
            channel.basic_reject(method.delivery_tag, requeue=False)
            return
        if properties.message_id not in handled:
            handled.append(properties.message_id)
        assert body
        channel.basic_ack(method.delivery_tag)

    return Consumer(handle, effects=lambda: handled, state=lambda: sorted(handled))


@pytest.mark.parametrize("make", [careful, careful_with_pika])
@pytest.mark.parametrize("prefetch", [1, 10])
def test_a_careful_consumer_passes(make: Callable[[], Consumer], prefetch: int) -> None:
    """With repeats, in any order, and beside what it cannot read."""
    bad = malformed()
    played = recorder(make, prefetch=prefetch).check([*EVENTS, bad], rejected=[bad], repeats=2)
    assert played.acknowledged == EVENTS
    assert played.rejected == [bad]
    assert played.effects == tuple(one.message_id for one in EVENTS)
    assert played.requeued == played.unacknowledged == []


async def test_it_is_used_in_async_tests_too() -> None:
    """There the event loop runs already, and `check` says what to call instead."""
    await recorder(careful).check_async(EVENTS)
    assert (await recorder(careful).play_async(EVENTS)).acknowledged == EVENTS
    with pytest.raises(RuntimeError, match=r"await check_async\(\) instead"):
        recorder(careful).check(EVENTS)


def test_what_makes_a_consumer_may_be_async_and_is_closed() -> None:
    """Each sequence has a consumer of its own, which is closed after it."""
    living: list[str] = []

    async def close() -> None:
        living.remove("one")

    async def make() -> Consumer:
        assert living == []
        await asyncio.sleep(0)
        living.append("one")
        return Consumer(careful().handler, close=close)

    recorder(make).check(EVENTS, orders=5)
    assert living == []


def failure(make: Callable[[], Any], messages: Any = EVENTS, **how: Any) -> str:
    """What a recorder says of a consumer that is wrong."""
    rules = {key: how.pop(key) for key in ("prefetch", "patience", "delivery_limit") if key in how}
    with pytest.raises(ConsumerError) as said:
        recorder(make, **rules).check(messages, **how)
    return str(said.value)


def deliveries(said: str) -> list[str]:
    """The numbered lines: the shortest sequence."""
    return re.findall(r"^  \d+\. (.*)$", said, re.MULTILINE)


def test_a_consumer_that_does_not_drop_repeats_is_shown_one() -> None:
    """One event, twice, and nothing else; with the seed."""

    def make() -> Consumer:
        handled: list[str] = []

        async def handle(message: AbstractIncomingMessage) -> None:
            async with message.process():
                handled.append(str(message.message_id))

        return Consumer(handle, effects=lambda: handled)

    said = failure(make)
    shown = deliveries(said)
    assert len(shown) == 2
    assert "had its effect 2 times" in said
    assert "after 2 of 6 deliveries" in said
    assert f"seed={SEED}" in said
    assert all("email.events/" in line and "acknowledged" in line for line in shown)


def test_a_consumer_that_remembers_only_the_last_id_is_shown_three() -> None:
    """It passes where the repeat comes at once: one, another, and the first again."""

    def make() -> Consumer:
        handled: list[str] = []

        async def handle(message: AbstractIncomingMessage) -> None:
            async with message.process():
                if not handled or handled[-1] != message.message_id:
                    handled.append(str(message.message_id))

        return Consumer(handle, effects=lambda: handled)

    assert len(deliveries(failure(make, repeats=2))) == 3


def follower(*, by_id: bool) -> Callable[[], Consumer]:
    """Follows the list: the change with the greatest id counts, or, wrongly, the one that came last."""

    def make() -> Consumer:
        known: dict[str, tuple[int, bool]] = {}

        def handle(message: AbstractIncomingMessage) -> None:
            document = changes[str(message.message_id)]
            if not by_id or known.get(document["address"], (0,))[0] < document["id"]:
                known[document["address"]] = document["id"], document["still_suppressed"]

        return Consumer(handle, state=lambda: known, acknowledges=False)

    return make


CHANGES = [
    change("added", change_id=1),
    change("removed", change_id=2),
    change("added", "b@example.org", change_id=3),
]
changes = {one.message_id: one.json() for one in CHANGES}


def test_a_follower_of_the_list_ends_in_the_same_state_in_any_order() -> None:
    """One that keeps the greatest id does; one that keeps the last is shown two changes in the wrong order."""
    recorder(follower(by_id=True)).check(CHANGES, repeats=2)
    said = failure(follower(by_id=False), CHANGES)
    assert [re.findall(r"change-\d", line) for line in deliveries(said)] == [["change-2"], ["change-1"]]
    assert "the state at the end is" in said
    recorder(follower(by_id=False)).check(CHANGES, repeats=0, reorder=False)


@pytest.mark.parametrize("prefetch", [1, 10])
def test_two_copies_at_once_are_a_race_that_a_prefetch_shows(prefetch: int) -> None:
    """Looking first and noting it after an await holds one by one, and not side by side."""

    def make() -> Consumer:
        handled: list[str] = []

        async def handle(message: AbstractIncomingMessage) -> None:
            async with message.process():
                if message.message_id in handled:
                    return
                await asyncio.sleep(0)
                handled.append(str(message.message_id))

        return Consumer(handle, effects=lambda: handled)

    if prefetch == 1:
        recorder(make, prefetch=prefetch).check(EVENTS)
    else:
        assert len(deliveries(failure(make, prefetch=prefetch))) == 2


def test_an_exception_that_leaves_a_message_unacknowledged_is_told() -> None:
    """aio-pika only logs it; nobody acknowledges that message any more."""

    async def handle(message: AbstractIncomingMessage) -> None:
        if message.type == "clicked":
            raise KeyError("url")
        await message.ack()

    said = failure(lambda: handle)
    assert "left unacknowledged" in said
    assert "KeyError('url')" in said
    assert len(deliveries(said)) == 1


def test_an_exception_ends_a_consumer_of_pika() -> None:
    """Even where the message was rejected before."""

    def handle(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        del properties, body
        channel.basic_ack(method.delivery_tag)
        raise KeyError("url")

    assert "pika ends the consumer" in failure(lambda: handle)


def test_a_dead_letter_that_was_not_expected_is_told_and_one_that_was_is_missed() -> None:
    """Rejected without requeue; or acknowledged, though it cannot have been read."""

    async def reject(message: AbstractIncomingMessage) -> None:
        await message.reject(requeue=False)

    async def acknowledge(message: AbstractIncomingMessage) -> None:
        await message.ack()

    bad = malformed()
    assert "it would be a dead letter" in failure(lambda: reject)
    assert "should be rejected" in failure(lambda: acknowledge, [bad], rejected=[bad])


def test_what_is_requeued_comes_again_and_not_for_ever() -> None:
    """Flagged as redelivered, with RabbitMQ's count; after the limit it is told."""
    counts: list[Any] = []

    def make() -> Consumer:
        async def handle(message: AbstractIncomingMessage) -> None:
            counts.append((message.redelivered, message.headers.get("x-delivery-count")))
            if message.headers.get("x-delivery-count") == 2:
                await message.ack()
            else:
                await message.nack(requeue=True)

        return Consumer(handle)

    played = recorder(make).play(EVENTS[:1])
    assert counts == [(False, None), (True, 1), (True, 2)]
    assert [one.end for one in played.outcomes] == ["requeued", "requeued", "acknowledged"]
    recorder(make).check(EVENTS)
    assert "was requeued 2 times: it loops for ever" in failure(make, delivery_limit=1)


def test_an_acknowledgement_twice_is_told() -> None:
    """RabbitMQ closes the channel for it, and all that is unacknowledged comes again."""

    def handle(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        del properties, body
        channel.basic_ack(method.delivery_tag)
        channel.basic_ack(method.delivery_tag)

    assert "closes the channel (406)" in failure(lambda: handle)


def test_several_may_be_acknowledged_together_and_from_another_thread() -> None:
    """As consumers of pika do: `multiple`, and `add_callback_threadsafe`."""

    def make() -> Consumer:
        waiting: list[int] = []

        def handle(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            del properties, body
            waiting.append(method.delivery_tag)
            if len(waiting) == 3:
                last = waiting[-1]
                waiting.clear()

                def acknowledge() -> None:
                    channel.connection.add_callback_threadsafe(lambda: channel.basic_ack(last, multiple=True))

                threading.Thread(target=acknowledge).start()

        return Consumer(handle)

    assert recorder(make, prefetch=3).play(EVENTS).acknowledged == EVENTS
    stuck = recorder(make, prefetch=2, patience=0.01).play(EVENTS)
    assert stuck.unacknowledged == EVENTS[:2]
    assert stuck.problems == ["1 messages were not delivered: the prefetch is used up"]


def test_a_handler_that_does_not_acknowledge_by_itself() -> None:
    """Acknowledged when it returns, rejected when it raises: a plain function is enough."""

    def handle(message: AbstractIncomingMessage) -> None:
        if message.type == "malformed":
            raise ValueError("no event")

    bad = malformed()
    made = recorder(lambda: Consumer(handle, acknowledges=False))
    made.check([*EVENTS, bad], rejected=[bad])


def test_the_same_seed_gives_the_same_sequences() -> None:
    """And another one others: a failure that names its seed is repeated."""

    def order(seed: int) -> list[str]:
        seen: list[str] = []

        def handle(message: AbstractIncomingMessage) -> None:
            seen.append(f"{message.message_id} {message.redelivered}")

        Recorder(lambda: Consumer(handle, acknowledges=False), seed=seed).check(EVENTS)
        return seen

    assert order(1) == order(1) != order(2)
    assert Recorder(careful).seed != Recorder(careful).seed


def test_what_is_no_consumer_is_named() -> None:
    """The handler in place of what makes one; and a handler of which nobody knows whose it is."""

    async def handle(message: AbstractIncomingMessage) -> None:
        await message.ack()

    def odd(one: object, two: object) -> None:
        del one, two

    with pytest.raises(TypeError, match="makes a fresh consumer"):
        Recorder(handle)  # type: ignore[arg-type]  # this is the mistake
    with pytest.raises(TypeError, match="takes 2 arguments"):
        recorder(lambda: odd).play(EVENTS)
