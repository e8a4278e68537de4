"""The contenders as processes: how each is started, when it is ready, and what it says of its own answers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bridge.settings import sections
from tests.programs.bench import node_modules
from tests.programs.bench.load import CHECKOUT
from tests.programs.faults.stage import TOKEN, WEBHOOK
from tests.support.ports import free_port
from tests.support.processes import Processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.programs.bench.place import Place

_EVENT: Final = b'{"message":{"id":1},"event":{"name":"opened","timestamp":1539062173}}'
_PATIENCE_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_LOOK_EVERY_SECONDS: Final = 0.05

Answered = Callable[[], Awaitable[dict[str, int]]]


class ContenderError(RuntimeError):
    """A contender cannot be measured. Its message says which and why."""


async def _not_counted() -> dict[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that answers."""

    port: int
    pid: int
    answered: Answered = _not_counted
    """How many answers it has given, by what they said; empty where it does not count them."""


async def _present() -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    start: Callable[[Place], AbstractAsyncContextManager[Running]]
    durability: str | None = "confirmed"
    """What its 200 means: `confirmed` by RabbitMQ, `spooled`, or nothing."""
    missing: Callable[[], Awaitable[str | None]] = _present
    """What has to be there and is not, if anything."""


def _program(
    *command: str, folder: Path = CHECKOUT
) -> Callable[[Place], AbstractAsyncContextManager[Running]]:
    """A contender that reads its port, path and broker from the environment."""

    @asynccontextmanager
    async def start(place: Place) -> AsyncIterator[Running]:
        port, log = free_port(), place.directory() / "output.log"
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=folder,
                env=os.environ | {"PORT": str(port), "WEBHOOK": WEBHOOK, "AMQP_URL": place.node.url},
            )  # fmt: skip
        try:
            try:
                await _ready(port)
            except TimeoutError:
                raise ContenderError(f"{command[-1]} does not answer: {log.read_text()[-2000:]}") from None
            yield Running(port, process.pid)
        finally:
            await _end(process)

    return start


def bridge_receiver(
    *,
    broker: bool = True,
    processes: int = 1,
    fast_path: str = "auto",
    tracing: dict[str, Any] | None = None,
    confirm_wait: float | None = None,
) -> Callable[[Place], AbstractAsyncContextManager[Running]]:
    """`bridge receiver` as shipped, but for its address, its token and its folder, its `development.fast_path`, and `tracing`.

    Args:
        broker: whether it has one.
        processes: of it.
        fast_path: the setting.
        tracing: the section.
        confirm_wait: seconds after which an event is spooled, where that is not to depend on what else the machine does.
    """

    @asynccontextmanager
    async def start(place: Place) -> AsyncIterator[Running]:
        directory, port, health = place.directory(), free_port(), free_port()
        receiver: dict[str, Any] = {"host": "127.0.0.1", "port": port, "tokens": [TOKEN]}
        settings = {
            "rabbitmq": {"urls": [place.node.url if broker else f"amqp://127.0.0.1:{free_port()}/"]},
            "receiver": receiver
            | ({"processes": processes} if processes > 1 else {})
            | ({"confirm_wait": confirm_wait} if confirm_wait is not None else {}),
            "spool": {"directory": str(directory / "spool")},
            "health": {"port": health},
            "logs": {"format": "json"},
            "development": {"fast_path": fast_path},
            "tracing": tracing or {},
        }
        async with Processes(directory) as started:
            process = await started.start("receiver", overrides=settings, fresh=True)
            await process.says("receiver.started", times=processes)
            if broker:
                await process.says("broker.connected", times=processes)
            yield Running(port, process.pid, answered=lambda: _answered(health))
            process.send(signal.SIGTERM)
            if code := await process.ended():
                raise ContenderError(f"SIGTERM ended the receiver with {code}: {process.lines[-5:]}")

    return start


async def _several_processes() -> str | None:
    return (
        None if "processes" in sections.Receiver.model_fields else "this receiver has no setting `processes`"
    )


def _python(module: str) -> Callable[[Place], AbstractAsyncContextManager[Running]]:
    return _program(sys.executable, "-m", f"tests.programs.bench.contenders.{module}")


NOOP: Final = Contender("noop", _python("noop"), durability=None)
CONFIRMED: Final = Contender("bridge confirmed", bridge_receiver())
PLAIN: Final = Contender("bridge confirmed, plain path", bridge_receiver(fast_path="off"))
PLAIN_HTTP: Final = Contender("bridge confirmed, plain HTTP", bridge_receiver(fast_path="amqp"))
PLAIN_AMQP: Final = Contender("bridge confirmed, plain AMQP", bridge_receiver(fast_path="http"))
SPOOLED: Final = Contender("bridge spooled", bridge_receiver(broker=False), durability="spooled")
TWO: Final = Contender("bridge on 2 processes", bridge_receiver(processes=2), missing=_several_processes)
NAIVE: Final = Contender("naive aio-pika", _python("naive"))
FASTSTREAM: Final = Contender("FastAPI + FastStream", _python("fastapi_faststream"))
FASTIFY: Final = Contender(
    "Fastify + rabbitmq-client",
    _program("node", "server.js", folder=node_modules.FOLDER),
    missing=node_modules.missing,
)
ALL: Final = (
    NOOP, CONFIRMED, PLAIN_HTTP, PLAIN_AMQP, PLAIN, SPOOLED, TWO, NAIVE, FASTSTREAM, FASTIFY
)  # fmt: skip


async def _ready(port: int) -> None:
    """Wait until an event is answered 200.

    Raises:
        TimeoutError: it is not, in good time.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < deadline:
            try:
                async with http.post(
                    f"http://127.0.0.1:{port}{WEBHOOK}",
                    data=_EVENT,
                    headers={"Content-Type": "application/json"},
                ) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass  # it does not listen yet
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
    raise TimeoutError


async def _answered(health: int) -> dict[str, int]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{health}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return {
        sample.labels["answer"]: int(sample.value)
        for family in families
        for sample in family.samples
        if sample.name == "bridge_answers_total"
    }


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
