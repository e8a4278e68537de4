"""What a load balancer, an orchestrator and Prometheus learn of a role, over HTTP and without a token."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from bridge.settings.sections import Spool as SpoolSettings
from tests.conftest import TOKEN
from tests.support.ports import free_port
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.processes import Process, Processes

Overrides = dict[str, dict[str, Any]]

BODY = b'{"message": {"id": 1}, "event": {"name": "opened", "timestamp": 1539062173}}'
PATIENCE_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Role:
    """A process, and its health over HTTP."""

    process: Process
    health_port: int
    http: aiohttp.ClientSession

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.http.get(f"http://127.0.0.1:{self.health_port}{path}") as answer:
            if answer.content_type == "application/json":
                return answer.status, await answer.json()
            return answer.status, await answer.text()

    async def becomes(self, status: int, truth: Callable[[Any], bool] = lambda _: True) -> Any:
        """What `/readyz` says once it has this status and this is true of it: it is polled, as by its users."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answered, said = await self.get("/readyz")
                if answered == status and truth(said):
                    return said
                await asyncio.sleep(0.05)

    async def post(self) -> int:
        port = (await self.process.says("receiver.started"))["port"]
        async with self.http.post(f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}", data=BODY) as answer:
            return answer.status

    async def gauge(self, name: str) -> float:
        status, text = await self.get("/metrics")
        assert status == 200
        [line] = [line for line in text.splitlines() if line.split()[0] == name]
        return float(line.split()[1])


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[Proxy]:
    async with Proxy.serve(amqp_url) as served:
        yield served


@pytest.fixture
def through_proxy(overrides: Overrides, proxy: Proxy, amqp_url: str) -> Overrides:
    overrides["rabbitmq"] |= {"urls": [proxy.url(amqp_url)], "reconnect_max": 0.1}
    overrides["health"]["port"] = free_port()
    return overrides


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@asynccontextmanager
async def started(processes: Processes, name: str, overrides: Overrides) -> AsyncIterator[Role]:
    process = await processes.start(name, overrides=overrides)
    await process.says(f"{name}.started")
    async with aiohttp.ClientSession() as http:
        yield Role(process, overrides["health"]["port"], http)


async def test_a_receiver_is_ready_as_long_as_one_of_its_two_places_takes_events(
    through_proxy: Overrides, processes: Processes, proxy: Proxy
) -> None:
    """With RabbitMQ up, and with RabbitMQ down and the spool writable; the reason of each is in the answer."""
    async with started(processes, "receiver", through_proxy) as receiver:
        await receiver.process.says("broker.connected")
        assert await receiver.get("/livez") == (200, {"status": "alive"})
        said = await receiver.becomes(
            200, lambda said: said["broker"]["state"] == "up" and said["spool"]["writable"]
        )
        assert said["status"] == "ready"
        assert said["broker"] == {"state": "up", "reason": "connected"}
        assert said["spool"] == {
            "writable": True, "reason": "", "entries": 0, "bytes": 0, "oldest_age": 0.0, "set_aside": {}
        }  # fmt: skip
        proxy.refuse()
        said = await receiver.becomes(200, lambda said: said["broker"]["state"] == "down")
        assert said["broker"]["reason"] not in {"", "connected"}
        assert await receiver.post() == 200
        said = await receiver.becomes(200, lambda said: said["spool"]["entries"] == 1)
        assert said["spool"]["bytes"] > len(BODY)
        assert await receiver.get("/livez") == (200, {"status": "alive"})


async def test_a_receiver_that_has_neither_place_is_alive_and_not_ready(
    through_proxy: Overrides, processes: Processes, proxy: Proxy, folder: Path
) -> None:
    """It answers 503 with both reasons, and is ready by itself again when the folder can be used."""
    proxy.refuse()
    _block(folder)
    async with started(processes, "receiver", through_proxy) as receiver:
        await receiver.process.says("broker.retry")
        said = await receiver.becomes(503, lambda said: "spool.directory" in said["spool"]["reason"])
        assert said["status"] == "not ready"
        assert said["broker"]["state"] == "down"
        assert said["spool"]["writable"] is False
        assert await receiver.post() == 503
        assert await receiver.get("/livez") == (200, {"status": "alive"})
        _unblock(folder)
        await receiver.becomes(200, lambda said: said["spool"]["writable"])
        assert await receiver.post() == 200


async def test_rabbitmq_alone_makes_a_receiver_ready(
    through_proxy: Overrides, processes: Processes, folder: Path
) -> None:
    """The spool's trouble is told, and no reason to send no events."""
    _block(folder)
    async with started(processes, "receiver", through_proxy) as receiver:
        said = await receiver.becomes(200, lambda said: said["broker"]["state"] == "up")
        assert said["spool"]["writable"] is False
        assert await receiver.post() == 200


async def test_a_spool_that_is_full_counts_as_not_writable(
    through_proxy: Overrides, processes: Processes, proxy: Proxy
) -> None:
    """A receiver that answers 503 does not say that it is ready."""
    through_proxy["spool"] |= {"max_bytes": 1024**2, "min_free_bytes": 2**60}
    proxy.refuse()
    async with started(processes, "receiver", through_proxy) as receiver:
        await receiver.becomes(200)
        assert await receiver.post() == 503
        await receiver.becomes(503, lambda said: "spool.min_free_bytes" in said["spool"]["reason"])


async def test_the_spool_is_in_the_metrics(
    through_proxy: Overrides, processes: Processes, proxy: Proxy
) -> None:
    """Entries, bytes and the age of the oldest, beside whether RabbitMQ is there."""
    async with started(processes, "receiver", through_proxy) as receiver:
        await receiver.becomes(200, lambda said: said["broker"]["state"] == "up")
        assert await receiver.gauge('bridge_broker_up{use="publish"}') == 1
        assert await receiver.gauge("bridge_spool_entries") == 0
        assert await receiver.gauge("bridge_spool_oldest_seconds") == 0
        proxy.refuse()
        await receiver.becomes(200, lambda said: said["broker"]["state"] == "down")
        assert await receiver.post() == 200
        assert await receiver.post() == 200
        assert await receiver.gauge('bridge_broker_up{use="publish"}') == 0
        assert await receiver.gauge("bridge_spool_entries") == 2
        assert await receiver.gauge("bridge_spool_bytes") > 2 * len(BODY)
        assert await receiver.gauge("bridge_spool_limit_bytes") == SpoolSettings().max_bytes
        assert 0 < await receiver.gauge("bridge_spool_oldest_seconds") < PATIENCE_SECONDS
        assert await receiver.gauge('bridge_answers_total{answer="spooled"}') == 2


async def test_a_worker_is_ready_while_it_may_consume_and_publish(
    through_proxy: Overrides, processes: Processes, proxy: Proxy
) -> None:
    """Both connections are told; it has nowhere to go without RabbitMQ, and comes back with it."""
    async with started(processes, "worker", through_proxy) as worker:
        said = await worker.becomes(200)
        assert {said[use]["state"] for use in ("publish", "consume")} == {"up"}
        proxy.refuse()
        said = await worker.becomes(503, lambda said: said["consume"]["state"] == "down")
        assert said["status"] == "not ready"
        assert said["consume"]["reason"] not in {"", "connected"}
        assert await worker.get("/livez") == (200, {"status": "alive"})
        proxy.accept()
        await worker.becomes(200)


async def test_health_says_nothing_else(through_proxy: Overrides, processes: Processes) -> None:
    """Its port does not take webhooks, and the receiver's port does not tell its health."""
    async with started(processes, "receiver", through_proxy) as receiver:
        port = (await receiver.process.says("receiver.started"))["port"]
        assert (await receiver.get(f"/webhooks/msndr/{TOKEN}"))[0] == 404
        for path in ("/livez", "/readyz", "/metrics"):
            async with receiver.http.get(f"http://127.0.0.1:{port}{path}") as answer:
                assert answer.status == 404


def _block(folder: Path) -> None:
    """A regular file where the folder is to be: nobody, root neither, can write into that."""
    folder.write_bytes(b"")


def _unblock(folder: Path) -> None:
    folder.unlink()
