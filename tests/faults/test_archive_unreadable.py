"""After a power cut RabbitMQ 3.10 cannot read the archive: what it costs, who says so, and the way out of it."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiohttp import ClientSession
from structlog.testing import capture_logs

from bridge.amqp import publisher
from bridge.amqp.connection import open_connection
from bridge.broker.archive import read_archive
from bridge.broker.topology import Names
from bridge.development.emission import event_body
from bridge.development.private_node import PrivateNode
from bridge.diagnostics.doctor import run_checks
from bridge.receiver import confirm_causes
from bridge.roles.lifetime import Lifetime
from bridge.roles.receiver import receiver
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from bridge.spool import unconfirmed
from bridge.tasks import background_task, wait_while_running
from tests.conftest import TOKEN
from tests.support.node import Control
from tests.support.ports import free_port
from tests.support.receiving import designed
from tests.support.torn_streams import tear
from tests.support.working import AT, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.settings.sections import Settings

Overrides = dict[str, dict[str, Any]]
DoctorsLine = tuple[str, str, str]

CHECK = "queues that confirm"
BEFORE = 50
MOST_PROBES = 40
"""In the time of the test, at one each second at most."""
WRITTEN_SECONDS = 3
"""By then RabbitMQ has written that there are streams at all, which it keeps in its own memory for a while; nothing tells."""
_PATIENCE_SECONDS = 90
"""A batch and a probe are lost before a cause is looked for, and the node is busy with crashes."""
_LOOK_EVERY_SECONDS = 0.2


@dataclass(slots=True)
class Scene:
    """A node of the test's own, and a receiver on it: the role itself, ten times as impatient."""

    settings: Settings
    node: PrivateNode
    client: ClientSession
    logs: list[Any]

    async def post(self, port: int, number: int) -> str:
        url = f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}"
        async with self.client.post(url, data=event_body("opened", number, AT, {})) as answer:
            return str((await answer.json())["durability"])

    async def doctor(self, truth: Callable[[DoctorsLine], bool]) -> DoctorsLine:
        """What the doctor says of it: status, what was seen, what to do; once this is true of it."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                [found] = [one for one in await run_checks(lambda: self.settings) if one.check == CHECK]
                line = (found.status.value, found.seen, found.advice)
                if truth(line):
                    return line

    def causes(self) -> list[Any]:
        """What the receiver's log says of the cause: to the API the archive may be online, in the moments between two crashes."""
        actions = ("receiver.queue_unconfirmed", "receiver.unconfirmed_cause_unseen")
        return [line for line in self.logs if line["action"] in actions]

    async def entries(self) -> int:
        async with self.client.get(f"http://127.0.0.1:{self.settings.health.port}/readyz") as answer:
            return int((await answer.json())["spool"]["entries"])


@pytest.fixture
async def scene(overrides: Overrides, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(unconfirmed, "FIRST_PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(confirm_causes, "_STATISTICS_SECONDS", 1.0)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-torn-")), "node")
        node = PrivateNode(folder, management=True, quick_counts=True)
        stack.callback(node.stop_port_mapper)
        stack.push_async_callback(node.kill)
        await node.start()
        port = free_port()
        settings = load_settings(
            overrides=changed(
                overrides,
                rabbitmq={"urls": [node.url], "management_url": node.management_url},
                receiver={"confirm_wait": 0.25},
                health={"port": port, "roles": [f"http://127.0.0.1:{port}"]},
            )
        ).model_copy(update={"subscribers": (Subscriber(queue="crm", events=("#",)),)})
        client = await stack.enter_async_context(ClientSession())
        logs = stack.enter_context(capture_logs())
        yield Scene(settings, node, client, logs)


async def test_an_archive_that_cannot_be_read_after_a_power_cut(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost and the others get all; doctor and log name it, and the runbook ends it. RabbitMQ 4 mends it by itself."""
    names = Names(scene.settings.rabbitmq.prefix)
    control = Control(scene.node.environment)
    if int((await control.version()).split(".")[0]) >= 4:
        pytest.skip("RabbitMQ 4 cuts off what is torn, and begins anew with an empty stream")
    lifetime = Lifetime()
    async with background_task(receiver(scene.settings, lifetime), name="receiver") as taking:
        await wait_while_running(lifetime.started, taking)
        port = lifetime.port
        posted = await _confirmed(scene, port, 0) + BEFORE
        for number in range(posted - BEFORE + 1, posted + 1):
            await scene.post(port, number)
        await _spool_is_empty(scene)  # of what a busy node has not confirmed in good time
        await asyncio.sleep(WRITTEN_SECONDS)
        await scene.node.kill()
        tear(scene.node.directory)
        await scene.node.start()

        before = posted + 1
        with monkeypatch.context() as impatient:
            # Only now: what a node that is well does not confirm at once it confirms soon, and each event is to be archived once.
            impatient.setattr(publisher, "UNRESPONSIVE_SECONDS", 1.0)
            posted = await _until_a_cause_is_told(scene, port, before)
        assert await scene.entries() > 0
        [line, *_] = scene.causes()
        assert line["names"] == ["opened"]
        assert line.get("queue", names.archive) == names.archive
        # Between two crashes the archive looks well for moments.
        status, seen, advice = await scene.doctor(lambda line: f"'{names.archive}'" in line[1])
        assert status == "failed"
        assert seen.startswith("RabbitMQ does not confirm opened to the receiver http://")
        assert f"`rabbitmqctl delete_queue {names.archive}`" in advice
        assert "docs/operate.md, 'The archive cannot be read after a power cut'" in advice

        await control.run("delete_queue", names.archive)
        async with await open_connection(scene.node.url, name="bridge topology apply") as connection:
            await designed(scene.settings)(connection)
        await _spool_is_empty(scene)
        posted = await _confirmed(scene, port, posted + 1)
        await _spool_is_empty(scene)
        await scene.doctor(lambda line: line[0] == "ok")  # a node that is busy once more is told of as well
        lifetime.stop.set()
        await taking
    async with await open_connection(scene.node.url, name="looks") as connection:
        others = await _of_queue(connection, f"{names.prefix}crm", posted)
        archived = await _of_stream(connection, names.archive)
    assert set(others) == set(range(posted + 1)), "each event that was answered 200"
    assert others.total() <= 2 * posted + MOST_PROBES
    assert archived[posted] == 1
    assert set(archived) <= set(range(before, posted + 1))
    assert set(archived.values()) == {1}


async def _until_a_cause_is_told(scene: Scene, port: int, number: int) -> int:
    """Post this and the following ones; returns the number of the last."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        # Until the node has tried to start the stream, an event may go to the others alone.
        await scene.post(port, number)
        while not scene.causes():
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            number += 1
            await scene.post(port, number)
    return number


async def _confirmed(scene: Scene, port: int, number: int) -> int:
    """Post this and the following ones until one is: a receiver that has just connected spools. Returns its number."""
    while await scene.post(port, number) != "confirmed":
        number += 1
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    return number


async def _spool_is_empty(scene: Scene) -> None:
    while await scene.entries():  # noqa: ASYNC110 -- there is no event to await
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def _of_queue(connection: AbstractConnection, queue: str, last: int) -> Counter[int]:
    """How often each event is in it, until all up to the last one are found."""
    found: Counter[int] = Counter()
    async with (
        connection.channel() as channel,
        (await channel.get_queue(queue)).iterator(no_ack=True) as arriving,
    ):
        async for message in arriving:
            found[_number(message.body)] += 1
            if len(found) > last:
                break
    return found


async def _of_stream(connection: AbstractConnection, stream: str) -> Counter[int]:
    async with aclosing(read_archive(connection, stream)) as batches:
        return Counter([_number(event.body) async for batch in batches for event in batch])


def _number(body: bytes) -> int:
    return int(orjson.loads(body)["message"]["id"])
