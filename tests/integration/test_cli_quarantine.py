"""`bridge quarantine`, as a person on call uses it: look, have published what is an event by now, let go."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from bridge import events
from bridge.broker.messages import malformed_message
from bridge.dead_letters import queue_reader
from bridge.dead_letters.quarantine import QuarantineFilter
from bridge.operations.quarantine import quarantine_operations
from bridge.timestamps import rfc3339_of_milliseconds
from tests.support.commands import Outcome, bridge
from tests.support.spellings import SPELLINGS
from tests.support.undecodable import UNDECODABLE, put
from tests.support.working import bounced, properties_of, working

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from aio_pika.abc import AbstractIncomingMessage

    from bridge.settings.sections import Settings
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

    Quarantine = Callable[..., Awaitable[Outcome]]

REASON = "event.timestamp is not a time in Unix seconds"
RECEIVED_AT = 1_764_000_000_123
NO_EVENT = b'{"hello": "world"}'
MOST_UNDER_WAY = 10
"""At two a second, when a replay is killed: what RabbitMQ has not confirmed yet comes once more."""
_LOOK_EVERY_SECONDS = 0.02


@pytest.fixture
def quarantine(amqp_url: str, prefix: str, workplace: Workplace, tmp_path: Path) -> Quarantine:
    """`bridge quarantine ARGUMENTS...` for this test's queues."""
    del workplace  # the queues must stand

    async def command(*arguments: str) -> Outcome:
        return await bridge(
            "quarantine", *arguments,
            directory=tmp_path, BRIDGE_RABBITMQ__URLS=amqp_url, BRIDGE_RABBITMQ__PREFIX=prefix,
        )  # fmt: skip

    return command


async def put_in(rabbit: Rabbit, bodies: Iterable[bytes], *, reason: str = REASON) -> None:
    """As a receiver put them there that could not read them."""
    async with rabbit.channel() as channel:
        underlay = await channel.get_underlay_channel()
        for body in bodies:
            message = malformed_message(body, reason, exchange=rabbit.names.events, received_at=RECEIVED_AT)
            await underlay.basic_publish(
                body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                properties=properties_of(message),
            )


async def listed(quarantine: Quarantine, *filters: str) -> list[dict[str, Any]]:
    outcome = await quarantine("list", "--json", *filters)
    assert outcome.code == 0, outcome.stderr
    bodies: list[dict[str, Any]] = orjson.loads(outcome.stdout)["items"]
    return bodies


def spelt(numbers: Iterable[int]) -> list[bytes]:
    """Hard bounces that an earlier reader could not read."""
    return [SPELLINGS["time as text"](number) for number in numbers]


def digests(bodies: Iterable[bytes]) -> list[str]:
    return [events.digest(body) for body in bodies]


async def test_a_list_says_why_and_what_each_is_today(quarantine: Quarantine, rabbit: Rabbit) -> None:
    """Id, what it is read as, reason, size and age, oldest first; filters narrow it."""
    bodies = [*spelt([1]), NO_EVENT]
    await put_in(rabbit, bodies[:1])
    await put_in(rabbit, bodies[1:], reason="message is missing or not an object")
    outcome = await quarantine("list")
    assert outcome.code == 0
    heads, first, second = outcome.stdout.splitlines()
    assert heads.split("\t") == ["ID", "Now", "Reason", "Bytes", "Age"]
    assert first.split("\t")[:4] == [events.digest(bodies[0]), "hard_bounced", REASON, str(len(bodies[0]))]
    assert second.split("\t")[1] == "no event"
    assert outcome.stderr == "2 of 2 bodies\n"
    assert [body["id"] for body in await listed(quarantine, "--event", "hard-bounced")] == digests(bodies[:1])
    [still] = await listed(quarantine, "--reason", "missing", "--older-than", "1s")
    assert (still["event"], still["problem"]) == (None, "message is missing or not an object")
    assert await listed(quarantine, "--younger-than", "1s") == []


async def test_one_body_is_shown_with_its_bytes(quarantine: Quarantine, rabbit: Rabbit) -> None:
    """For people and for programs; one that is not there is one line."""
    [body] = spelt([1])
    await put_in(rabbit, [body])
    shown = await quarantine("show", events.digest(body))
    assert body.decode() in shown.stdout
    assert "now:      hard_bounced" in shown.stdout
    document = orjson.loads((await quarantine("show", events.digest(body), "--json")).stdout)
    assert document["body"] == body.decode()
    assert (document["received_at"], document["headers"]["received-at"]) == (
        rfc3339_of_milliseconds(RECEIVED_AT), RECEIVED_AT
    )  # fmt: skip
    absent = await quarantine("show", "x")
    assert (absent.code, absent.stderr.count("\n")) == (1, 1)


async def test_what_is_an_event_today_is_published_and_reaches_the_list(
    quarantine: Quarantine, rabbit: Rabbit, workplace: Workplace, settings: Settings
) -> None:
    """Under its name, with its own bytes, id and time of receipt, once; what is still none stays, with its reason."""
    bodies = [spell(number) for number, spell in enumerate(SPELLINGS.values(), start=1)]
    await put_in(rabbit, [NO_EVENT, *bodies])
    counted = await quarantine("replay", "--all", "--dry-run")
    assert f"hard_bounced\t{REASON}\t{len(bodies)}" in counted.stdout
    await until_depth(rabbit, rabbit.names.malformed, lambda depth: depth == len(bodies) + 1)
    async with rabbit.listening(rabbit.names.events, "#") as heard:
        outcome = await quarantine("replay", "--all")
        assert (outcome.code, outcome.stdout.splitlines()) == (
            0, [f"replayed {len(bodies)} bodies", "1 body stayed: still no event"],
        )  # fmt: skip
        messages = await heard.take(len(bodies))
        assert heard.waiting == 0
    assert sorted(message.body for message in messages) == sorted(bodies)
    for message in messages:
        assert message.message_id == events.parse(message.body).id
        assert (message.routing_key, message.headers["received-at"]) == ("hard_bounced", RECEIVED_AT)
    async with working(settings):
        await workplace.changes(len(bodies))
    assert await workplace.listed() == bounced(range(1, 1 + len(bodies)))
    [still] = await listed(quarantine)
    assert (still["id"], still["reason"]) == (events.digest(NO_EVENT), REASON)


async def test_what_is_still_no_event_cannot_be_replayed_by_its_id(
    quarantine: Quarantine, rabbit: Rabbit
) -> None:
    """The line says why; nor is anything moved without saying what."""
    await put_in(rabbit, [NO_EVENT])
    outcome = await quarantine("replay", events.digest(NO_EVENT))
    assert outcome.code == 1
    assert "message is missing or not an object" in outcome.stderr
    assert (await quarantine("replay")).code == 2
    await until_depth(rabbit, rabbit.names.malformed, lambda depth: depth == 1)


async def test_looking_thirty_times_changes_nothing(
    settings: Settings, rabbit: Rabbit, workplace: Workplace
) -> None:
    """No body is lost to RabbitMQ's delivery limit, and their order stays."""
    del workplace
    bodies = spelt(range(40))
    await put_in(rabbit, bodies)
    for _ in range(30):
        found = await quarantine_operations(settings).select(QuarantineFilter().matches)
        assert [body.id for body in found.messages] == digests(bodies)


async def test_a_replay_that_is_killed_loses_nothing(
    overrides: dict[str, Any], rabbit: Rabbit, processes: Processes, workplace: Workplace
) -> None:
    """Each body is in the quarantine or an event in the worker's queue; another replay does the rest."""
    del workplace
    count = 250  # at two a second they take longer than a test may: it is always interrupted
    bodies = spelt(range(count))
    await put_in(rabbit, bodies)
    replaying = await processes.start("quarantine", "replay", "--all", "--rate", "2", overrides=overrides)
    await until_depth(rabbit, rabbit.names.suppression, lambda depth: depth >= 3)
    replaying.send(signal.SIGKILL)
    assert await replaying.ended() == -signal.SIGKILL
    await until_depth(rabbit, rabbit.names.malformed, lambda depth: depth > 0)
    rest = await processes.start("quarantine", "replay", "--all", "--rate", "1000", overrides=overrides)
    assert await rest.ended() == 0
    replayed: list[AbstractIncomingMessage] = []
    async with rabbit.reading(rabbit.names.suppression) as queue:
        while {message.body for message in replayed} != set(bodies):  # what is on the way stands nowhere
            replayed.append(await queue.next())
        assert len(replayed) + queue.waiting <= count + MOST_UNDER_WAY
    assert len({message.message_id for message in replayed}) == count
    assert await rabbit.depth(rabbit.names.malformed) == 0


async def test_what_is_discarded_is_in_a_file_first(
    quarantine: Quarantine, rabbit: Rabbit, tmp_path: Path
) -> None:
    """All its bytes, only for the owner; nothing else is taken."""
    bodies = [NO_EVENT, b'"\xd0\xb6"', *spelt([1])]
    await put_in(rabbit, bodies)
    outcome = await quarantine("discard", *digests(bodies[:2]), "--yes", "--to", "kept.jsonl")
    assert outcome.code == 0, outcome.stderr
    lines = [orjson.loads(line) for line in (tmp_path / "kept.jsonl").read_bytes().splitlines()]
    assert [line["body"].encode() for line in lines] == bodies[:2]
    assert (tmp_path / "kept.jsonl").stat().st_mode & 0o777 == 0o600
    assert [body["id"] for body in await listed(quarantine)] == digests(bodies[2:])


async def test_a_queue_of_an_earlier_release_is_emptied_not_looked_at_again_and_again(
    quarantine: Quarantine, rabbit: Rabbit, tmp_path: Path, amqp_url: str, prefix: str
) -> None:
    """Without our delivery limit RabbitMQ 4 drops what is looked at 20 times. What leaves it is looked at no more."""
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.malformed)
        queue = await channel.declare_queue(
            rabbit.names.malformed, durable=True, arguments={"x-queue-type": "quorum"}
        )
        await queue.bind(rabbit.names.events, events.MALFORMED)
    await put_in(rabbit, [NO_EVENT, *spelt([1])])
    applied = await bridge(
        "topology", "apply",
        directory=tmp_path, BRIDGE_RABBITMQ__URLS=amqp_url, BRIDGE_RABBITMQ__PREFIX=prefix,
        BRIDGE_WORKER__RETRY_DELAYS="0.2,0.5",
    )  # fmt: skip
    assert applied.code == 0, "an update is not held up by it"
    looked = await quarantine("list")
    assert looked.code == 1
    assert "x-delivery-limit" in looked.stderr
    assert (await quarantine("replay", "--all")).stdout.startswith("replayed 1 body\n")
    assert (await quarantine("discard", "--all", "--yes", "--to", "kept.jsonl")).code == 0
    assert await rabbit.depth(rabbit.names.malformed) == 0
    assert await rabbit.depth(rabbit.names.suppression) == 1
    assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == 1


async def test_properties_that_cannot_be_decoded_hold_up_nobody(
    quarantine: Quarantine, rabbit: Rabbit
) -> None:
    """Who knows who put it there: its body is published under the properties that are ours."""
    for number, encoded in enumerate(UNDECODABLE.values()):
        await put(rabbit, rabbit.names.malformed, encoded, spelt([number])[0])
    await put(rabbit, rabbit.names.malformed, next(iter(UNDECODABLE.values())), NO_EVENT)
    assert len(await listed(quarantine)) == len(UNDECODABLE) + 1
    assert (await quarantine("replay", "--all")).code == 0
    async with rabbit.reading(rabbit.names.suppression) as queue:
        replayed = await queue.take(len(UNDECODABLE))
    assert {message.message_id for message in replayed} == {
        events.parse(body).id for body in spelt(range(len(UNDECODABLE)))
    }
    assert (await quarantine("discard", "--all", "--yes", "--to", "kept.jsonl")).code == 0
    assert await rabbit.depth(rabbit.names.malformed) == 0


@pytest.mark.usefixtures("workplace")
async def test_what_lies_behind_is_counted(
    settings: Settings, rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only so far can be seen."""
    monkeypatch.setattr(queue_reader, "MAX_HELD", 7)
    await put_in(rabbit, spelt(range(10)))
    found = await quarantine_operations(settings).select(QuarantineFilter().matches)
    assert (len(found.messages), found.unseen) == (7, 3)


async def until_depth(rabbit: Rabbit, queue: str, holds: Callable[[int], bool]) -> None:
    """Until so many are ready in a queue; a depth can only be asked for.

    RabbitMQ gives back what somebody has looked at a moment after his end: with the next write to its disk.
    """
    async with asyncio.timeout(90):
        while not holds(await rabbit.depth(queue)):  # noqa: ASYNC110 -- RabbitMQ does not tell
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
