"""Events that RabbitMQ refuses, posted to a real receiver: they are kept, and cost the others nothing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
from yarl import URL

from bridge.development import private_node
from tests.conftest import TOKEN
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.node import Control
    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit

Overrides = dict[str, dict[str, Any]]

PATIENCE_SECONDS = 90
LARGEST = 5000
"""Bytes that RabbitMQ takes."""


@dataclass(frozen=True, slots=True)
class Receiver:
    process: Process
    port: int
    health_port: int
    http: aiohttp.ClientSession

    async def post(self, name: str, number: int = 1, **data: Any) -> str:
        """What is answered: `confirmed` or `spooled`."""
        event = {"name": name, "timestamp": 1_539_062_173, "data": data}
        body = orjson.dumps({"message": {"id": number}, "event": event})
        url = f"http://127.0.0.1:{self.port}/webhooks/msndr/{TOKEN}"
        async with self.http.post(url, data=body) as answer:
            assert answer.status == 200
            return str((await answer.json())["durability"])

    async def confirms(self, name: str) -> None:
        """Post until one is confirmed at once."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.post(name) != "confirmed":  # noqa: ASYNC110 -- there is no event to await
                await asyncio.sleep(0.02)

    async def becomes(self, truth: Callable[[Any], bool]) -> Any:
        """What `/readyz` says once this is true of it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                async with self.http.get(f"http://127.0.0.1:{self.health_port}/readyz") as answer:
                    said = await answer.json()
                if truth(said):
                    return said
                await asyncio.sleep(0.05)

    async def sample(self, name: str) -> float:
        async with self.http.get(f"http://127.0.0.1:{self.health_port}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.split()[1]) for line in lines if line.split()[0] == name)


@asynccontextmanager
async def started(processes: Processes, overrides: Overrides) -> AsyncIterator[Receiver]:
    overrides["health"]["port"] = free_port()
    process = await processes.start("receiver", overrides=overrides)
    port = (await process.says("receiver.started"))["port"]
    await process.says("broker.connected")
    async with aiohttp.ClientSession() as http:
        yield Receiver(process, port, overrides["health"]["port"], http)


async def test_a_name_that_is_forbidden_costs_the_others_nothing(
    processes: Processes, overrides: Overrides, rabbit: Rabbit, control: Control, prefix: str
) -> None:
    """Once it is known, no event but those of that name goes to the spool; allowed, they all go, and so do new ones."""
    exchange = rabbit.names.events
    await control.add_user(prefix, "secret", configure=".*", topics={exchange: "^(?!newname$).*$"})
    (url,) = overrides["rabbitmq"]["urls"]
    overrides["rabbitmq"]["urls"] = [str(URL(url).with_user(prefix).with_password("secret"))]
    async with started(processes, overrides) as receiver:
        assert await receiver.post("opened") == "confirmed"
        assert await receiver.post("newname", 0) == "spooled"
        await receiver.confirms("opened")
        for number in range(1, 30):
            answers = await asyncio.gather(receiver.post("newname", number), receiver.post("opened", number))
            assert list(answers) == ["spooled", "confirmed"]
        said = await receiver.becomes(lambda said: said["spool"]["set_aside"] == {"forbidden": 30})
        assert said["status"] == "ready"
        aside = await receiver.process.says("spool.set_aside")
        assert "access to topic 'newname'" in aside["reply_text"]
        assert await receiver.sample('bridge_broker_connects_total{use="publish"}') == 1
        assert await receiver.sample('bridge_spool_set_aside_entries{reason="forbidden"}') == 30
        async with rabbit.listening(exchange, "newname") as allowed:
            await control.set_topic_permissions(prefix, exchange, ".*")
            arrived = [(await allowed.next()).headers["cloudEvents:subject"] for _ in range(30)]
        assert set(arrived) == {str(number) for number in range(30)}
        await receiver.becomes(lambda said: said["spool"]["entries"] == 0)
        await receiver.confirms("newname")


async def test_a_body_that_is_too_large_for_rabbitmq_is_set_aside(
    processes: Processes, overrides: Overrides, tmp_path: Path
) -> None:
    """406: after the first of them the limit is known, and nothing that is larger is published beside the others."""
    node = private_node.running_node(tmp_path / "node", extra_config=f"max_message_size = {LARGEST}")
    async with node as small:
        overrides["rabbitmq"]["urls"] = [small.url]
        async with started(processes, overrides) as receiver:
            large = "x" * LARGEST
            assert await receiver.post("clicked", url=large) == "spooled"
            await receiver.confirms("opened")
            for number in range(10):
                answers = await asyncio.gather(
                    receiver.post("clicked", number, url=large), receiver.post("clicked", number, url="short")
                )
                assert list(answers) == ["spooled", "confirmed"]
            await receiver.becomes(lambda said: said["spool"]["set_aside"] == {"too-large": 11})
            assert await receiver.sample('bridge_broker_connects_total{use="publish"}') == 1


async def test_an_event_that_is_nacked_is_not_published_over_and_over(
    processes: Processes, overrides: Overrides, rabbit: Rabbit
) -> None:
    """A queue that rejects: the answer is true, the innocent queue gets one copy, and one stands for all that wait."""
    async with started(processes, overrides) as receiver, rabbit.channel() as channel:
        limits: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
        queue = await channel.declare_queue(exclusive=True, arguments=limits)
        await queue.bind(rabbit.names.events, "clicked")
        async with rabbit.listening(rabbit.names.events, "clicked") as innocent:
            answers = [await receiver.post("clicked", number) for number in range(20)]
            assert set(answers) == {"spooled"}
            assert (await receiver.process.says("spool.nacked"))["by_routing_key"] == {"clicked": 1}
            await innocent.take(20)
            said = await receiver.becomes(lambda said: said["spool"]["set_aside"] == {"nacked": 20})
            assert said["status"] == "ready"
            assert await receiver.post("opened") == "confirmed"
            await receiver.process.says("spool.refused_again", times=2)
            assert innocent.waiting <= 2
        await queue.unbind(rabbit.names.events, "clicked")
        await receiver.becomes(lambda said: said["spool"]["entries"] == 0)
