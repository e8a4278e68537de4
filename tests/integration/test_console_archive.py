"""The console's page of the archive, without a browser: counts, searches, one event, replays."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from bridge.broker import archive as archive_of_broker
from bridge.operations import archive_search
from bridge.settings.loading import load_settings
from tests.support.archiving import archive, many, today
from tests.support.console import OVERRIDER, READER, TOKENS, WRITER, console_client, serving_console
from tests.support.working import body_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.settings.sections import Settings
    from tests.support.console import ConsoleClient, Page
    from tests.support.rabbit import Rabbit

AT = 1_750_000_000_000
"""2025-06-15T15:06:40Z, in milliseconds."""
DAY = 86_400_000
MIXED = [
    (body_of("clicked", 1), AT),
    (body_of("complained", 2), AT + 1),
    (body_of("opened", 1), AT + DAY),
    (b'{"message": "<script>alert(1)</script>"}', AT + DAY),
    (body_of("clicked", 3), AT + 2 * DAY),
]


@pytest.fixture
def overrides(overrides: dict[str, dict[str, Any]], tmp_path: Path) -> dict[str, dict[str, Any]]:
    return overrides | {
        "api": {"port": 0, "tokens": TOKENS},
        "console": {"directory": f"{tmp_path}/files"},
    }


@pytest.fixture
async def console(
    overrides: dict[str, dict[str, Any]], rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ConsoleClient]:
    del rabbit  # it must outlive the console
    monkeypatch.setattr(archive_of_broker, "_LAST_CHUNK_SECONDS", 1.0)
    async with serving_console(load_settings(overrides=overrides)) as client:
        await client.sign_in(OVERRIDER)
        yield client


async def found(console: ConsoleClient, **query: str) -> str:
    """What a search has found at its end."""
    page = await console.get("/archive", search="yes", **query)
    assert page.status == 200, page.text
    return await ended(console, page)


async def ended(console: ConsoleClient, page: Page) -> str:
    text = page.text
    async with asyncio.timeout(90):
        while asks := re.search(
            r'hx-get="/console(/(?:archive/searches|jobs)/[^"]+)" hx-trigger="every', text
        ):
            await asyncio.sleep(0.05)
            text = (await console.fragment(asks[1])).text
    return text


def rows(text: str) -> list[str]:
    """The offsets of the events that are listed."""
    return re.findall(r'href="/console/archive/events/(\d+)"', text)


async def test_events_are_counted_by_name_and_day(
    console: ConsoleClient, rabbit: Rabbit, settings: Settings
) -> None:
    """Of all days, of one of them by the buttons, of a message, of some names."""
    now = await today()
    yesterday = now // DAY * DAY - DAY // 2
    await archive(rabbit, settings, [*MIXED, (body_of("opened", 7), yesterday), (body_of("opened", 8), now)])
    form = (await console.get("/archive")).text
    assert "Choose a day, or search" in form
    everything = await found(console)
    assert "<strong>7 events</strong>" in everything
    assert "All events" in everything
    assert rows(everything) == [*"0123456"]
    for cell in (
        '<th scope="row">opened</th><td class="number">3</td>',
        '2025-06-16</th><td class="number">2</td>',
    ):
        assert cell in everything
    presets = dict(re.findall(r'href="/console(/archive\?[^"]+)">(Yesterday|Today|Last 7 days)<', form))
    counts = {}
    for path, title in presets.items():
        page = await console.get(path.replace("&amp;", "&"))
        counts[title] = rows(await ended(console, page))
    assert counts == {"Yesterday": ["5"], "Today": ["6"], "Last 7 days": ["5", "6"]}
    assert rows(await found(console, message="1")) == ["0", "2"]
    assert rows(await found(console, name="complined, opened", until="2025-06-16T15:06")) == ["1"]
    assert "Nothing in the archive matches" in await found(console, message="nobody's")
    assert "<script>alert" not in everything


async def test_one_event_is_shown_whole(
    console: ConsoleClient, rabbit: Rabbit, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With headers and body, which become no markup."""
    await archive(rabbit, settings, MIXED)
    with monkeypatch.context() as patient:  # on a busy machine RabbitMQ may need longer than 2 s
        patient.setattr(archive_search, "_ANSWER_SECONDS", 20.0)
        event = (await console.get("/archive/events/3")).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in event
    assert "received-at" in event
    assert "<script>alert" not in event
    assert (await console.get("/archive/events/99")).status == 404
    assert (await console.get("/archive/events/x")).status == 422


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"since": "yesterday"}, "is not a time"),
        ({"since": "2025-06-16", "until": "2025-06-15"}, "is not before"),
        ({"name": ",".join("abcdefghijklmnopqrstuvwxyz" * 2)}, "more than 50 names"),
        ({"from_offset": "x"}, "a whole number"),
        ({"message": "x" * 2000}, "longer than"),
    ],
)
async def test_what_cannot_be_searched_is_said(
    console: ConsoleClient, query: dict[str, str], says: str
) -> None:
    """In words, and nothing is started."""
    page = await console.get("/archive", search="yes", **query)
    assert (page.status, says in page.text) == (422, True)


async def test_a_search_is_stopped_and_a_long_list_goes_on(
    console: ConsoleClient, rabbit: Rabbit, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are counted, and the following ones are a link away."""
    await archive(rabbit, settings, many("opened", 450, AT))
    first = await found(console)
    assert (len(rows(first)), "<strong>450 events</strong>" in first) == (50, True)
    [link] = re.findall(r'href="/console(/archive\?[^"]+)">The following ones', first)
    assert "from_offset=50" in link
    second = await ended(console, await console.get(link.replace("&amp;", "&")))
    assert (rows(second)[0], "<strong>400 events</strong>" in second) == ("50", True)
    monkeypatch.setattr(archive_of_broker, "_LAST_CHUNK_SECONDS", 60.0)  # it does not end by itself
    page = (await console.get("/archive", search="yes", message="1")).text
    stop = re.search(r'hx-post="/console(/archive/searches/[^"]+)"', page)
    assert stop is not None
    assert "before the search was stopped" in await ended(console, await console.post(stop[1]))


async def test_events_are_replayed_to_one_queue(
    console: ConsoleClient, rabbit: Rabbit, settings: Settings
) -> None:
    """What was searched for, and nobody else gets anything; a reader may not, and only who may override reaches everybody."""
    await archive(rabbit, settings, MIXED)
    queue = f"{rabbit.names.prefix}replayed"
    async with rabbit.channel() as channel:
        await channel.declare_queue(queue, durable=True)
    fields = {"name": "clicked", "to": "queue", "queue": queue, "rate": "1000", "note": "lost by us"}
    answer = await console.post("/archive/replay", **fields)
    done = await ended(console, await console.get(answer.location.removeprefix("/console")))
    assert f"2 of 5 archived events are in the queue {queue}." in done
    assert "lost by us" in done
    once = re.findall(r'name="once" value="([0-9a-f]+)"', (await console.get("/archive")).text)
    clicks = [await console.post("/archive/replay", **fields, once=once[0]) for _ in range(2)]
    assert clicks[0].location == clicks[1].location != answer.location
    await ended(console, await console.get(clicks[0].location.removeprefix("/console")))
    async with rabbit.reading(queue) as reading:
        assert [orjson.loads(one.body)["message"]["id"] for one in await reading.take(4)] == [1, 3, 1, 3]
    assert (await console.post("/archive/replay", **fields | {"note": ""})).status == 422
    assert (await console.post("/archive/replay", **fields | {"queue": ""})).status == 422
    missing = await console.post("/archive/replay", **fields | {"queue": "nobody-has-this"})
    failed = await ended(console, await console.get(missing.location.removeprefix("/console")))
    assert "there is no queue &#39;nobody-has-this&#39;" in failed
    for name, statuses in ((READER, (403, 403)), (WRITER, (303, 403))):
        async with console_client(console.base) as other:
            await other.sign_in(name)
            assert ("Replay</button>" in (await other.get("/archive")).text) == (name == WRITER)
            assert (
                (await other.post("/archive/replay", **fields)).status,
                (await other.post("/archive/replay", **fields | {"to": "everybody"})).status,
            ) == statuses
    async with rabbit.channel() as channel:
        await channel.queue_delete(queue)


async def test_a_stopped_replay_says_where_to_go_on(
    console: ConsoleClient, rabbit: Rabbit, settings: Settings
) -> None:
    """With a link to the form, in which all is as it was; together everything has arrived."""
    await archive(rabbit, settings, many("opened", 120, AT))
    queue = f"{rabbit.names.prefix}replayed"
    async with rabbit.channel() as channel:
        await channel.declare_queue(queue, durable=True)
    fields = {"name": "opened", "to": "queue", "queue": queue, "rate": "10", "note": "lost by us"}
    answer = await console.post("/archive/replay", **fields)
    path = answer.location.removeprefix("/console")
    async with rabbit.reading(queue) as reading:
        arrived = [message.body for message in await reading.take(10)]
        assert (await console.post(f"{path}/stop")).status == 303
        stopped = await ended(console, await console.get(path))
        assert "Stopped" in stopped
        [link] = re.findall(r'href="/console(/archive\?[^"]+)#replay">Go on', stopped)
        form = (await console.get(link.replace("&amp;", "&"))).text
        going_on = dict(
            re.findall(r'name="(name|queue|from_offset)"[^>]* value="([^"]+)"', form.partition("<h2")[2])
        )
        assert 0 < int(going_on["from_offset"]) <= 120
        answer = await console.post("/archive/replay", **fields | going_on | {"rate": "1000"})
        await ended(console, await console.get(answer.location.removeprefix("/console")))
        while len(set(arrived)) < 120:
            arrived.append((await reading.next()).body)
    assert set(arrived) == {body for body, _ in many("opened", 120, AT)}
    async with rabbit.channel() as channel:
        await channel.queue_delete(queue)


async def test_without_an_archive_or_rabbitmq_it_is_said(
    console: ConsoleClient, overrides: dict[str, dict[str, Any]]
) -> None:
    """In words, where the events would be."""
    assert "there is no archive" in await found(console)
    assert "there is no archive" in (await console.get("/archive/events/1")).text
    nobody = overrides | {"rabbitmq": {"urls": ["amqp://127.0.0.1:1/"]}}
    async with serving_console(load_settings(overrides=nobody)) as other:
        await other.sign_in(OVERRIDER)
        assert (await other.get("/archive")).status == 200
        assert "RabbitMQ cannot be reached" in await found(other)
