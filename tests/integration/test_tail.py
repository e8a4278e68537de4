"""`bridge tail`: events live, and nobody gets less."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from bridge import events
from tests.support.archiving import archive, many
from tests.support.commands import bridge
from tests.support.proxy import Proxy
from tests.support.warm_starts import start_bridge
from tests.support.working import body_of, changed

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.settings.sections import Settings
    from tests.support.node import Control
    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit

AT = 1_750_000_000_000
CLICK = (
    b'{"message": {"id": 7}, "event": {"name": "clicked", "timestamp": 1539062173, "data": '
    b'{"url": "https://user:pw@example.com/stop/4f0c2a9be81d77aa31?token=hush#part"}}}'
)


@pytest.fixture
async def standing(rabbit: Rabbit, settings: Settings) -> None:
    """Everything that the design names."""
    await archive(rabbit, settings, [])


async def tailing(processes: Processes, overrides: dict[str, Any], *arguments: str) -> Process:
    """The command, which listens."""
    tail = await processes.start("tail", *arguments, overrides=overrides)
    await tail.says("broker.connected")
    return tail


@pytest.mark.usefixtures("standing")
async def test_every_event_is_shown_as_it_comes_in_until_ctrl_c(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, settings: Settings
) -> None:
    """When, what, about which message; a body that is no event with the reason. Then exit code 0."""
    tail = await tailing(processes, overrides)
    await archive(rabbit, settings, [(body_of("opened", 12), AT), (b'{"secret": "hush"}', AT), (CLICK, AT)])
    assert await tail.prints("opened") == "2018-10-09 05:16:13Z  opened        message 12"
    assert await tail.prints("malformed") == (
        "2025-06-15 15:06:40Z  malformed     message is missing or not an object"
    )
    await tail.prints("clicked")
    tail.send(signal.SIGINT)
    assert await tail.ended() == 0
    assert len(tail.printed) == 3


@pytest.mark.usefixtures("standing")
@pytest.mark.parametrize("arguments", [(), ("--json",)])
async def test_what_may_be_a_secret_is_not_shown(
    arguments: tuple[str, ...],
    processes: Processes,
    overrides: dict[str, Any],
    rabbit: Rabbit,
    settings: Settings,
) -> None:
    """Of a link its host and its way, without password, query, and what looks like a token."""
    tail = await tailing(processes, overrides, *arguments)
    await archive(rabbit, settings, [(CLICK, AT)])
    assert "https://example.com/stop/***?***" in await tail.prints("clicked")
    for secret in ("hush", "pw", "4f0c2a9be81d77aa31"):
        assert secret not in "".join([*tail.printed, *tail.lines])


@pytest.mark.usefixtures("standing")
async def test_only_the_named_events_as_json(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, settings: Settings
) -> None:
    """Under either spelling; a document a line."""
    tail = await tailing(processes, overrides, "--event", "complined", "--event", "skipped", "--json")
    complaint = body_of("complained", 2)
    await archive(
        rabbit, settings, [(body_of("opened", 1), AT), (complaint, AT), (body_of("skipped", 3), AT)]
    )
    await tail.prints("skipped")
    shown = [orjson.loads(line) for line in tail.printed]
    assert [document["event"] for document in shown] == ["complained", "skipped"]
    assert shown[0] == {
        "event": "complained",
        "id": events.parse(complaint).id,
        "message_id": "2",
        "timestamp": "2018-10-09T05:16:13Z",
        "received_at": "2025-06-15T15:06:40.000Z",
        "url": None,
        "problem": None,
    }


@pytest.mark.usefixtures("standing")
async def test_nobody_gets_less_and_nothing_stays_behind(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, settings: Settings, control: Control
) -> None:
    """Another queue has every event; the command's own goes with it."""
    tail = await tailing(processes, overrides)
    async with rabbit.listening(rabbit.names.events, "#") as everybody:
        await archive(rabbit, settings, [(body_of("opened", number), AT) for number in range(1, 301)])
        assert len(await everybody.take(300)) == 300
    await tail.prints("message 300")
    own = f"{rabbit.names.prefix}email.tail."
    standing = await control.queues(own, "arguments", "exclusive")
    [name] = re.findall(rf'<<"({re.escape(own)}[^"]*)">>', standing)
    assert "drop-head" in standing
    assert "{exclusive,true}" in standing
    tail.send(signal.SIGTERM)
    assert await tail.ended() == 0
    async with asyncio.timeout(90):
        while name in await control.queues(own):  # noqa: ASYNC110 -- RabbitMQ that is busy deletes it after the end
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("standing")
async def test_a_terminal_that_stands_still_holds_up_nobody(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, settings: Settings, control: Control
) -> None:
    """Everything is confirmed, and RabbitMQ keeps no more for it than its queue may hold: the newest."""
    # It stands still for as long as the events take, and a connection without heartbeats would be closed meanwhile.
    tail = await tailing(processes, changed(overrides, rabbitmq={"heartbeat": 300}))
    tail.send(signal.SIGSTOP)
    await archive(rabbit, settings, many("opened", 11_000, AT))
    standing = await control.queues(f"{rabbit.names.prefix}email.tail.", "messages_ready")
    [ready] = re.findall(r"{messages_ready,(\d+)}", standing)
    assert 0 < int(ready) <= 10_000
    tail.send(signal.SIGCONT)
    await tail.prints("message 11000")
    assert len(tail.printed) < 11_000


@pytest.mark.usefixtures("standing")
async def test_a_lost_connection_is_reported_and_tried_again(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, settings: Settings, amqp_url: str
) -> None:
    """On standard error; what comes afterwards is shown."""
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        tail = await tailing(processes, overrides)
        await archive(rabbit, settings, [(body_of("opened", 1), AT)])
        await tail.prints("message 1")
        proxy.refuse()
        await tail.says("broker.retry")
        proxy.accept()
        await tail.says("broker.connected", times=2)
        await archive(rabbit, settings, [(body_of("opened", 2), AT)])
        await tail.prints("message 2")
        tail.send(signal.SIGINT)
        assert await tail.ended() == 0


@pytest.mark.usefixtures("standing")
async def test_a_reader_that_has_enough_ends_it_without_a_complaint(
    rabbit: Rabbit, settings: Settings, tmp_path: Path, amqp_url: str, prefix: str
) -> None:
    """As `bridge tail | head -1`: exit code 0, and no traceback."""
    reading, writing = os.pipe()
    variables = {
        "BRIDGE_RABBITMQ__URL": amqp_url, "BRIDGE_RABBITMQ__PREFIX": prefix,
        "BRIDGE_RABBITMQ__CONNECT_TIMEOUT": "20",
    }  # fmt: skip
    process = await start_bridge("tail", cwd=tmp_path, env=os.environ | variables, stdout=writing)
    os.close(writing)
    assert process.stderr is not None
    async with asyncio.timeout(90):
        assert b"broker.connected" in await process.stderr.readline()
        os.close(reading)
        await archive(rabbit, settings, [(body_of("opened", 1), AT)])
        _, said = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in said
    assert b"BrokenPipe" not in said


async def test_without_an_exchange_it_says_so(
    rabbit: Rabbit, tmp_path: Path, amqp_url: str, prefix: str
) -> None:
    """One line that names it, and exit code 1."""
    outcome = await bridge(
        "tail", directory=tmp_path, BRIDGE_RABBITMQ__URL=amqp_url, BRIDGE_RABBITMQ__PREFIX=prefix
    )
    assert outcome.code == 1
    [line] = outcome.stderr.splitlines()
    assert line.startswith(f"bridge: there is no exchange '{rabbit.names.events}'")


async def test_help_shows_an_example_and_the_variables(tmp_path: Path) -> None:
    """A line to copy, and what must be set."""
    shown = (await bridge("tail", "--help", directory=tmp_path)).stdout
    assert "Example: bridge tail --event hard_bounced" in shown
    assert "BRIDGE_RABBITMQ__URLS" in shown
