"""`bridge replay`: what is in the archive goes to one queue, or to everybody again."""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from bridge import events
from bridge.amqp.connection import open_connection
from bridge.amqp.deliveries import Deliveries
from bridge.broker import archive as broker_archive
from bridge.broker.queue_counts import ready_messages
from tests.support.archiving import archive, many
from tests.support.commands import bridge
from tests.support.proxy import Proxy
from tests.support.working import body_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery
    from bridge.settings.sections import Settings
    from tests.support.commands import Outcome
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit

AT = 1_750_000_000_000
"""2025-06-15T15:06:40Z, in milliseconds."""
MIXED = [
    (body_of("clicked", 1), AT),
    (body_of("complained", 2), AT + 1),
    (body_of("opened", 1), AT + 2),
    (b'{"message": 1}', AT + 3),
    (body_of("clicked", 3), AT + 4),
]


class Replaying:
    """The command, on this test's names, and a queue that it may be told to fill."""

    def __init__(self, rabbit: Rabbit, directory: Path, amqp_url: str, prefix: str) -> None:
        self._directory = directory
        self._variables = {"BRIDGE_RABBITMQ__URL": amqp_url, "BRIDGE_RABBITMQ__PREFIX": prefix}
        self.queue = f"{prefix}replayed"
        self.rabbit = rabbit

    async def __call__(self, *arguments: str) -> Outcome:
        return await bridge("replay", *arguments, directory=self._directory, **self._variables)

    async def counted(self, *arguments: str) -> dict[str, int]:
        """What a dry run counts."""
        outcome = await self("--dry-run", "--json", *arguments)
        assert outcome.code == 0, outcome.stderr
        selected: dict[str, int] = orjson.loads(outcome.stdout)["events"]
        return selected

    async def arrived(self) -> list[bytes]:
        """The bodies in the queue, oldest first."""
        count = await self.rabbit.depth(self.queue)
        async with self.rabbit.reading(self.queue) as reading:
            return [message.body for message in await reading.take(count)]


@pytest.fixture
async def replaying(rabbit: Rabbit, tmp_path: Path, amqp_url: str, prefix: str) -> AsyncIterator[Replaying]:
    made = Replaying(rabbit, tmp_path, amqp_url, prefix)
    async with rabbit.channel() as channel:
        await channel.declare_queue(made.queue, durable=True)
    yield made
    async with rabbit.channel() as channel:
        await channel.queue_delete(made.queue)


async def test_to_a_queue_goes_what_was_asked_for_and_nobody_else_gets_anything(
    replaying: Replaying, rabbit: Rabbit, settings: Settings
) -> None:
    """Their own bytes, ids and properties; without what RabbitMQ or the first routing had written on them."""
    await archive(rabbit, settings, MIXED)
    async with rabbit.listening(rabbit.names.events, "#") as everybody:
        outcome = await replaying("--event", "complined", "--event", "clicked", "--to", replaying.queue)
        assert outcome.code == 0, outcome.stderr
        assert everybody.waiting == 0
    assert f"3 of 5 archived events are in the queue '{replaying.queue}'" in outcome.stderr
    assert "--from-offset 5" in outcome.stderr
    async with rabbit.reading(replaying.queue) as reading:
        messages = await reading.take(3)
        assert reading.waiting == 0
    assert [message.body for message in messages] == [MIXED[0][0], MIXED[1][0], MIXED[4][0]]
    complaint = messages[1]
    assert complaint.message_id == events.parse(MIXED[1][0]).id
    assert (complaint.type, complaint.app_id, complaint.content_type, complaint.delivery_mode) == (
        "complained",
        "bridge",
        "application/json",
        2,
    )
    assert complaint.headers["received-at"] == AT + 1
    assert complaint.headers["cloudEvents:subject"] == "2"
    assert not {name for name in complaint.headers if name == "CC" or name.startswith("x-")}


async def test_again_goes_to_everybody_as_at_first(
    replaying: Replaying, rabbit: Rabbit, settings: Settings
) -> None:
    """A queue that is bound to the other spelling has it, too, and one that is bound to both has it once."""
    await archive(rabbit, settings, MIXED)
    names = rabbit.names
    async with (
        rabbit.listening(names.events, "complined") as other,
        rabbit.listening(names.events, "complained", "complined") as both,
        rabbit.listening(names.events, "#") as everybody,
    ):
        outcome = await replaying("--event", "complained", "--event", "clicked", "--again")
        assert outcome.code == 0, outcome.stderr
        again = await everybody.take(3)
        assert [message.routing_key for message in again] == ["clicked", "complained", "clicked"]
        assert [message.message_id for message in again] == [
            events.parse(body).id for body, _ in (MIXED[0], MIXED[1], MIXED[4])
        ]
        assert (await other.next()).body == MIXED[1][0]
        assert (await both.next()).body == MIXED[1][0]
        assert (other.waiting, both.waiting, everybody.waiting) == (0, 0, 0)
    # They are archived once more, and the replay did not read its own.
    assert await replaying.counted() == {"clicked": 4, "complained": 2, "opened": 1, "malformed": 1}


async def test_a_dry_run_counts_and_publishes_nothing(
    replaying: Replaying, rabbit: Rabbit, settings: Settings
) -> None:
    """As a table for people, one document for programs."""
    await archive(rabbit, settings, MIXED)
    outcome = await replaying("--dry-run", "--to", replaying.queue)
    assert outcome.code == 0, outcome.stderr
    assert "clicked\t2\n" in outcome.stdout
    assert "5 of 5 archived events would be replayed" in outcome.stderr
    outcome = await replaying("--dry-run", "--json", "--event", "opened")
    assert orjson.loads(outcome.stdout) == {
        "scanned": 5,
        "events": {"opened": 1},
        "total": 1,
        "published": False,
        "finished": True,
        "next_offset": 5,
    }
    assert await replaying.arrived() == []


async def test_time_is_that_at_which_an_event_was_received(
    replaying: Replaying, rabbit: Rabbit, settings: Settings
) -> None:
    """To the millisecond: from --since on, before --until; wherever in the archive it stands."""
    late = (body_of("skipped", 9), AT + 1)
    await archive(rabbit, settings, [*MIXED, late])
    assert await replaying.counted(
        "--since", "2025-06-15T15:06:40.001Z", "--until", "2025-06-15T15:06:40.004"
    ) == {
        "complained": 1,
        "opened": 1,
        "malformed": 1,
        "skipped": 1,
    }
    assert await replaying.counted("--until", "2025-06-15T17:06:40.001+02:00") == {"clicked": 1}


async def test_what_was_received_just_now_is_found_by_how_long_ago(
    replaying: Replaying, rabbit: Rabbit, settings: Settings
) -> None:
    """RabbitMQ is asked for the chunks from about that time on, and they hold it."""
    now = time.time_ns() // 1_000_000
    await archive(rabbit, settings, [(body_of("opened", 1), now - 7_200_000), (body_of("clicked", 1), now)])
    assert await replaying.counted("--since", "1h") == {"clicked": 1}
    assert await replaying.counted("--since", "3h") == {"clicked": 1, "opened": 1}
    assert await replaying.counted("--until", "1h") == {"opened": 1}


async def test_only_the_messages_that_are_named(
    replaying: Replaying, rabbit: Rabbit, settings: Settings
) -> None:
    """By the provider's id; several, and together with a name. `1` is not `10`."""
    await archive(rabbit, settings, [*MIXED, (body_of("opened", 10), AT)])
    assert await replaying.counted("--message-id", "1") == {"clicked": 1, "opened": 1}
    assert await replaying.counted("--message-id", "1", "--message-id", "3", "--event", "clicked") == {
        "clicked": 2
    }


async def test_since_a_time_at_which_nothing_came_any_more_there_is_nothing(
    replaying: Replaying, rabbit: Rabbit, settings: Settings
) -> None:
    """RabbitMQ would wait for the next message; the command ends."""
    await archive(rabbit, settings, MIXED)
    future = datetime.now(UTC) + timedelta(hours=1)
    assert await replaying.counted("--since", future.isoformat()) == {}


async def test_an_archive_is_read_to_its_end(
    replaying: Replaying, rabbit: Rabbit, settings: Settings
) -> None:
    """Also where more stands in its last chunk than a consumer may hold, and bodies take several frames."""
    large = body_of("clicked", 5001).replace(b'"data": {}', b'"data": {"url": "%s"}' % (b"x" * 200_000))
    await archive(rabbit, settings, [*many("opened", 5000, AT), (large, AT)])
    outcome = await replaying("--to", replaying.queue)
    assert outcome.code == 0, outcome.stderr
    arrived = await replaying.arrived()
    assert arrived == [body for body, _ in many("opened", 5000, AT)] + [large]


async def test_an_archive_that_sends_nothing_at_once_is_not_empty(
    rabbit: Rabbit, settings: Settings, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy RabbitMQ takes its time. Taken for empty, a replay would say that it has ended, and had lost everything."""
    await archive(rabbit, settings, MIXED)
    names = rabbit.names
    while not await rabbit.depth(names.archive):  # noqa: ASYNC110 -- RabbitMQ counts every few seconds, and sends no event for it
        await asyncio.sleep(0.1)
    monkeypatch.setattr(broker_archive, "_LAST_CHUNK_SECONDS", 1.0)
    receive, asked = Deliveries.receive, asyncio.Event()

    async def receive_once_asked(deliveries: Deliveries, most: int | None = None) -> list[Delivery]:
        await asked.wait()
        return await receive(deliveries, most)

    async def ask(connection: AbstractConnection, queue: str) -> int | None:
        asked.set()
        return await ready_messages(connection, queue)

    monkeypatch.setattr(Deliveries, "receive", receive_once_asked)
    monkeypatch.setattr(broker_archive, "ready_messages", ask)
    async with await open_connection(amqp_url, name="test") as connection:
        assert await broker_archive.last_offset(connection, names.archive) == len(MIXED) - 1


@pytest.mark.parametrize("who", ["RabbitMQ", "this process"])
async def test_the_end_is_found_although_somebody_stands_still_before_it(
    rabbit: Rabbit, settings: Settings, amqp_url: str, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """What comes late is no end: a replay would stop there, and say that it is done."""
    await archive(rabbit, settings, many("opened", 500, AT))
    monkeypatch.setattr(broker_archive, "_LAST_CHUNK_SECONDS", 4.0)
    monkeypatch.setattr(broker_archive, "_PREFETCH", 200)  # the last chunk comes in three parts
    consume_from = broker_archive._consume_from
    # As if all stood in the last chunk: how many do is for RabbitMQ to choose.
    monkeypatch.setattr(
        broker_archive,
        "_consume_from",
        lambda connection, stream, _: consume_from(connection, stream, "first"),
    )
    receive, still = Deliveries.receive, iter([True])
    async with Proxy.serve(amqp_url) as proxy:

        async def receive_and_stand_still(deliveries: Deliveries, most: int | None = None) -> list[Delivery]:
            found = await receive(deliveries, most)
            if next(still, False):
                if who == "RabbitMQ":
                    proxy.to_client.pause()
                    asyncio.get_running_loop().call_later(6.0, proxy.to_client.resume)
                else:
                    asyncio.get_running_loop().call_soon(time.sleep, 6.0)
            return found

        monkeypatch.setattr(Deliveries, "receive", receive_and_stand_still)
        async with await open_connection(proxy.url(amqp_url), name="test") as connection:
            assert await broker_archive.last_offset(connection, rabbit.names.archive) == 499


async def test_an_interrupted_replay_says_where_to_go_on(
    replaying: Replaying,
    rabbit: Rabbit,
    settings: Settings,
    processes: Processes,
    overrides: dict[str, Any],
) -> None:
    """After Ctrl-C and the offset it printed, everything has arrived; at the most one step of it twice."""
    bodies = [body for body, _ in many("opened", 300, AT)]
    await archive(rabbit, settings, many("opened", 300, AT))
    replay = await processes.start("replay", "--to", replaying.queue, "--rate", "20", overrides=overrides)
    async with rabbit.reading(replaying.queue) as reading:
        first = [message.body for message in await reading.take(45)]
        replay.send(signal.SIGINT)
        assert await replay.ended() == 130
        [line] = [line for line in replay.lines if "to go on" in line]
        offset = line.split()[-1]
        assert 0 < int(offset) <= 300
        outcome = await replaying("--to", replaying.queue, "--from-offset", offset)
        assert outcome.code == 0, outcome.stderr
        arrived = [*first, *(message.body for message in await reading.take(300 - int(offset)))]
        while set(arrived) != set(bodies):
            arrived.append((await reading.next()).body)
        arrived += [message.body for message in await reading.take(reading.waiting)]
    assert len(arrived) <= 300 + 20


async def test_a_lost_connection_is_gone_on_from_where_it_was_lost(
    replaying: Replaying,
    rabbit: Rabbit,
    settings: Settings,
    processes: Processes,
    overrides: dict[str, Any],
    amqp_url: str,
) -> None:
    """Both connections are reset on the way, which takes long enough for that; every event arrives."""
    bodies = {body for body, _ in many("opened", 300, AT)}
    await archive(rabbit, settings, many("opened", 300, AT))
    async with Proxy.serve(amqp_url) as proxy, rabbit.reading(replaying.queue) as reading:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        replay = await processes.start("replay", "--to", replaying.queue, "--rate", "40", overrides=overrides)
        arrived = {message.body for message in await reading.take(40)}
        proxy.cut()
        assert await replay.ended() == 0
        while arrived != bodies:
            arrived.add((await reading.next()).body)
    assert proxy.connections > 2


async def test_an_empty_archive_is_no_failure(
    replaying: Replaying, rabbit: Rabbit, settings: Settings
) -> None:
    """Nothing is read, nothing is replayed."""
    await archive(rabbit, settings, [])
    outcome = await replaying("--to", replaying.queue)
    assert outcome.code == 0, outcome.stderr
    assert "0 of 0 archived events" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "either --to QUEUE or --again"),
        (("--to", "a", "--again"), 2, "either --to QUEUE or --again"),
        (("--since", "yesterday", "--again"), 2, "'yesterday' is not a time"),
        (("--to", "nobody-has-this"), 1, "there is no queue 'nobody-has-this'"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(
    arguments: tuple[str, ...], code: int, says: str, replaying: Replaying, rabbit: Rabbit, settings: Settings
) -> None:
    """What is wrong, and with what; nothing is published."""
    await archive(rabbit, settings, MIXED[:1])
    outcome = await replaying(*arguments)
    assert outcome.code == code
    [line] = [line for line in outcome.stderr.splitlines() if line.startswith("bridge: ")]
    assert says in line


async def test_without_an_archive_it_says_so(replaying: Replaying) -> None:
    """One line that names it."""
    outcome = await replaying("--again")
    assert outcome.code == 1
    assert f"there is no archive '{replaying.rabbit.names.archive}'" in outcome.stderr


async def test_a_queue_that_goes_on_the_way_ends_it_with_the_place(
    replaying: Replaying,
    rabbit: Rabbit,
    settings: Settings,
    processes: Processes,
    overrides: dict[str, Any],
) -> None:
    """RabbitMQ returns what has no queue any more: exit code 1, and where to go on."""
    await archive(rabbit, settings, many("opened", 300, AT))
    replay = await processes.start("replay", "--to", replaying.queue, "--rate", "20", overrides=overrides)
    async with rabbit.reading(replaying.queue) as reading:
        await reading.take(20)
    async with rabbit.channel() as channel:
        await channel.queue_delete(replaying.queue)
    assert await replay.ended() == 1
    [error] = [line for line in replay.lines if line.startswith("bridge: ")]
    assert replaying.queue in error
    assert [line for line in replay.lines if "--from-offset" in line]


async def test_help_shows_an_example_and_the_variables(replaying: Replaying) -> None:
    """A line to copy, and what must be set."""
    shown = (await replaying("--help")).stdout
    assert "Example: bridge replay --since 2h" in shown
    assert "BRIDGE_RABBITMQ__URLS" in shown
