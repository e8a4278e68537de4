"""Senders announce by RabbitMQ what they have sent to whom: then no event of it needs a look-up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aio_pika
import orjson

from bridge.broker.topology_plan import SENT
from bridge.suppression.store import Store
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.working import body_of, bounces, working

if TYPE_CHECKING:
    import pytest

    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace


async def announce(rabbit: Rabbit, *documents: Any) -> None:
    """Publish each, as JSON unless it is bytes; returns when RabbitMQ has confirmed them."""
    async with rabbit.channel() as channel:
        exchange = await channel.get_exchange(rabbit.names.messages)
        for document in documents:
            body = document if isinstance(document, bytes) else orjson.dumps(document)
            await exchange.publish(aio_pika.Message(body), routing_key=SENT)


async def becomes_known(settings: Settings, *message_ids: str) -> None:
    """Returns when the list has the addresses of all of these."""
    async with (
        Store.open(settings.suppression.database_url.get_secret_value()) as store,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        while len(await store.known_addresses(message_ids)) < len(message_ids):  # noqa: ASYNC110 -- the database sends no event
            await asyncio.sleep(0.02)


async def test_an_announced_message_needs_no_look_up(
    settings: Settings, workplace: Workplace, rabbit: Rabbit, simulator: Simulator
) -> None:
    """In an announcement of many, alone, and with a number as its id: the provider is never asked."""
    many = [{"id": number, "to": f"Known{number}@Example.org"} for number in range(1, 10_001)]
    await announce(rabbit, {"messages": many}, {"id": "m-1", "to": "jane@example.org"})
    async with working(settings), rabbit.listening(rabbit.names.changes, "added") as changes:
        await becomes_known(settings, "1", "10000", "m-1")
        complaint = body_of("complained", 77).replace(b"77", b'"m-1"')
        await workplace.send(*bounces([1, 10_000]), complaint)
        heard = {orjson.loads(change.body)["address"] for change in await changes.take(3)}
    assert heard == {"known1@example.org", "known10000@example.org", "jane@example.org"}
    assert not simulator.requests
    assert await rabbit.depth(rabbit.names.announced) == 0


UNREADABLE = [
    (b"\xff no JSON", "not JSON"),
    ([], "an announcement is an object"),
    ({"messages": {}}, "must be an array of 1 to 10000"),
    ({"messages": []}, "must be an array of 1 to 10000"),
    ({"messages": [{"id": 1, "to": "jane@example.org"}] * 10_001}, "must be an array of 1 to 10000"),
    ({"id": True, "to": "jane@example.org"}, "id: neither a whole number nor a short text"),
    ({"id": "1"}, "to: not a text"),
    ({"messages": [{"id": 7, "to": "seven@example.org"}, 5]}, "messages[1].id: a message is an object"),
    (
        {"messages": [{"id": number, "to": "nobody"} for number in range(5)]},
        "messages[0].to: not an e-mail address",
    ),
]


async def test_what_cannot_be_read_is_in_the_quarantine_and_the_rest_is_known(
    settings: Settings, workplace: Workplace, rabbit: Rabbit, simulator: Simulator
) -> None:
    """With its bytes and the reason, once; readable messages of the same announcement count, and later ones, too."""
    async with working(settings), rabbit.reading(rabbit.names.malformed) as quarantine:
        await announce(rabbit, *(document for document, _ in UNREADABLE), {"id": 1, "to": "one@example.org"})
        bodies = await quarantine.take(len(UNREADABLE))
        await becomes_known(settings, "1", "7")
        await workplace.send(*bounces([1, 7]))
        changes = await workplace.changes(2)
    assert {change["address"] for change in changes} == {"one@example.org", "seven@example.org"}
    assert not simulator.requests
    reasons = {message.body: str(message.headers["malformed-reason"]) for message in bodies}
    for document, reason in UNREADABLE:
        body = document if isinstance(document, bytes) else orjson.dumps(document)
        assert reason in reasons[body]
    assert quarantine.waiting == 0
    assert await rabbit.depth(rabbit.names.announced) == 0


async def test_without_the_queue_of_announcements_events_are_handled(
    settings: Settings, workplace: Workplace, rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker tries again until it is there, and takes what has come meanwhile."""
    monkeypatch.setattr("bridge.worker.announcements._RETRY_SECONDS", 0.1)
    async with working(settings):
        async with rabbit.channel() as channel:
            await channel.queue_delete(rabbit.names.announced)
        await workplace.send(*bounces([1]))
        await workplace.changes(1)
        await workplace.declare()
        await announce(rabbit, {"id": 2, "to": "two@example.org"})
        await becomes_known(settings, "2")
        await workplace.send(*bounces([2]))
        assert "two@example.org" in [change["address"] for change in await workplace.changes(2)]
