"""One trace from the POST over RabbitMQ to the database and the change's publish, on every way that an event can take."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from multidict import CIMultiDict

from bridge.broker import declaring
from bridge.broker.messages import message_from_body
from bridge.broker.topology_plan import planned_topology
from bridge.broker.trace_headers import with_trace
from bridge.operations.dead_letters import dead_letter_operations
from bridge.receiver import durability
from bridge.roles import receiver as receiver_role
from bridge.roles import worker as worker_role
from bridge.roles.lifetime import Lifetime
from bridge.settings.loading import load_settings
from bridge.spool import stall
from bridge.suppression.address_keys import keys_of
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from bridge.tasks import background_task, wait_while_running
from bridge.telemetry.metrics import Metrics
from bridge.telemetry.trace_context import TraceContext, from_headers
from tests.conftest import TOKEN
from tests.support import stores
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.receiving import designed, exchange_alone, receiving
from tests.support.tracing import SENDER, UNRECORDED, OtlpReceiver, Recorded, context_of, parent_of
from tests.support.working import AT, body_of, changed, properties_of, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from aio_pika.abc import AbstractIncomingMessage

    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

    Overrides = dict[str, dict[str, Any]]

POST, SEND, DRAIN = "POST /webhooks/msndr", "send {}email.events", "drain {}email.events"
PROCESS, LOOK_UP, RECORD, WRITE = (
    "process {}suppression",
    "look up address",
    "record events",
    "write suppression list",
)
SEND_CHANGE = "send {}suppression.changes"


def carried(message: AbstractIncomingMessage) -> TraceContext | None:
    """The context in a message's headers, as any consumer reads them."""
    values = [
        [str(message.headers[name])] if name in message.headers else []
        for name in ("traceparent", "tracestate")
    ]
    return from_headers(*values)


async def post(port: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    """What a POST is answered."""
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
        http.post(f"/webhooks/msndr/{TOKEN}", data=body, headers=CIMultiDict(headers)) as answer,
    ):
        assert answer.status == 200
        answered: dict[str, Any] = await answer.json()
        return answered


def of_context(context: TraceContext) -> list[tuple[str, str]]:
    return list(context._asdict().items()) if context.tracestate else [("traceparent", context.traceparent)]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The spans of a worker in this process, and of a receiver that gets them."""
    recording = Recorded()
    monkeypatch.setattr(worker_role, "open_tracing", lambda *_, **__: nullcontext(recording.spans))
    return recording


@asynccontextmanager
async def posting(settings: Settings, recorded: Recorded) -> AsyncIterator[int]:
    """A receiver that has reached RabbitMQ; its port."""
    async with receiving(settings, Metrics(), designed(settings), recorded.spans) as receiver:
        await receiver.line.up()
        yield receiver.port


async def test_one_trace_leads_from_the_post_to_the_change(
    overrides: Overrides, database_url: str, rabbit: Rabbit, recorded: Recorded
) -> None:
    """Each span comes after the one before it, and what others consume carries the context of what has published it."""
    settings = load_settings(overrides=changed(overrides, suppression={"database_url": database_url}))
    await declaring.declare(rabbit.connection, planned_topology(settings))
    prefix = settings.rabbitmq.prefix
    async with (
        rabbit.listening(rabbit.names.events, "#") as heard,
        rabbit.listening(rabbit.names.changes, "#") as changes,
        posting(settings, recorded) as port,
        working(settings),
    ):
        answered = await post(port, body_of("hard_bounced", 1))
        event, change = await heard.next(), await changes.next()
    names = [
        POST,
        *(one.format(prefix) for one in (SEND, PROCESS)),
        LOOK_UP,
        WRITE,
        SEND_CHANGE.format(prefix),
    ]
    posted, sent, processed, looked_up, written, relayed = [await recorded.one(name) for name in names]
    assert parent_of(posted) is None
    assert parent_of(sent) == context_of(posted)
    assert carried(event) == context_of(sent) == parent_of(processed)
    assert parent_of(looked_up) == parent_of(written) == context_of(processed)
    assert parent_of(relayed) == context_of(written)
    assert carried(change) == context_of(relayed)
    batch = await recorded.one(RECORD)
    assert parent_of(batch) is None
    assert [link.context.span_id for link in batch.links] == [processed.context.span_id]
    assert [link.context.span_id for link in written.links] == [batch.context.span_id]
    assert processed.attributes is not None
    assert processed.attributes["bridge.outcome"] == "added"
    assert processed.attributes["messaging.message.id"] == answered["id"]
    everything = [str(dict(span.attributes or {})) for name in names for span in recorded.named(name)]
    assert not [said for said in everything if "@" in said or TOKEN in said], "who, and a secret"
    ((kept,),) = await stores.query(database_url, "SELECT trace FROM changes")
    assert kept == context_of(written).text


async def test_the_trace_of_a_sender_is_continued(
    overrides: Overrides, rabbit: Rabbit, recorded: Recorded, path: str
) -> None:
    """Recorded if the sender records it, passed on untouched if not, whatever share of new traces is recorded."""
    del path
    recorded.spans.sampling = 0.0
    settings = load_settings(overrides=overrides)
    async with receiving(settings, Metrics(), exchange_alone(settings), recorded.spans) as receiver:
        await receiver.line.up()
        async with rabbit.listening(rabbit.names.events, "#") as heard:
            await post(receiver.port, body_of("opened", 1), of_context(SENDER))
            continued = carried(await heard.next())
            assert continued is not None
            assert (continued.trace_id, continued.tracestate) == (SENDER.trace_id, SENDER.tracestate)
            assert parent_of(await recorded.one(POST)) == SENDER
            await post(receiver.port, body_of("opened", 2), of_context(UNRECORDED))
            assert carried(await heard.next()) == UNRECORDED
            await post(receiver.port, b"[]", of_context(SENDER))
            quarantined = carried(await heard.next())
            assert quarantined is not None
            assert quarantined.trace_id == SENDER.trace_id
            await post(receiver.port, body_of("opened", 3))
            assert "traceparent" not in (await heard.next()).headers
    assert len(recorded.named(POST)) == 2


BAD: dict[str, list[tuple[str, str]]] = {
    "too short": [("traceparent", SENDER.traceparent[:-1])],
    "upper case": [("traceparent", SENDER.traceparent.upper())],
    "zeros": [("traceparent", f"00-{'0' * 32}-{'0' * 16}-01")],
    "several": [("traceparent", SENDER.traceparent)] * 2,
    "no text": [("traceparent", "\N{LATIN SMALL LETTER Y WITH DIAERESIS}")],
    "tracestate alone": [("tracestate", "a=1")],
}


async def test_a_bad_traceparent_costs_nobody_anything(
    overrides: Overrides, rabbit: Rabbit, recorded: Recorded, path: str
) -> None:
    """The event is accepted as without it; a tracestate that is too long is shortened."""
    del path
    recorded.spans.sampling = 0.0
    settings = load_settings(overrides=overrides)
    async with receiving(settings, Metrics(), exchange_alone(settings), recorded.spans) as receiver:
        await receiver.line.up()
        async with rabbit.listening(rabbit.names.events, "#") as heard:
            for number, headers in enumerate(BAD.values()):
                answered = await post(receiver.port, body_of("opened", number), headers)
                assert answered["durability"] == "confirmed"
                assert not {"traceparent", "tracestate"} & (await heard.next()).headers.keys()
            long = [("tracestate", f"k{number}={'v' * 200}") for number in range(30)]
            await post(receiver.port, body_of("opened", 99), [("traceparent", SENDER.traceparent), *long])
            message = await heard.next()
            assert "traceparent" in message.headers
            assert "tracestate" not in message.headers
    assert len(recorded.named(POST)) == 1


async def test_an_event_that_was_spooled_keeps_its_trace(
    overrides: Overrides, rabbit: Rabbit, recorded: Recorded, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ is away at the POST; what the drain publishes later belongs to the trace, and so does the drain."""
    monkeypatch.setattr(durability, "DISK_TIMEOUT_SECONDS", 60)  # a slow disk is none that hangs
    monkeypatch.setattr(stall, "STALLED_SECONDS", 60)
    async with Proxy.serve(amqp_url) as proxy:
        settings = load_settings(overrides=changed(overrides, rabbitmq={"urls": [proxy.url(amqp_url)]}))
        await declaring.declare(rabbit.connection, planned_topology(settings))
        async with rabbit.listening(rabbit.names.events, "#") as heard:
            proxy.refuse()
            async with receiving(settings, Metrics(), designed(settings), recorded.spans) as receiver:
                answered = await post(receiver.port, body_of("opened", 1))
                assert answered["durability"] == "spooled"
                proxy.accept()
                message = await heard.next()
                sent = await recorded.one(SEND.format(settings.rabbitmq.prefix))
                drained = await recorded.one(DRAIN.format(settings.rabbitmq.prefix))
    assert sent.attributes is not None
    assert sent.attributes["bridge.durability"] == "spooled"
    assert parent_of(sent) == context_of(await recorded.one(POST))
    assert carried(message) == context_of(sent) == parent_of(drained)


async def test_delay_queues_dead_letters_and_a_replay_keep_the_trace(
    overrides: Overrides, rabbit: Rabbit, simulator: Simulator, recorded: Recorded
) -> None:
    """Each attempt is a span that comes after the publish of the event; after the replay the change is in the trace, too."""
    settings = load_settings(overrides=changed(overrides, provider={"unknown_grace": 0.1, "attempts": 1}))
    await declaring.declare(rabbit.connection, planned_topology(settings))
    process = PROCESS.format(settings.rabbitmq.prefix)
    async with (
        rabbit.listening(rabbit.names.changes, "#") as changes,
        posting(settings, recorded) as port,
        working(settings),
    ):
        await post(port, body_of("hard_bounced", 2000))
        await eventually(lambda: len(recorded.named(process)) == 2)
        operations = dead_letter_operations(settings)
        found = await operations.select(lambda _: True)
        assert [letter.reason for letter in found.messages] == ["unknown-message"]
        simulator.add_message("jane@example.org", 2000)
        await operations.replay(lambda _: True, rate=1000, moved=lambda _: None)
        change = carried(await changes.next())
        await eventually(lambda: len(recorded.named(process)) == 3)
    attempts = recorded.named(process)
    outcomes = [(span.attributes or {})["bridge.outcome"] for span in attempts]
    assert outcomes == ["delayed", "dead", "added"]
    assert [span.status.description for span in attempts] == ["unknown-message", "unknown-message", None]
    sent = context_of(await recorded.one(SEND.format(settings.rabbitmq.prefix)))
    assert {parent_of(span) for span in attempts} == {sent}
    assert change is not None
    assert change.trace_id == sent.trace_id


async def publish(rabbit: Rabbit, body: bytes, trace: TraceContext | None) -> None:
    """An event, as a receiver publishes it."""
    message = with_trace(message_from_body(body, exchange=rabbit.names.events, received_at=AT * 1000), trace)
    async with rabbit.channel() as channel:
        underlay = await channel.get_underlay_channel()
        await underlay.basic_publish(
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            properties=properties_of(message),
        )


async def test_a_batch_is_linked_to_each_trace_in_it(
    overrides: Overrides, workplace: Workplace, rabbit: Rabbit, recorded: Recorded
) -> None:
    """Events of several traces in one transaction: of those that are recorded, and no others. Every change has its own."""
    settings = load_settings(overrides=changed(overrides, worker={"linger": 60, "batch_size": 4}))
    contexts = [SENDER, UNRECORDED, None, TraceContext(SENDER.traceparent.replace("0af", "1af"))]
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        await store.remember({str(number): f"jane{number}@example.org" for number in range(1, 5)})
    for number, context in enumerate(contexts, start=1):
        await publish(rabbit, body_of("hard_bounced", number), context)
    async with rabbit.listening(rabbit.names.changes, "#") as changes, working(settings):
        heard = [carried(change) for change in await changes.take(4)]
    del workplace
    process, batch = recorded.named(PROCESS.format(settings.rabbitmq.prefix)), await recorded.one(RECORD)
    assert {link.context.span_id for link in batch.links} == {span.context.span_id for span in process}
    assert [None if one is None else one.trace_id for one in heard] == [
        None if one is None else one.trace_id for one in contexts
    ]
    assert heard[1] == UNRECORDED
    assert len(process) == len(recorded.named(WRITE)) == 2


async def test_a_change_keeps_its_trace_until_another_process_publishes_it(
    overrides: Overrides, database_url: str, rabbit: Rabbit
) -> None:
    """Also one that records no traces itself; of an erased person nothing leads to a trace."""
    settings = load_settings(
        overrides=changed(
            overrides,
            suppression={"database_url": database_url, "privacy_keys": [f"k1:{'s' * 32}"]},
        )
    )
    await declaring.declare(rabbit.connection, planned_topology(settings))
    event = SuppressingEvent("jane@example.org", Reason.COMPLAINT, "e1", AT, "1", body_of("complained", 1))
    other = SuppressingEvent("john@example.org", Reason.COMPLAINT, "e2", AT, "2", body_of("complained", 2))
    async with Store.open(database_url) as store:
        await store.record([event, other], actor="worker", traces={"e1": SENDER.text})
    async with rabbit.listening(rabbit.names.changes, "#") as changes, working(settings):
        assert [carried(one) for one in await changes.take(2)] == [SENDER, None]
    assert await stores.query(database_url, "SELECT trace FROM changes ORDER BY id") == [
        (SENDER.text,),
        (None,),
    ]
    async with Store.open(database_url, keys=keys_of(settings.suppression)) as store:
        await store.erasures.erase("jane@example.org", actor="test")
    assert await stores.query(database_url, "SELECT trace FROM changes WHERE trace IS NOT NULL") == []


async def test_the_spans_of_both_roles_reach_an_otlp_receiver(overrides: Overrides, rabbit: Rabbit) -> None:
    """As OTLP over HTTP, under the names of the roles; what waits at the end of a process is sent then."""
    async with OtlpReceiver.serving() as collector:
        tracing = {"enabled": True, "sampling": 1.0, "endpoint": collector.url, "service_name": "mail"}
        settings = load_settings(overrides=overrides | {"tracing": tracing})
        await declaring.declare(rabbit.connection, planned_topology(settings))
        lifetime = Lifetime()
        async with (
            rabbit.listening(rabbit.names.changes, "#") as changes,
            background_task(receiver_role.receiver(settings, lifetime), name="receiver") as role,
            working(settings),
        ):
            await wait_while_running(lifetime.started, role)
            await lifetime.connected.wait()
            await post(lifetime.port, body_of("hard_bounced", 1))
            await changes.next()
            lifetime.stop.set()
            async with asyncio.timeout(90):
                await role
        received = {span.name for span in collector.spans["mail-receiver"]}
        worked = collector.spans["mail-worker"]
    prefix = settings.rabbitmq.prefix
    assert received == {POST, SEND.format(prefix)}
    assert {span.name for span in worked} == {
        one.format(prefix) for one in (PROCESS, LOOK_UP, RECORD, WRITE, SEND_CHANGE)
    }
    traces = {span.trace_id for span in [*collector.spans["mail-receiver"], *worked] if span.name != RECORD}
    assert len(traces) == 1
