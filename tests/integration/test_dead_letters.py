"""What the worker cannot handle: it ends in the dead letters with the reason, and holds up nothing."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from bridge.settings.loading import load_settings
from bridge.suppression.store import Store
from tests.support.working import (
    AT,
    body_of,
    bounced,
    bounces,
    changed,
    database_file,
    keeping_busy,
    working,
)

if TYPE_CHECKING:
    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace


async def test_a_body_that_is_no_event_keeps_its_bytes_and_gets_the_reason(
    settings: Settings, workplace: Workplace, rabbit: Rabbit
) -> None:
    """Bytes, message id, type, time and headers are those that came in; others say why, when, where, and how often."""
    before = int(time.time() * 1000)
    async with working(settings), rabbit.reading(rabbit.names.dead) as dead:
        await workplace.put(
            b"\xff not JSON\x00",
            message_id="strange-1",
            type="hard_bounced",
            content_type="application/json",
            timestamp=AT,
            headers={"received-at": 17, "note": "kept"},
        )
        letter = await dead.next()
    assert letter.body == b"\xff not JSON\x00"
    assert (letter.message_id, letter.type, letter.content_type) == (
        "strange-1",
        "hard_bounced",
        "application/json",
    )
    assert letter.timestamp is not None
    assert letter.timestamp.timestamp() == AT
    for name in ("dead-at", "retry-first-failure", "retry-same-since"):
        at = letter.headers.pop(name)
        assert isinstance(at, int)
        assert before <= at <= time.time() * 1000
    assert letter.headers == {
        "received-at": 17,
        "note": "kept",
        "dead-reason": "malformed",
        "dead-error": "the body is not UTF-8 text",
        "retry-attempt": 1,
        "retry-error": "the body is not UTF-8 text",
        "retry-where": f"parse@{socket.gethostname()}",
        "retry-reason": "malformed",
    }
    assert await workplace.left() == []


async def test_a_dead_letter_outlives_the_broker(
    settings: Settings, workplace: Workplace, rabbit: Rabbit
) -> None:
    """It is persistent, however the message came in."""
    async with working(settings), rabbit.reading(rabbit.names.dead) as dead:
        await workplace.put(b"{}", delivery_mode=1)
        assert (await dead.next()).delivery_mode == 2


async def test_a_dead_letter_is_not_copied_to_where_the_event_went(
    settings: Settings, workplace: Workplace, rabbit: Rabbit
) -> None:
    """The headers that route copies do not come along."""
    async with working(settings), rabbit.reading(rabbit.names.dead) as dead:
        await workplace.put(b"{}", headers={"CC": [rabbit.names.unrouted]})
        # The put itself was routed by its header, too.
        assert "CC" not in (await dead.next()).headers
    assert await rabbit.depth(rabbit.names.unrouted) == 1


async def test_one_bad_message_does_not_fail_its_batch(
    settings: Settings, workplace: Workplace, simulator: Simulator, rabbit: Rabbit
) -> None:
    """Beside no JSON, no event, no address and an unknown message, the good ones are on the list."""
    nowhere = simulator.add_message("nobody at all")
    await workplace.put(b"no JSON")
    await workplace.put(b'{"message": {"id": 1}}')
    await workplace.send(*bounces([1, nowhere, 2, 987654, 3]))
    async with working(settings), rabbit.reading(rabbit.names.dead) as dead:
        await workplace.changes(3)
        letters = await dead.take(4)
    assert await workplace.listed() == bounced([1, 2, 3])
    assert await workplace.left() == []
    assert {letter.body: letter.headers["dead-reason"] for letter in letters} == {
        b"no JSON": "malformed",
        b'{"message": {"id": 1}}': "malformed",
        bounces([nowhere])[0]: "invalid-address",
        bounces([987654])[0]: "unknown-message",
    }


async def test_the_mailbox_is_taken_out_of_what_the_sender_wrote(
    settings: Settings, workplace: Workplace, simulator: Simulator, rabbit: Rabbit
) -> None:
    """As the provider delivered it. Of two mailboxes nobody knows which one bounced: neither is suppressed."""
    written = {
        '"Bob" <bob1@example.org>': "bob1@example.org",
        "Bob Example <bob2@example.org>": "bob2@example.org",
        "<bob3@example.org>": "bob3@example.org",
        "try..this@docomo.example.jp": "try..this@docomo.example.jp",
        "try.@au.example.jp": "try.@au.example.jp",
        "Bob4@my_host.Example.org.": "bob4@my_host.example.org",
        "ΚΣ@example.org": "κσ@example.org",
    }
    ids = [simulator.add_message(to) for to in written]
    both = simulator.add_message("a@example.org, b@example.org")
    await workplace.send(*bounces([*ids, both]))
    async with working(settings), rabbit.reading(rabbit.names.dead) as dead:
        changes = await workplace.changes(len(ids))
        letter = await dead.next()
    assert {change["address"] for change in changes} == set(written.values())
    assert len(await workplace.listed()) == len(written)
    assert (letter.body, letter.headers["dead-reason"]) == (bounces([both])[0], "several-addresses")
    assert "example.org" not in str(letter.headers["dead-error"])


async def test_what_the_database_refuses_does_not_fail_its_batch(
    settings: Settings, workplace: Workplace, rabbit: Rabbit
) -> None:
    """Those it refuses are dead letters that say so; whatever else was in their batch is on the list."""
    async with Store.open(settings.suppression.database_url.get_secret_value()):
        pass  # makes the file
    with closing(sqlite3.connect(database_file(settings))) as database:
        database.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON changes WHEN new.message_id IN ('7', '40') "
            "BEGIN SELECT raise(ABORT, 'not this one'); END"
        )
    await workplace.send(*bounces(range(1, 61)), body_of("complained", 40))
    await workplace.put(b"not JSON", message_id="strange-1")
    async with working(settings), rabbit.reading(rabbit.names.dead) as dead:
        letters = await dead.take(4)
        await workplace.changes(58)
    assert Counter(letter.headers["dead-reason"] for letter in letters) == {
        "refused-value": 3,
        "malformed": 1,
    }
    refused = [letter for letter in letters if letter.headers["dead-reason"] == "refused-value"]
    assert {letter.body for letter in refused} == {*bounces([7, 40]), body_of("complained", 40)}
    assert all("not this one" in str(letter.headers["dead-error"]) for letter in refused)
    assert await workplace.listed() == bounced({*range(1, 61)} - {7, 40})
    assert await workplace.left() == []


async def test_an_address_that_is_none_does_not_stand_in_the_dead_letter(
    settings: Settings, workplace: Workplace, simulator: Simulator, rabbit: Rabbit
) -> None:
    """The error says what is wrong with it and does not repeat it."""
    nowhere = simulator.add_message("jane.secret@@example.org")
    async with working(settings), rabbit.reading(rabbit.names.dead) as dead:
        await workplace.send(*bounces([nowhere]))
        error = str((await dead.next()).headers["dead-error"])
    assert error.startswith("not an e-mail address")
    assert "secret" not in error


async def test_a_message_that_stays_unknown_is_asked_for_until_the_grace_is_over(
    settings: Settings, workplace: Workplace, simulator: Simulator, rabbit: Rabbit
) -> None:
    """More than one 404, in more than one attempt, and for no less than `provider.unknown_grace`."""
    began = time.monotonic()
    async with working(settings), rabbit.reading(rabbit.names.dead) as dead:
        await workplace.send(body_of("complained", 987654))
        letter = await dead.next()
    assert time.monotonic() - began >= settings.provider.unknown_grace
    assert letter.headers["dead-reason"] == "unknown-message"
    assert "987654" in str(letter.headers["dead-error"])
    assert letter.headers["cloudEvents:subject"] == "987654"
    attempts = letter.headers["retry-attempt"]
    assert isinstance(attempts, int)
    assert attempts > 1
    assert len(simulator.requests) == attempts * settings.provider.attempts


async def test_without_a_token_an_event_waits_and_then_is_a_dead_letter(
    overrides: dict[str, Any], workplace: Workplace, rabbit: Rabbit
) -> None:
    """It is tried again until `worker.give_up_after`, in case there is a token or its message is announced."""
    overrides = changed(overrides, worker={"give_up_after": 0.6})
    del overrides["provider"]["api_token"]
    async with working(load_settings(overrides=overrides)), rabbit.reading(rabbit.names.dead) as dead:
        await workplace.send(*bounces([1]))
        letter = await dead.next()
    assert letter.headers["dead-reason"] == "unresolved"
    assert "provider.api_token" in str(letter.headers["dead-error"])
    attempts, first, died = (
        letter.headers[name] for name in ("retry-attempt", "retry-first-failure", "dead-at")
    )
    assert isinstance(attempts, int)
    assert 1 < attempts <= 3, "after 0.2 s and another 0.5 s, or later on a busy machine"
    assert isinstance(first, int)
    assert isinstance(died, int)
    assert died - first >= 600


async def test_without_a_token_a_message_that_is_announced_meanwhile_is_resolved(
    overrides: dict[str, Any], settings: Settings, workplace: Workplace, processes: Processes
) -> None:
    """The event waits in the delay queue, not in the worker."""
    overrides = changed(overrides)
    del overrides["provider"]["api_token"]
    worker = await processes.start("worker", overrides=overrides)
    await workplace.send(*bounces([1]))
    await worker.says("worker.retry", attempt=1)
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        await store.remember({"1": "recipient1@example.org"})
    await workplace.changes(1)
    assert await workplace.listed() == bounced([1])
    assert await workplace.dead() == []


async def test_an_answer_that_cannot_be_read_for_one_message_is_named(
    overrides: dict[str, Any], workplace: Workplace, simulator: Simulator, rabbit: Rabbit
) -> None:
    """While others can be read: after its time this event is given up, and says why."""
    simulator.message(1)["to"] = ""
    settings = load_settings(overrides=changed(overrides, worker={"give_up_after": 0.1}))
    async with working(settings), rabbit.reading(rabbit.names.dead) as dead:
        await workplace.send(*bounces([1]))
        async with keeping_busy(workplace, range(2, 900)):
            letter = await dead.next()
    assert letter.body == bounces([1])[0]
    assert letter.headers["dead-reason"] == "unreadable-answer"
    assert letter.headers["retry-attempt"] == 2


async def test_without_their_queue_the_message_waits_and_the_worker_says_so(
    overrides: dict[str, Any], workplace: Workplace, rabbit: Rabbit, processes: Processes
) -> None:
    """A dead letter that RabbitMQ returns is tried again; the others go on meanwhile."""
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.dead)
    await workplace.put(b"no JSON")
    waiting = await worker.says("worker.dead_letter_waiting")
    assert "returned" in waiting["error"]
    await workplace.send(*bounces([1]))
    await workplace.changes(1)
    await workplace.declare()
    await worker.says("worker.dead_letter")
    assert [letter.body for letter in await workplace.dead()] == [b"no JSON"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"message": {"id": 1}, "event": {"name": "malformed"}}']
)
async def test_every_kind_of_bad_body_is_a_dead_letter(
    body: bytes, settings: Settings, workplace: Workplace, rabbit: Rabbit
) -> None:
    """None of them stops the worker, and none is lost."""
    async with working(settings), rabbit.reading(rabbit.names.dead) as dead:
        await workplace.put(body)
        letter = await dead.next()
    assert (letter.body, letter.headers["dead-reason"]) == (body, "malformed")
