"""The ten faults: each breaks something under load, and mends it."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aio_pika

from tests.programs.others.bridges import EXCHANGE, QUEUE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.programs.others.scene import Scene

FAULT_SECONDS: Final = 10.0
_TIMES: Final = 3
"""So often a bridge is killed or stopped."""
_BETWEEN_SECONDS: Final = 4.0
_FULL_AT: Final = 200
"""Messages that the queue holds while it is full."""


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    inject: Callable[[Scene], Awaitable[None]]
    cuts_power: bool = False
    """What has to survive is then on a disk that forgets what was not fsynced."""


async def bridge_killed(scene: Scene) -> None:
    for _ in range(_TIMES):
        await scene.service.kill()
        await asyncio.sleep(_BETWEEN_SECONDS)


async def bridge_stopped(scene: Scene) -> None:
    for _ in range(_TIMES):
        await scene.service.terminate()
        await asyncio.sleep(_BETWEEN_SECONDS)


async def rabbitmq_killed(scene: Scene) -> None:
    await scene.node.kill()
    await asyncio.sleep(FAULT_SECONDS)
    await scene.node.start()


async def rabbitmq_restarted(scene: Scene) -> None:
    await scene.node.stop()
    await scene.node.start()


async def rabbitmq_paused(scene: Scene) -> None:
    scene.node.signal(signal.SIGSTOP)
    await asyncio.sleep(FAULT_SECONDS)
    scene.node.signal(signal.SIGCONT)


async def black_hole(scene: Scene) -> None:
    """Nothing passes, and nobody is told; then the network is back, and delivers what it held."""
    scene.proxy.pause()
    await asyncio.sleep(FAULT_SECONDS)
    scene.proxy.resume()


async def memory_alarm(scene: Scene) -> None:
    await scene.control.raise_alarm()
    await asyncio.sleep(FAULT_SECONDS)
    await scene.control.clear_alarm()


async def queue_full(scene: Scene) -> None:
    """The consumer stands still, and its queue takes no more: RabbitMQ answers each publish with a nack."""
    await scene.arrivals.pause()
    await scene.control.set_policy("/", "full", f"^{QUEUE}$", max_length=_FULL_AT, overflow="reject-publish")
    await asyncio.sleep(FAULT_SECONDS)
    scene.arrivals.resume()


async def no_queue_bound(scene: Scene) -> None:
    """Somebody has taken the queue's binding away."""
    async with await aio_pika.connect(scene.node.url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(QUEUE)
        for key in scene.bridge.keys:
            await queue.unbind(EXCHANGE, key)
        await asyncio.sleep(FAULT_SECONDS)
        for key in scene.bridge.keys:
            await queue.bind(EXCHANGE, key)


async def power_cut(scene: Scene) -> None:
    """Everything stops at once, and the disks forget what was not fsynced. The consumer stands still, so that there is much to lose."""
    await scene.arrivals.pause()
    await asyncio.sleep(_BETWEEN_SECONDS)
    await scene.service.power_off()
    await scene.node.kill()
    for disk in scene.disks:
        await disk.cut()
    scene.service.power_on()
    await scene.node.start()
    scene.arrivals.resume()


ALL: Final = (
    Fault("bridge killed (-9), three times", bridge_killed),
    Fault("bridge stopped (SIGTERM), three times", bridge_stopped),
    Fault("RabbitMQ killed, back after 10 s", rabbitmq_killed),
    Fault("RabbitMQ restarted in order", rabbitmq_restarted),
    Fault("RabbitMQ paused for 10 s", rabbitmq_paused),
    Fault("black hole to RabbitMQ for 10 s", black_hole),
    Fault("memory alarm for 10 s", memory_alarm),
    Fault("queue full, rejects for 10 s", queue_full),
    Fault("no queue bound for 10 s", no_queue_bound),
    Fault("power cut of everything", power_cut, cuts_power=True),
)
