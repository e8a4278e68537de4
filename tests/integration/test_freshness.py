"""A check says how far the list may be behind: a worker reports the events that wait, on a real broker."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from bridge.amqp.connection import open_connection
from bridge.development.simulator_faults import Faults
from bridge.settings.loading import load_settings
from bridge.suppression import freshness as reports
from bridge.suppression.store import Store
from bridge.worker import consumer, dead_letter_age, freshness, waiting_events
from bridge.worker.dead_letter_age import DeadLetterAge
from tests.support.dead_letters import move_to_dead_letters
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.working import AT, body_of, bounces, changed, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings
    from tests.support.rabbit import Rabbit
    from tests.support.working import Overrides, Workplace


@pytest.fixture(autouse=True)
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with other times, so that nobody waits for them."""
    monkeypatch.setattr(freshness, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(freshness, "_NOT_ABLE_SECONDS", 0.05)
    monkeypatch.setattr(freshness, "_RETURN_SECONDS", 0.5)
    monkeypatch.setattr(waiting_events, "_BUCKET_SECONDS", 0.1)
    monkeypatch.setattr(dead_letter_age, "_MAX_DUTY_CYCLE", 1.0)
    monkeypatch.setattr(reports, "LIVE_SECONDS", 2.0)
    # What a worker has handed back at its end counts for a minute: it handles it, also if RabbitMQ stands still just then.
    monkeypatch.setattr(consumer, "_CANCEL_SECONDS", 10.0)


@asynccontextmanager
async def listing(settings: Settings) -> AsyncIterator[Store]:
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        yield store


async def comes_to(store: Store, holds: Callable[[float], bool]) -> float:
    """The first answer of which this holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (at := await store.freshness.read()) is None or not holds(at):  # noqa: ASYNC110 -- the database sends no event
            await asyncio.sleep(0.02)
    return at


async def taken(queue: AbstractQueue, received_at: int) -> AbstractIncomingMessage:
    """The letter that was received then. A worker that looks at them has all of them for a moment."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            letter = await queue.get(fail=False)
            if letter is not None and letter.headers["received-at"] == received_at:
                return letter
            if letter is not None:
                await letter.reject(requeue=True)
            await asyncio.sleep(0.02)


async def test_without_a_backlog_the_list_is_fresh_and_without_a_worker_it_stays(
    settings: Settings, workplace: Workplace
) -> None:
    """While a worker has nothing to do, the time advances. When it has ended, it stands still, whatever comes in."""
    began = time.time()
    async with listing(settings) as store:
        async with working(settings):
            first = await comes_to(store, lambda at: at > began)
            await comes_to(store, lambda at: at > first)
        stopped = await store.freshness.read()
        await workplace.send(body_of("hard_bounced", 1))
        assert await store.freshness.read() == stopped


async def test_a_dead_letter_holds_it_back_until_it_is_gone(
    settings: Settings, workplace: Workplace, rabbit: Rabbit, overrides: Overrides
) -> None:
    """The oldest of them counts; another worker finds it in the queue; when a person takes it out, the next one counts."""
    no_grace = load_settings(overrides=changed(overrides, provider={"unknown_grace": 0}))
    async with listing(settings) as store, rabbit.channel() as channel:
        async with working(no_grace):
            await workplace.send(body_of("hard_bounced", 987654))
            await comes_to(store, lambda at: at == AT)  # until it has come, nothing waits
        later: dict[str, Any] = {"received-at": (AT + 60) * 1000}
        await move_to_dead_letters(rabbit, [1], **later)
        async with working(settings):
            assert await comes_to(store, lambda at: at < 2e9) == AT
            dead = await channel.get_queue(rabbit.names.dead)
            await (await taken(dead, AT * 1000)).ack()
            assert await comes_to(store, lambda at: at != AT) == AT + 60
            now = time.time()
            await dead.purge()
            await comes_to(store, lambda at: at > now)


async def test_a_dead_letter_that_comes_while_another_goes_is_found_in_the_end(
    workplace: Workplace, rabbit: Rabbit, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number says nothing of it: what was read is not believed for ever."""
    assert workplace
    later: dict[str, Any] = {"received-at": (AT + 60) * 1000}
    earlier: dict[str, Any] = {"received-at": AT * 1000}
    age = DeadLetterAge(rabbit.names.dead)
    async with await open_connection(amqp_url, name="test") as connection, asyncio.timeout(PATIENCE_SECONDS):
        await move_to_dead_letters(rabbit, [1], **later)
        while age.oldest != AT + 60:
            await age.look(connection)
        async with rabbit.channel() as channel:
            await (await taken(await channel.get_queue(rabbit.names.dead), later["received-at"])).ack()
        await move_to_dead_letters(rabbit, [2], **earlier)
        while await rabbit.depth(rabbit.names.dead) != 1:
            pass
        await age.look(connection)
        assert age.oldest == AT + 60
        monkeypatch.setattr(dead_letter_age, "_TRUSTED_SECONDS", 0.0)
        age._trusted_until = 0.0
        while age.oldest != AT:
            await age.look(connection)


async def test_an_event_in_a_delay_queue_holds_it_back_until_it_is_on_the_list(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator
) -> None:
    """It waits for an answer of the provider, and nothing else waits."""
    settings = load_settings(overrides=changed(overrides, worker={"retry_delays": [0.5]}))
    simulator.message(1)["to"] = ""
    async with listing(settings) as store, working(settings):
        now = time.time()
        await comes_to(store, lambda at: at > now)
        await workplace.send(body_of("hard_bounced", 1))
        await comes_to(store, lambda at: at == AT)
        now = time.time()
        simulator.message(1)["to"] = "recipient1@example.org"
        await workplace.changes(1)
        await comes_to(store, lambda at: at > now)


async def test_an_event_that_waits_for_the_provider_holds_it_back_and_is_not_forgotten_at_the_end(
    settings: Settings, workplace: Workplace, simulator: Simulator
) -> None:
    """A worker holds it while the provider is down; at the worker's end it is in the queue again, and still counts."""
    simulator.faults = Faults(fail=-1)
    async with listing(settings) as store:
        async with working(settings):
            await workplace.send(*bounces([1]))
            await comes_to(store, lambda at: at == AT)
        assert await store.freshness.read() == AT
