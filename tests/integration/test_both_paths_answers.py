"""Requests get the same answers on the fast path and on the plain path."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bridge import events
from bridge.receiver import durability
from bridge.receiver.body import MAX_BODY
from bridge.roles.lifetime import Lifetime
from bridge.roles.receiver import receiver as receiver_role
from bridge.settings.loading import load_settings
from bridge.spool import stall
from bridge.tasks import background_task, wait_while_running
from tests.support.proxy import Proxy
from tests.support.receiving import exchange_alone, receiving
from tests.support.wire import TOO_LARGE, Wire, ask, head, post
from tests.support.working import body_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.telemetry.metrics import Metrics
    from tests.support.rabbit import Rabbit
    from tests.support.receiving import Receiving
    from tests.support.working import Workplace

pytestmark = pytest.mark.usefixtures("path")

BODY = body_of("opened", 1)


@pytest.fixture
async def receiver(
    overrides: dict[str, Any], metrics: Metrics, rabbit: Rabbit, path: str
) -> AsyncIterator[Receiving]:
    """A receiver that is connected to RabbitMQ."""
    assert path
    settings = load_settings(overrides=overrides)
    async with receiving(settings, metrics, exchange_alone(settings)) as listening:
        await listening.line.up()
        yield listening
    del rabbit


ACCEPTED = b'{"status":"accepted","id":"%s","durability":"confirmed"}' % events.parse(BODY).id.encode()
ANSWERS = {
    "an event": (post(BODY), "200 OK", ACCEPTED),
    "an event in two pieces": (post(BODY), "200 OK", ACCEPTED),
    "no event": (post(b"[]"), "200 OK", b'{"status":"quarantined","reason":"the body is not an object"}'),
    "no JSON": (post(b"{"), "400 Bad Request", b'{"status":"refused","reason":"'),
    "another token": (
        post(BODY, token="b" * 16),
        "404 Not Found",
        b'{"status":"refused","reason":"there is nothing here"}',
    ),
    "another method": (
        head("PUT", "Content-Length: 0"),
        "405 Method Not Allowed",
        b'{"status":"refused","reason":"only GET, HEAD, POST"}',
    ),
    "too large": (
        post(b"x" * (MAX_BODY + 1)),
        TOO_LARGE,
        b'{"status":"refused","reason":"the body is larger than',
    ),
    "no HTTP": (b"hello\r\n\r\n", "400 Bad Request", b'{"status":"refused","reason":"not an HTTP request: '),
    "a look": (head("GET"), "200 OK", b'{"status":"ready"}'),
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_every_kind_of_request_gets_its_answer(
    receiver: Receiving, metrics: Metrics, what: str
) -> None:
    """Status and body, whether the request arrives in one piece or not; each answer is counted."""
    request, status, body = ANSWERS[what]
    async with Wire.to(receiver.port) as wire:
        if what == "an event in two pieces":
            wire.send(request[:-10])
            await asyncio.sleep(0.02)
            request = request[-10:]
        wire.send(request)
        answer = await wire.answer()
    assert answer.status_line.partition(" ")[2] == status
    assert answer.body.startswith(body)
    assert answer.headers["content-type"] == "application/json"
    counted = [
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "bridge_answers_total"
    ]
    assert sum(counted) == 1


async def test_requests_on_one_connection_are_answered_in_order(receiver: Receiving) -> None:
    """Sent one after the other, and all at once."""
    bodies = [body_of("opened", number) for number in range(20)]
    async with Wire.to(receiver.port) as wire:
        for body in bodies[:5]:
            wire.send(post(body))
            assert (await wire.answer()).json["id"] == events.parse(body).id
        wire.send(*map(post, bodies[5:]))
        found = [(await wire.answer()).json["id"] for _ in bodies[5:]]
    assert found == [events.parse(body).id for body in bodies[5:]]


async def test_without_a_broker_an_event_is_spooled_and_published_when_it_is_back(
    overrides: dict[str, Any],
    amqp_url: str,
    rabbit: Rabbit,
    workplace: Workplace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole role: the answer says `spooled`, and the spool publishes the same message."""
    assert workplace
    # The disk of a busy machine may take longer than a second for one fsync.
    monkeypatch.setattr(durability, "DISK_TIMEOUT_SECONDS", 20.0)
    monkeypatch.setattr(stall, "STALLED_SECONDS", 20.0)
    async with (
        Proxy.serve(amqp_url) as proxy,
        rabbit.listening(rabbit.names.events, "#") as heard,
    ):
        proxy.refuse()
        overrides["rabbitmq"] |= {"urls": [proxy.url(amqp_url)], "reconnect_max": 0.1}
        lifetime = Lifetime()
        async with background_task(
            receiver_role(load_settings(overrides=overrides), lifetime), name="receiver"
        ) as role:
            await wait_while_running(lifetime.started, role)
            answer = await ask(lifetime.port or 0, post(BODY))
            assert (answer.status_line, answer.json["durability"]) == ("HTTP/1.1 200 OK", "spooled")
            proxy.accept()
            arrived = await heard.next()
            lifetime.stop.set()
            async with asyncio.timeout(90):
                await role
    assert (arrived.body, arrived.message_id) == (BODY, answer.json["id"])


async def test_without_a_broker_and_a_spool_the_answer_is_503(
    overrides: dict[str, Any], metrics: Metrics, amqp_url: str
) -> None:
    """With `Retry-After`."""
    overrides["spool"]["directory"] = "/dev/null/spool"
    async with Proxy.serve(amqp_url) as proxy:
        proxy.refuse()
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        settings = load_settings(overrides=overrides)
        async with receiving(settings, metrics, exchange_alone(settings)) as receiver:
            answer = await ask(receiver.port, post(BODY))
    assert (answer.status_line, answer.headers["retry-after"]) == ("HTTP/1.1 503 Service Unavailable", "5")
