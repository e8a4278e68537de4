"""The faults: each is a function that breaks something in a scene under load, and mends it."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aio_pika

from bridge.broker.topology import Names
from tests.programs.faults import erase_case, list_cases
from tests.programs.faults.scene import Cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bridge.development.private_node import PrivateNode
    from tests.programs.faults.scene import Scene

    Inject = Callable[[Scene], Awaitable[None]]

LONG_SECONDS: Final = 30.0
SHORT_SECONDS: Final = 8.0
_NAMES: Final = Names()
_ASK: Final = '{\'exchange.declare\', 0, <<"missing">>, <<"topic">>, true, false, false, false, false, []}'
"""A passive `exchange.declare`, in RabbitMQ's own words."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    inject: Inject
    cast: Cast = field(default_factory=Cast)
    quick: bool = False
    """Part of the short version, which `make test` runs."""


async def broker_killed(scene: Scene) -> None:
    await scene.node.kill()
    await scene.load.accepted(0.5)
    await scene.node.start()


async def broker_stopped(scene: Scene) -> None:
    scene.node.signal(signal.SIGSTOP)
    await asyncio.sleep(LONG_SECONDS)
    scene.node.signal(signal.SIGCONT)


async def memory_alarm(scene: Scene) -> None:
    await scene.control.run("set_vm_memory_high_watermark", "0.00001")
    await asyncio.sleep(SHORT_SECONDS)
    await scene.control.run("set_vm_memory_high_watermark", "0.6")


async def disk_alarm(scene: Scene) -> None:
    await scene.control.run("set_disk_free_limit", "1000000GB")
    await asyncio.sleep(SHORT_SECONDS)
    await scene.control.run("set_disk_free_limit", "1MB")


async def connection_reset(scene: Scene) -> None:
    for share in (0.3, 0.4, 0.5, 0.6):
        scene.proxy.cut()
        await scene.load.accepted(share)


async def black_hole(scene: Scene) -> None:
    scene.proxy.pause()
    await asyncio.sleep(LONG_SECONDS)
    scene.proxy.cut()  # what a firewall has forgotten does not come back to life
    scene.proxy.resume()


async def black_hole_to_broker(scene: Scene) -> None:
    scene.proxy.to_server.pause()
    await asyncio.sleep(SHORT_SECONDS)
    scene.proxy.resume()


async def black_hole_from_broker(scene: Scene) -> None:
    scene.proxy.to_client.pause()
    await asyncio.sleep(SHORT_SECONDS)
    scene.proxy.resume()


async def latency(scene: Scene) -> None:
    scene.proxy.delay(0.15)
    await scene.load.accepted(0.7)
    scene.proxy.delay(0.0)


async def channel_closed(scene: Scene) -> None:
    """Every open channel is made to ask for an exchange that is not there: RabbitMQ closes it with a 404."""
    for share in (0.4, 0.5, 0.6):
        await scene.control.run("eval", f"[rabbit_channel:do(C, {_ASK}) || C <- rabbit_channel:list()].")
        await scene.load.accepted(share)


async def exchange_deleted(scene: Scene) -> None:
    async with await aio_pika.connect(scene.node.url) as connection:
        channel = await connection.channel()
        await channel.exchange_delete(_NAMES.events)


async def suppression_queue_deleted(scene: Scene) -> None:
    async with await aio_pika.connect(scene.node.url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(_NAMES.suppression)


async def backfill_interrupted(scene: Scene) -> None:
    """The worker is stopped, then killed, while it fills the queue that was deleted."""
    await scene.load.accepted(0.5)
    await suppression_queue_deleted(scene)
    for number in (signal.SIGTERM, signal.SIGKILL):
        await scene.workers[0].says("worker.backfill")
        scene.workers[0].send(number)
        await scene.workers[0].ended()
        await scene.start_worker()


async def receiver_killed(scene: Scene) -> None:
    scene.receivers[0].send(signal.SIGKILL)
    await scene.receivers[0].ended()
    await scene.start_receiver()


async def receiver_killed_while_draining(scene: Scene) -> None:
    await scene.node.kill()
    await scene.load.accepted(0.7)
    await scene.node.start()
    await scene.receivers[0].says("broker.connected", times=2)
    scene.receivers[0].send(signal.SIGKILL)
    await scene.receivers[0].ended()
    await scene.start_receiver()


async def receiver_terminated(scene: Scene) -> None:
    scene.receivers[0].send(signal.SIGTERM)
    code = await scene.receivers[0].ended()
    if code != 0:
        raise AssertionError(f"SIGTERM ended the receiver with {code}")
    await scene.start_receiver()


async def worker_killed(scene: Scene) -> None:
    for share in (0.4, 0.6):
        scene.workers[0].send(signal.SIGKILL)
        await scene.workers[0].ended()
        await scene.start_worker()
        await scene.load.accepted(share)


async def worker_terminated(scene: Scene) -> None:
    for share in (0.4, 0.6):
        scene.workers[0].send(signal.SIGTERM)
        code = await scene.workers[0].ended()
        if code != 0:
            raise AssertionError(f"SIGTERM ended the worker with {code}")
        await scene.start_worker()
        await scene.load.accepted(share)


async def one_of_two_killed(scene: Scene) -> None:
    """The other receiver takes the events, and what the killed one left in the spool."""
    await scene.node.kill()
    await scene.load.accepted(0.5)
    scene.receivers[0].send(signal.SIGKILL)
    scene.workers[0].send(signal.SIGKILL)
    await scene.receivers[0].ended()
    await scene.node.start()


async def leader_killed(scene: Scene) -> None:
    """The node that leads the worker's queue dies; then each node is restarted in turn."""
    leader = await _leader_of(scene, _NAMES.suppression)
    await leader.kill()
    await scene.load.accepted(0.5)
    await leader.start()
    for node in scene.nodes:
        await node.stop()
        await node.start()


async def spool_disk_full(scene: Scene) -> None:
    await scene.node.kill()
    await scene.receivers[0].says("spool.unwritable")
    await scene.node.start()


async def spool_file_corrupt(scene: Scene) -> None:
    """The receiver comes back to a spool file that is garbage, while the broker is away."""
    await scene.node.kill()
    scene.receivers[0].send(signal.SIGTERM)
    await scene.receivers[0].ended()
    await scene.node.start()
    await scene.start_receiver()
    await scene.receivers[0].says("spool.drained")
    scene.receivers[0].send(signal.SIGTERM)
    await scene.receivers[0].ended()
    await scene.node.kill()
    for file in scene.spool_directory.glob("spool-*.sqlite3"):
        file.write_bytes(b"not a database" * 1000)
    await scene.start_receiver()
    await scene.receivers[0].says("spool.corrupt")
    await scene.load.accepted(0.7)
    await scene.node.start()


async def spool_folder_removed(scene: Scene) -> None:
    """While the broker is away; then every receiver is killed, and what was answered 200 must be in the folder."""
    await scene.node.kill()
    await scene.load.accepted(0.4)
    await _remove(scene.spool_directory)
    await scene.load.accepted(0.6)
    for number, receiver in enumerate(scene.receivers):
        receiver.send(signal.SIGKILL)
        await receiver.ended()
        await scene.start_receiver(number)
    await scene.node.start()


async def spool_folder_removed_under_processes(scene: Scene) -> None:
    """The same under one receiver of two processes, which its supervisor replaces."""
    await scene.node.kill()
    await scene.load.accepted(0.4)
    await _remove(scene.spool_directory)
    await scene.load.accepted(0.6)
    for number in (1, 2):
        child = await scene.receivers[0].says("receiver.child_started", process=number)
        os.kill(child["pid"], signal.SIGKILL)
    await scene.receivers[0].says("receiver.started", times=4)
    await scene.node.start()


async def broker_down_and_receiver_restarted(scene: Scene) -> None:
    await scene.node.kill()
    await scene.load.accepted(0.4)
    scene.receivers[0].send(signal.SIGKILL)
    await scene.receivers[0].ended()
    await scene.start_receiver()
    await scene.load.accepted(0.6)
    await scene.node.start()


async def _remove(directory: Path) -> None:
    """As a person does, without looking at who uses it: that files are made in it meanwhile is no failure here."""
    process = await asyncio.create_subprocess_exec(
        "rm", "-rf", str(directory), stderr=asyncio.subprocess.DEVNULL
    )
    await process.wait()


async def _leader_of(scene: Scene, queue: str) -> PrivateNode:
    listed = await scene.control.run("list_queues", "--quiet", "name", "leader")
    leaders = dict(line.split() for line in listed.splitlines() if len(line.split()) == 2)
    return next(node for node in scene.nodes if node.name == leaders[queue])


ALL: Final = (
    Case("broker SIGKILL and restart", broker_killed, quick=True),
    Case("broker stopped for 30 s", broker_stopped),
    Case("memory alarm", memory_alarm),
    Case("disk alarm", disk_alarm),
    Case("TCP connections reset", connection_reset, quick=True),
    Case("TCP black hole, both ways", black_hole),
    Case("TCP black hole towards the broker", black_hole_to_broker),
    Case("TCP black hole from the broker", black_hole_from_broker),
    Case("300 ms of latency", latency),
    Case("channel closed by the broker", channel_closed),
    Case("exchange deleted and made again", exchange_deleted),
    Case("suppression queue deleted", suppression_queue_deleted),
    Case("suppression queue deleted, backfill interrupted", backfill_interrupted),
    Case("receiver SIGKILL, restart", receiver_killed, quick=True),
    Case("receiver SIGKILL while draining", receiver_killed_while_draining),
    Case("receiver SIGTERM", receiver_terminated),
    Case("worker SIGKILL", worker_killed),
    Case("worker SIGTERM", worker_terminated),
    Case("two of each, one of each killed", one_of_two_killed, Cast(receivers=2, workers=2)),
    Case("cluster: leader killed, rolling restart", leader_killed, Cast(nodes=3)),
    Case("spool disk full", spool_disk_full, Cast(spool_disk_bytes=2 * 1024**2)),
    Case("spool file corrupt", spool_file_corrupt),
    Case("spool folder removed under two receivers", spool_folder_removed, Cast(receivers=2)),
    Case(
        "spool folder removed under two processes",
        spool_folder_removed_under_processes,
        Cast(settings={"receiver": {"processes": 2}}),
    ),
    Case("list file replaced, then removed", list_cases.list_replaced),
    Case("four workers on one SQLite file", list_cases.four_workers, Cast(workers=4)),
    Case("import SIGKILL, again and again", list_cases.import_killed, list_cases.IMPORT_CAST),
    Case("erase SIGKILL, again and again", erase_case.erase_killed, erase_case.CAST),
    Case("hard bounces in odd spellings, broker SIGKILL", broker_killed, Cast(spelt_oddly=True)),
    Case("broker down and receiver restarted", broker_down_and_receiver_restarted, quick=True),
)
