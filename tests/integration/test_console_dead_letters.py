"""The console's page of dead letters, without a browser: what it shows, and what its forms do in RabbitMQ."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aio_pika
import orjson
import pytest
from multidict import MultiDict

from bridge.dead_letters import queue_reader
from bridge.settings.loading import load_settings
from tests.support.console import OVERRIDER, READER, TOKENS, WRITER, console_client, serving_console
from tests.support.dead_letters import ids, move_to_dead_letters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.console import ConsoleClient, Page
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]], tmp_path: Path) -> dict[str, dict[str, Any]]:
    return overrides | {
        "api": {"port": 0, "tokens": TOKENS},
        "console": {"directory": f"{tmp_path}/files"},
    }


@pytest.fixture
async def console(overrides: dict[str, dict[str, Any]], workplace: Workplace) -> AsyncIterator[ConsoleClient]:
    del workplace  # the queues must stand
    async with serving_console(load_settings(overrides=overrides)) as client:
        await client.sign_in(OVERRIDER)
        yield client


async def shown(console: ConsoleClient) -> str:
    """The groups, however long it takes to read them."""
    page = await console.get("/dead-letters")
    assert page.status == 200
    if 'id="groups"' in page.text:
        return page.text
    page = await console.fragment("/dead-letters/groups")
    assert page.status == 200, page.text
    return page.text


async def group(console: ConsoleClient, number: int = 0) -> Page:
    """The page of a group, in the order of the list."""
    links = re.findall(r'href="/console(/dead-letters/groups/[^"]+)"', await shown(console))
    return await console.get(links[number])


def fields_of(page: Page) -> dict[str, str]:
    """What chooses all letters of the group."""
    hidden = dict(re.findall(r'name="(as_of|group)" value="([^"]+)"', page.text))
    return hidden | {"which": "group", "note": "asked by support", "rate": "1000"}


async def job_of(console: ConsoleClient, answer: Page) -> Page:
    """The page of the job that was started, when it has ended."""
    assert answer.status == 303, answer.text
    path = answer.location.removeprefix("/console")
    async with asyncio.timeout(90):
        while 'hx-trigger="every 1s"' in (page := await console.get(path)).text.partition("<main")[2]:  # noqa: ASYNC110 -- a page does not tell
            await asyncio.sleep(0.05)
    return page


async def first_has_moved(rabbit: Rabbit) -> None:
    """Until a letter is in the worker's queue."""
    async with asyncio.timeout(90):
        while await rabbit.depth(rabbit.names.suppression) == 0:  # noqa: ASYNC110 -- RabbitMQ does not tell
            await asyncio.sleep(0.05)


async def dead_are(rabbit: Rabbit, count: int) -> None:
    """Until so many are dead letters. What somebody has looked at RabbitMQ gives back a moment later: with a write to its disk."""
    async with asyncio.timeout(90):
        while await rabbit.depth(rabbit.names.dead) != count:  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0.05)


async def test_letters_are_grouped_by_reason_and_error(console: ConsoleClient, rabbit: Rabbit) -> None:
    """With counts, what the reason means, and what to do; nothing where there are none."""
    assert "There are no dead letters." in await shown(console)
    await move_to_dead_letters(rabbit, range(3), hours=26)
    await move_to_dead_letters(rabbit, [3], event="complained")
    await move_to_dead_letters(rabbit, [4], reason="malformed")
    text = await eventually_shown(console, "5 dead letters in 2 groups")
    assert "the provider does not know the message" in text
    assert "hard_bounced (3), complained (1)" in text
    assert "1 d 2 h ago" in text
    page = await group(console)
    assert "4 × unknown-message" in page.text
    assert "Check that provider.api_token belongs to the account" in page.text
    assert page.text.count('type="checkbox"') == 4


async def eventually_shown(console: ConsoleClient, part: str) -> str:
    """A listing is shown to others for some seconds."""
    async with asyncio.timeout(90):
        while part not in (text := await shown(console)):  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0.1)
    return text


async def test_one_letter_is_shown_whole_and_nothing_in_it_becomes_markup(
    console: ConsoleClient, rabbit: Rabbit
) -> None:
    """Whatever its id, headers and body are."""
    letter_id = f"a/b {HOSTILE}"
    await move_to_dead_letters(rabbit, [1])
    async with rabbit.channel() as channel:
        headers: dict[str, Any] = {
            "dead-reason": HOSTILE,
            "dead-error": HOSTILE,
            HOSTILE: HOSTILE,
            "b": bytearray(b"\xff"),
        }
        for body, name in ((orjson.dumps({"a": HOSTILE}), letter_id), (b"\xff\xfe<script>", "bytes")):
            await channel.default_exchange.publish(
                aio_pika.Message(body, message_id=name, type=HOSTILE, headers=headers), rabbit.names.dead
            )
    whole = await console.get("/dead-letters/letter-1")
    for part in (
        "unknown-message",
        "the provider does not know it",
        "retry-error",
        "<dt>Attempts</dt><dd>4</dd>",
    ):
        assert part in whole.text
    hostile = await console.get(f"/dead-letters/{quote(letter_id, safe='')}")
    assert hostile.status == 200
    assert "&lt;script&gt;alert(1)" in hostile.text
    for text in (
        hostile.text,
        await shown(console),
        (await group(console)).text,
        (await group(console, 1)).text,
    ):
        assert "<script>alert" not in text
    binary = await console.get("/dead-letters/bytes")
    assert "000000  ff fe 3c 73 63" in binary.text
    missing = await console.get("/dead-letters/letter-9")
    assert (missing.status, "There is no dead letter" in missing.text) == (404, True)


async def test_a_group_is_replayed_and_what_came_since_is_left_alone(
    console: ConsoleClient, rabbit: Rabbit, workplace: Workplace
) -> None:
    """Also one with the same id; the log and the page say who did it and why."""
    await move_to_dead_letters(rabbit, range(3), hours=1)
    await move_to_dead_letters(rabbit, [9], reason="malformed")
    page = await group(console)
    await move_to_dead_letters(rabbit, [2, 5])
    done = await job_of(console, await console.post("/dead-letters/replay", **fields_of(page)))
    assert "Finished" in done.text
    assert f"3 dead letters went back into the queue {rabbit.names.suppression}." in done.text
    assert "console:overrider" in done.text
    assert "asked by support" in done.text
    assert await rabbit.depth(rabbit.names.suppression) == 3
    again = await job_of(console, await console.post("/dead-letters/replay", **fields_of(page)))
    assert "3 of those that were chosen were not there any more" in again.text
    assert [message.message_id for message in await workplace.dead()] == ids([9, 2, 5])


async def test_letters_are_discarded_into_a_file_and_put_back(
    console: ConsoleClient, rabbit: Rabbit, tmp_path: Path
) -> None:
    """Only those that were ticked, after a question; the file is for its owner only, and can be saved."""
    await move_to_dead_letters(rabbit, range(4))
    page = await group(console)
    places = re.findall(r'name="letter" value="(\d+)" aria-label="Tick letter-[13]"', page.text)
    fields = fields_of(page) | {"which": "ticked"}
    chosen = MultiDict([*fields.items(), *(("letter", place) for place in places), ("csrf", console.csrf)])
    asked = await console._ask("POST", "/dead-letters/discard", None, data=chosen)
    assert (asked.status, "Discard 2 dead letters?" in asked.text) == (200, True)
    await dead_are(rabbit, 4)
    chosen.add("confirmed", "yes")
    done = await job_of(
        console,
        await console._ask("POST", "/dead-letters/discard", None, data=chosen),
    )
    assert "2 dead letters were removed" in done.text
    [file] = (tmp_path / "files").iterdir()
    assert ((tmp_path / "files").stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert "support" not in file.name
    saved = await console.get(f"/dead-letters/files/{file.name}")
    assert saved.headers["Content-Disposition"] == f'attachment; filename="{file.name}"'
    assert [orjson.loads(line)["id"] for line in saved.text.splitlines()] == ids([1, 3])
    await dead_are(rabbit, 2)
    assert file.name in (await console.get("/dead-letters")).text
    back = await job_of(
        console, await console.post(f"/dead-letters/files/{file.name}/restore", note="a mistake")
    )
    assert "2 dead letters came back." in back.text
    await dead_are(rabbit, 4)
    twice = await job_of(
        console, await console.post(f"/dead-letters/files/{file.name}/restore", note="again")
    )
    assert "0 dead letters came back. 2 were there already." in twice.text
    for name in ("..%2Flist.sqlite3", "dead-letters-1.jsonl", "dead-letters-20260102T030405Z.jsonl"):
        assert (await console.get(f"/dead-letters/files/{name}")).status == 404


async def test_scopes_and_notes_are_asked_for(console: ConsoleClient, rabbit: Rabbit) -> None:
    """A reader sees no form, and is refused; a writer replays and does not discard; nothing without a note."""
    await move_to_dead_letters(rabbit, [1])
    fields = fields_of(await group(console))
    no_note = await console.post("/dead-letters/replay", **fields | {"note": " "})
    assert (no_note.status, "write a note" in no_note.text) == (422, True)
    assert (await console.post("/dead-letters/replay", **fields | {"rate": "fast"})).status == 422
    assert (await console.post("/dead-letters/replay", **fields | {"which": "ticked"})).status == 422
    old = await console.post("/dead-letters/replay", **fields | {"as_of": "everything-1"})
    assert (old.status, "out of date" in old.text) == (409, True)
    assert (await console.post("/dead-letters/replay", **fields | {"letter": "7", "which": ""})).status == 409
    for name, statuses in ((READER, (403, 403, 403)), (WRITER, (303, 403, 404))):
        async with console_client(console.base) as other:
            await other.sign_in(name)
            page = await other.get(f"/dead-letters/groups/{fields['group']}", as_of=fields["as_of"])
            assert ("Replay</button>" in page.text) == (name == WRITER)
            assert "Discard …" not in page.text
            answers = [
                (await other.post(path, **fields)).status
                for path in (
                    "/dead-letters/replay",
                    "/dead-letters/discard",
                    "/dead-letters/files/dead-letters-20260102T030405Z.jsonl/restore",
                )
            ]
            assert tuple(answers) == statuses


async def test_two_who_replay_the_same_are_told_of_each_other(console: ConsoleClient, rabbit: Rabbit) -> None:
    """The second in words; who looks meanwhile sees what goes on, and a job can be stopped."""
    await move_to_dead_letters(rabbit, range(20))
    page = await group(console)
    fields = fields_of(page) | {"rate": "0.5"}
    first = await console.post("/dead-letters/replay", **fields)
    assert first.status == 303
    second = await console.post("/dead-letters/replay", **fields)
    assert (second.status, "started by console:overrider, is not finished" in second.text) == (409, True)
    looking = await console.get("/dead-letters")
    assert "is running" in looking.text
    path = first.location.removeprefix("/console")
    await first_has_moved(rabbit)
    stopped = await job_of(console, await console.post(f"{path}/stop"))
    assert "Stopped" in stopped.text
    assert re.search(r"\d dead letters? went back", stopped.text)
    assert "The others are still among the dead letters" in stopped.text
    assert "no dead letters" not in await shown(console)


async def test_a_command_that_reads_them_meanwhile_is_named(
    console: ConsoleClient, rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the page and by a job; nothing is touched, and when the other has ended all is as before."""
    await move_to_dead_letters(rabbit, [1])
    page = await group(console)
    monkeypatch.setattr(queue_reader, "_LOCK_TIMEOUT_SECONDS", 0.3)
    async with rabbit.channel() as channel:
        await channel.set_qos(prefetch_count=1)
        await (await channel.get_queue(rabbit.names.dead)).consume(asyncio.Queue[Any]().put)
        job = await job_of(console, await console.post("/dead-letters/replay", **fields_of(page)))
        assert "It did not come to its end" in job.text
        assert "another command is reading the dead letters" in job.text
        looking = await console.get("/dead-letters")
        if looking.status == 200:
            looking = await console.fragment("/dead-letters/groups")
        assert (looking.status, "Somebody else reads the dead letters" in looking.text) == (409, True)
        assert (await console.get("/dead-letters/letter-1")).status == 409
    monkeypatch.undo()  # on a busy machine RabbitMQ may take a moment to know that the other has ended
    assert "1 dead letter in 1 group" in await shown(console)


async def test_what_cannot_be_kept_is_not_discarded(
    console: ConsoleClient, rabbit: Rabbit, tmp_path: Path
) -> None:
    """The folder cannot be made: it is said, and the letters stay."""
    await move_to_dead_letters(rabbit, [1])
    (tmp_path / "files").write_text("no folder")
    fields = fields_of(await group(console)) | {"confirmed": "yes"}
    refused = await console.post("/dead-letters/discard", **fields)
    assert (refused.status, "console.directory" in refused.text) == (503, True)
    await dead_are(rabbit, 1)


async def test_a_job_ends_in_order_with_the_process(
    overrides: dict[str, dict[str, Any]], rabbit: Rabbit, workplace: Workplace
) -> None:
    """Every letter is in one of the queues."""
    await move_to_dead_letters(rabbit, range(20))
    async with serving_console(load_settings(overrides=overrides)) as console:
        await console.sign_in(OVERRIDER)
        page = await group(console)
        assert (await console.post("/dead-letters/replay", **fields_of(page) | {"rate": "2"})).status == 303
        await first_has_moved(rabbit)
    async with rabbit.reading(rabbit.names.suppression) as queue:
        replayed = [(await queue.next()).message_id]
        left = [message.message_id for message in await workplace.dead()]
        while set(replayed) | set(left) != set(ids(range(20))):  # what is on the way stands nowhere
            replayed.append((await queue.next()).message_id)
    assert left


async def test_without_a_queue_or_rabbitmq_it_is_said(
    console: ConsoleClient, rabbit: Rabbit, overrides: dict[str, dict[str, Any]]
) -> None:
    """With the right status, and no traceback."""
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.dead)
    page = await console.get("/dead-letters")
    if page.status == 200:
        page = await console.fragment("/dead-letters/groups")
    assert (page.status, f"there is no queue &#39;{rabbit.names.dead}&#39;" in page.text) == (503, True)
    nobody = overrides | {"rabbitmq": {"urls": ["amqp://127.0.0.1:1/"]}}
    async with serving_console(load_settings(overrides=nobody)) as other:
        await other.sign_in(OVERRIDER)
        page = await other.get("/dead-letters")
        if page.status == 200:
            page = await other.fragment("/dead-letters/groups")
        assert (page.status, "RabbitMQ cannot be reached" in page.text) == (503, True)
        assert "Traceback" not in page.text
