"""What was discarded comes back from its file: `bridge dead restore` and `quarantine restore`."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import aio_pika
import orjson
import pytest

from bridge.dead_letters import message_file
from bridge.dead_letters.message_file import MessageFile, MessageFileError
from bridge.dead_letters.quarantine import quarantine_document
from bridge.operations.dead_letters import dead_letter_operations
from bridge.operations.quarantine import quarantine_operations
from bridge.operations.restoring import Restored, restore
from tests.support.commands import bridge
from tests.support.dead_letters import ids, move_to_dead_letters
from tests.support.working import AT

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.operations.queue_messages import QueueOperations
    from bridge.settings.sections import Settings
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace


async def discard(settings: Settings, path: Path) -> None:
    """All dead letters, into this file."""
    with MessageFile(path, message_file.dead_letter_document) as file:
        await dead_letter_operations(settings).discard(lambda _: True, file=file, discarded=lambda _: None)


async def put_back(operations: QueueOperations[Any], path: Path, *, dry_run: bool = False) -> Restored:
    restored = Restored()
    await restore(operations, path, restored, dry_run=dry_run)
    return restored


async def test_what_comes_back_is_what_was_there(
    settings: Settings, rabbit: Rabbit, workplace: Workplace, tmp_path: Path
) -> None:
    """Bodies, also those that are not UTF-8, ids, properties, history, and headers of types that JSON does not have."""
    await move_to_dead_letters(rabbit, range(3), note=bytearray(b"\xff"), count=2**40)
    async with rabbit.channel() as channel:
        await channel.default_exchange.publish(
            aio_pika.Message(b"\xff\x00", message_id="bytes", timestamp=AT, headers={"dead-reason": "x"}),
            routing_key=rabbit.names.dead,
        )
    before = await workplace.dead()
    for message in before:
        await rabbit_publish(rabbit, message)
    await discard(settings, tmp_path / "kept.jsonl")
    assert await rabbit.depth(rabbit.names.dead) == 0
    restored = await put_back(dead_letter_operations(settings), tmp_path / "kept.jsonl")
    assert (restored.total, restored.published, restored.already_there) == (4, 4, 0)
    after = await workplace.dead()
    assert [described(message) for message in after] == [described(message) for message in before]


async def rabbit_publish(rabbit: Rabbit, message: Any) -> None:
    """The message again, where it was."""
    async with rabbit.channel() as channel:
        again = aio_pika.Message(
            message.body,
            headers=dict(message.headers),
            message_id=message.message_id,
            type=message.type,
            content_type=message.content_type,
            timestamp=message.timestamp,
            app_id=message.app_id,
            delivery_mode=2,
        )
        await channel.default_exchange.publish(again, routing_key=rabbit.names.dead)


def described(message: Any) -> dict[str, Any]:
    headers = {name: value for name, value in message.headers.items() if not name.startswith("x-")}
    return {
        "body": message.body,
        "headers": headers,
        "id": message.message_id,
        "type": message.type,
        "timestamp": message.timestamp,
        "content_type": message.content_type,
        "app_id": message.app_id,
    }


async def test_what_rabbitmq_dead_lettered_still_has_its_reason(
    settings: Settings, rabbit: Rabbit, workplace: Workplace, tmp_path: Path
) -> None:
    """`x-death` is RabbitMQ's, and no copy keeps it; and an id that was only the body's digest stays the id."""
    async with rabbit.channel() as channel:
        await channel.default_exchange.publish(
            aio_pika.Message(b"a", headers={"x-death": [{"reason": "delivery_limit", "queue": "q"}]}),
            routing_key=rabbit.names.dead,
        )
    operations = dead_letter_operations(settings)
    [before] = (await operations.select(lambda _: True)).messages
    await discard(settings, tmp_path / "kept.jsonl")
    await put_back(operations, tmp_path / "kept.jsonl")
    [after] = (await operations.select(lambda _: True)).messages
    assert (after.id, after.reason, after.event) == (before.id, "delivery_limit", before.event)
    del workplace


async def test_what_is_there_already_is_not_put_back_twice(
    settings: Settings, rabbit: Rabbit, workplace: Workplace, tmp_path: Path
) -> None:
    """An interrupted call is repeated; and who has only half of them gets the other half."""
    await move_to_dead_letters(rabbit, [1, 2, 2, 3])
    await discard(settings, tmp_path / "kept.jsonl")
    await move_to_dead_letters(rabbit, [2, 7])
    operations = dead_letter_operations(settings)
    counted = await put_back(operations, tmp_path / "kept.jsonl", dry_run=True)
    assert (counted.published, counted.already_there) == (3, 1)
    async with asyncio.timeout(90):
        while await rabbit.depth(rabbit.names.dead) < 2:  # noqa: ASYNC110 -- RabbitMQ gives it back a moment later
            await asyncio.sleep(0.02)
    assert await rabbit.depth(rabbit.names.dead) == 2
    await put_back(operations, tmp_path / "kept.jsonl")
    again = await put_back(operations, tmp_path / "kept.jsonl")
    assert (again.published, again.already_there, again.done) == (0, 4, 4)
    assert sorted(str(message.message_id) for message in await workplace.dead()) == ids([1, 2, 2, 3, 7])


async def test_a_file_of_an_earlier_release_can_be_put_back(
    settings: Settings, rabbit: Rabbit, workplace: Workplace, tmp_path: Path
) -> None:
    """It has no encoded properties: they are made of its JSON."""
    await move_to_dead_letters(rabbit, [1], note=bytearray(b"\xff"))
    [before] = await workplace.dead()
    await rabbit_publish(rabbit, before)
    await discard(settings, tmp_path / "kept.jsonl")
    line = orjson.loads((tmp_path / "kept.jsonl").read_bytes())
    assert base64.b64decode(line.pop("raw_properties")["base64"])
    (tmp_path / "old.jsonl").write_bytes(orjson.dumps(line) + b"\n")
    await put_back(dead_letter_operations(settings), tmp_path / "old.jsonl")
    [after] = await workplace.dead()
    assert described(after) == described(before)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace('"id"', '"no-id"'), "line 2: it is not of a file of messages"),
        (
            lambda text: text.replace('"raw_properties":{"base64":"', '"raw_properties":{"base64":"!'),
            "line 2: ",
        ),
        (lambda _: "no JSON", "line 2: "),
    ],
)
async def test_nothing_is_put_back_of_a_file_with_a_wrong_line(
    change: Any, says: str, settings: Settings, rabbit: Rabbit, workplace: Workplace, tmp_path: Path
) -> None:
    """It names the line; and what is cut off at the end was never removed, so it is left out."""
    del workplace
    await move_to_dead_letters(rabbit, range(3))
    path = tmp_path / "kept.jsonl"
    await discard(settings, path)
    one, two, three = path.read_text().splitlines()
    path.write_text("\n".join([one, change(two), three, ""]))
    operations = dead_letter_operations(settings)
    with pytest.raises(MessageFileError, match=says):
        await put_back(operations, path)
    assert await rabbit.depth(rabbit.names.dead) == 0
    path.write_text("\n".join([one, two, three[:50]]))
    assert (await put_back(operations, path)).published == 2


async def test_the_commands_say_what_they_did(
    settings: Settings, rabbit: Rabbit, workplace: Workplace, tmp_path: Path, amqp_url: str, prefix: str
) -> None:
    """For people in one line, for programs as one document; a file of another queue is refused."""
    del workplace
    variables = {"BRIDGE_RABBITMQ__URLS": amqp_url, "BRIDGE_RABBITMQ__PREFIX": prefix}
    await move_to_dead_letters(rabbit, [1, 2])
    await discard(settings, tmp_path / "kept.jsonl")
    dry = await bridge("dead", "restore", "kept.jsonl", "--dry-run", directory=tmp_path, **variables)
    assert (dry.code, dry.stdout) == (0, "2 dead letters would be put back of 2 in the file\n")
    other = await bridge("quarantine", "restore", "kept.jsonl", directory=tmp_path, **variables)
    assert (other.code, await rabbit.depth(rabbit.names.malformed)) == (1, 0)
    assert "kept.jsonl: line 1: it is not of a file" in other.stderr
    done = await bridge("dead", "restore", "kept.jsonl", directory=tmp_path, **variables)
    assert (done.code, done.stdout) == (0, "put back 2 dead letters of 2 in the file\n")
    again = await bridge("dead", "restore", "kept.jsonl", "--json", directory=tmp_path, **variables)
    assert orjson.loads(again.stdout) == {
        "dry_run": False, "in_file": 2, "restored": 0, "already_there": 2, "out_of_reach": 0, "finished": True,
    }  # fmt: skip
    missing = await bridge("dead", "restore", "nowhere.jsonl", directory=tmp_path, **variables)
    assert (missing.code, missing.stderr) == (1, "bridge: nowhere.jsonl: No such file or directory\n")


async def test_quarantined_bodies_come_back_too(
    settings: Settings, rabbit: Rabbit, workplace: Workplace, tmp_path: Path
) -> None:
    """With their reason, and the time at which they were received."""
    del workplace
    async with rabbit.channel() as channel:
        await channel.default_exchange.publish(
            aio_pika.Message(
                b'{"a": 1}', message_id="m", headers={"reason": "no event", "received-at": 2**41}
            ),
            routing_key=rabbit.names.malformed,
        )
    operations = quarantine_operations(settings)
    [before] = (await operations.select(lambda _: True)).messages
    with MessageFile(tmp_path / "kept.jsonl", quarantine_document) as file:
        await operations.discard(lambda _: True, file=file, discarded=lambda _: None)
    assert (await put_back(operations, tmp_path / "kept.jsonl")).published == 1
    assert (await operations.select(lambda _: True)).messages == [before]
