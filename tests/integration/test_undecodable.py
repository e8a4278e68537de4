"""A message whose properties no library decodes: it is set aside as it is, and costs nobody else anything."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from bridge.amqp.aiormq_internals import open_routed_channel, unused_consumer
from bridge.amqp.connection import open_connection
from bridge.amqp.deliveries import Deliveries
from bridge.amqp.delivery_frames import DeliveryAssembler
from bridge.amqp.properties import decode_properties
from bridge.broker.archive_selection import ArchiveSelection
from bridge.broker.forwarded_properties import RAW_HEADER
from bridge.cli import dead_letters_view
from bridge.dead_letters.dead_letter_description import DeadLetterFilter
from bridge.dead_letters.message_file import MessageFile, dead_letter_document
from bridge.operations.archive_scan import ArchiveProgress
from bridge.operations.dead_letters import dead_letter_operations
from bridge.operations.replay import ReplayOrder, replay
from bridge.operations.tail import TailedEvent, tail
from bridge.tasks import background_task
from tests.support.undecodable import (
    BEYOND,
    NOTE,
    UNDECODABLE,
    are_the_same,
    entry,
    number,
    properties,
    put,
    text,
)
from tests.support.working import body_of, bounced, bounces, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.amqp.message_types import Delivery
    from bridge.settings.sections import Settings
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace


@asynccontextmanager
async def taking(url: str, queue: str) -> AsyncIterator[Deliveries]:
    """A consumer that minds no properties, on a connection of its own."""
    async with (
        await open_connection(url, name="test") as connection,
        Deliveries.open(connection, queue, prefetch=1000) as deliveries,
    ):
        yield deliveries


async def rejected(url: str, queue: str, count: int) -> None:
    """So many messages are dead-lettered by RabbitMQ itself."""
    arrived: asyncio.Queue[Delivery] = asyncio.Queue()
    async with await open_connection(url, name="test") as connection:
        channel = await open_routed_channel(connection, DeliveryAssembler(arrived.put_nowait).handle)
        await channel.basic_consume(queue, unused_consumer)
        for _ in range(count):
            await channel.basic_reject((await arrived.get()).tag, requeue=False)


async def until_dead(rabbit: Rabbit, count: int) -> None:
    async with asyncio.timeout(90):
        while await rabbit.depth(rabbit.names.dead) < count:  # noqa: ASYNC110 -- RabbitMQ does not tell
            await asyncio.sleep(0.02)


async def test_good_events_among_bad_messages_are_on_the_list_on_one_connection(
    overrides: dict[str, Any], workplace: Workplace, rabbit: Rabbit, processes: Processes
) -> None:
    """300 hard bounces among six bad messages: nothing reconnects, and the bad ones are dead letters, bytes and all."""
    good, bad = bounces(range(1, 301)), list(UNDECODABLE.values())
    for place, encoded in enumerate(bad):
        await workplace.send(*good[place * 50 : (place + 1) * 50])
        await put(rabbit, rabbit.names.suppression, encoded, body_of("hard_bounced", 500 + place))
    worker = await processes.start("worker", overrides=overrides)
    await workplace.changes(300)
    await worker.says("worker.dead_letter", times=len(bad), reason="undecodable")
    assert await workplace.listed() == bounced(range(1, 301))
    assert [line for line in worker.lines if '"broker.lost"' in line or '"broker.retry"' in line] == []
    buried = await workplace.dead()
    assert {letter.body for letter in buried} == set(bounces(range(500, 500 + len(bad))))
    for letter in buried:
        place = bounces(range(500, 500 + len(bad))).index(letter.body)
        raw = letter.headers[RAW_HEADER]
        assert isinstance(raw, bytearray)
        assert are_the_same(bytes(raw), bad[place])
        assert (letter.headers["note"], letter.headers["dead-reason"]) == ("kept", "undecodable")
        assert str(letter.headers["dead-error"]).startswith("the properties cannot be decoded: ")


@pytest.mark.parametrize(
    "headers",
    [
        entry(b"retry-attempt", b"l", number(2**63 - 1))
        + entry(b"retry-first-failure", b"l", number(2**63 - 1)),
        entry(b"retry-attempt", b"l", number(-(2**63))) + entry(b"retry-first-failure", b"T", bytes(8)),
        entry(b"retry-attempt", b"S", text(b"seven")) + entry(b"retry-where", b"t", b"\x01"),
        entry(b"retry-attempt", b"A", text(b"b\x01")) + entry(b"retry-first-failure", b"d", bytes(8)),
        entry(b"list", b"A", text(b"S" + text(b"\xff"))) + entry(b"pi", b"d", b"\x7f\xef" + b"\xff" * 6),
        entry(b"large", b"S", text(b"x" * 130_900)),
    ],
    ids=[
        "beyond all bounds",
        "negative",
        "texts",
        "an array",
        "what pamqp reads and cannot write",
        "as many bytes as fit into a frame",
    ],
)
async def test_no_header_value_ends_the_worker(
    headers: bytes, settings: Settings, workplace: Workplace, rabbit: Rabbit, amqp_url: str
) -> None:
    """What it computes with is checked, what it only carries goes on as it is: the message is a dead letter."""
    async with working(settings), taking(amqp_url, rabbit.names.dead) as arriving:
        await put(rabbit, rabbit.names.suppression, properties(headers, NOTE), b"not JSON")
        (letter,) = await arriving.receive()
        await workplace.send(*bounces([1]))
        await workplace.changes(1)
    found = decode_properties(letter.properties)
    assert (found.error, found.headers["dead-reason"], found.headers["note"]) == (None, "malformed", "kept")
    assert 1 <= found.headers["retry-attempt"] <= 1_000_000


@pytest.mark.parametrize("by", ["the worker", "RabbitMQ"])
async def test_dead_letters_that_cannot_be_decoded_are_listed_shown_kept_and_put_back(
    by: str, settings: Settings, workplace: Workplace, rabbit: Rabbit, amqp_url: str, tmp_path: Path
) -> None:
    """Whoever has made dead letters of them, with any headers; put back, they can be decoded and are handled."""
    garbage = entry(b"dead-at", b"l", number(2**63 - 1)) + entry(b"retry-attempt", b"l", number(2**63 - 1))
    bad = {
        f"bad-{place}": properties(NOTE, garbage, message_id=b"bad-%d" % place, at=int.from_bytes(BEYOND))
        for place in (1, 2, 3)
    }
    for place, encoded in enumerate(bad.values(), start=1):
        await put(rabbit, rabbit.names.suppression, encoded, body_of("hard_bounced", place))
    if by == "RabbitMQ":
        await rejected(amqp_url, rabbit.names.suppression, 3)
        await until_dead(rabbit, 3)
    else:
        async with working(settings):
            await until_dead(rabbit, 3)
    reason = "rejected" if by == "RabbitMQ" else "undecodable"
    listed = (await dead_letter_operations(settings).select(DeadLetterFilter().matches)).messages
    assert [(letter.id, letter.reason) for letter in listed] == [(one, reason) for one in bad]
    assert all("cannot be decoded: timestamp" in letter.error for letter in listed)
    found = await dead_letter_operations(settings).find(lambda letter: letter.id == "bad-2")
    assert found is not None
    shown = list(dead_letters_view.lines(found, now=0))
    assert {"reason:        " + reason, "  note: kept", body_of("hard_bounced", 2).decode()} <= set(shown)
    path = tmp_path / "kept.jsonl"
    with MessageFile(path, dead_letter_document) as file:
        await dead_letter_operations(settings).discard(
            lambda letter: letter.id == "bad-3", file=file, discarded=lambda _: None
        )
    kept = orjson.loads(path.read_text())
    raw = base64.b64decode(
        (kept["raw_properties"] if by == "RabbitMQ" else kept["headers"][RAW_HEADER])["base64"]
    )
    assert by == "RabbitMQ" or are_the_same(raw, bad["bad-3"])
    assert (decode_properties(raw).message_id, decode_properties(raw).error) == (
        "bad-3",
        "timestamp: a time is out of range",
    )
    await dead_letter_operations(settings).replay(DeadLetterFilter().matches, rate=1000, moved=lambda _: None)
    async with working(settings):
        await workplace.changes(2)
    assert await workplace.listed() == bounced([1, 2])
    assert await workplace.dead() == []


async def test_the_archive_is_read_past_what_cannot_be_decoded(
    settings: Settings, workplace: Workplace, rabbit: Rabbit
) -> None:
    """A replay puts such an event back, too, so that it can be decoded and is handled."""
    await workplace.send(*bounces([1]))
    for place, encoded in enumerate(UNDECODABLE.values(), start=2):
        await put(rabbit, rabbit.names.archive, encoded, body_of("hard_bounced", place))
    await workplace.send(*bounces([9]))
    await workplace.left()
    order, progress = ReplayOrder(ArchiveSelection(), rabbit.names.suppression), ArchiveProgress()
    await replay(settings, order, progress, lambda: None)
    assert progress.scanned == len(UNDECODABLE) + 2
    async with working(settings):
        await workplace.changes(len(UNDECODABLE) + 2)
    assert await workplace.listed() == bounced([1, *range(2, 2 + len(UNDECODABLE)), 9])
    assert await workplace.dead() == []


async def test_a_tail_shows_what_cannot_be_decoded(
    settings: Settings, workplace: Workplace, rabbit: Rabbit
) -> None:
    """And what comes after it."""
    shown: asyncio.Queue[TailedEvent] = asyncio.Queue()
    async with background_task(tail(settings, [], shown.put_nowait), name="tail"):
        while shown.empty():
            await workplace.send(body_of("opened", 1))  # until it listens
            await asyncio.sleep(0)
        for encoded in UNDECODABLE.values():
            await put(
                rabbit, "hard_bounced", encoded, body_of("hard_bounced", 2), exchange=rabbit.names.events
            )
        await workplace.send(body_of("clicked", 3))
        seen: list[tuple[str, str | None]] = []
        while not seen or seen[-1] != ("clicked", "3"):
            async with asyncio.timeout(90):
                one = await shown.get()
            seen.append((one.event, one.message_id))
    assert seen.count(("hard_bounced", "2")) == len(UNDECODABLE)
