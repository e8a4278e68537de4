"""A process that opens a spool of some size, puts more in, and drains it: its own CPU and memory are what is measured."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import uvloop

from bridge.amqp.connection import Link
from bridge.amqp.publisher import Publisher
from bridge.broker import topology
from bridge.broker.messages import message_from_body
from bridge.settings import sections
from bridge.settings.loading import load_settings
from bridge.spool.drain_publisher import DrainPublisher
from bridge.spool.mover import Mover
from bridge.spool.spool import Spool
from bridge.tasks import background_task, wait_while_running
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.settings.sections import Settings

RESULT: Final = b"RESULT "
AT_ONCE: Final = 200
"""Events that are put together, as a receiver does with so many connections."""
_WINDOW: Final = 5_000
_LOOK_EVERY_SECONDS: Final = 0.01
_BODY: Final = b'{"message":{"id":%d},"event":{"name":"delivered","timestamp":1539062173,"data":{}}}'
_RESET_PEAK: Final = "5"
"""What makes /proc/self/clear_refs begin anew with the highest memory (proc(5))."""


@dataclass(slots=True)
class Used:
    cpu: float = 0.0
    """Seconds."""
    seconds: float = 0.0
    memory: int = 0
    """Bytes that it took at most, beyond what was there before."""


@contextmanager
def _used() -> Iterator[Used]:
    used = Used()
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    before, cpu, began = _status("VmRSS"), time.process_time(), time.perf_counter()
    yield used
    used.cpu, used.seconds = time.process_time() - cpu, time.perf_counter() - began
    used.memory = max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def body(number: int) -> bytes:
    """An event of the usual length."""
    return _BODY % number


async def _put(spool: Spool, number: int) -> None:
    received_at = time.time_ns() // 1_000_000
    for start in range(0, number, AT_ONCE):
        await asyncio.gather(
            *(spool.put(received_at, body(one)) for one in range(start, min(start + AT_ONCE, number)))
        )


async def _drained(settings: Settings, spool: Spool) -> tuple[Used, int]:
    metrics = Metrics()
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = Publisher(link, max_in_flight=_WINDOW, stalled_after=60, metrics=metrics)
    exchange = topology.Names(settings.rabbitmq.prefix).events
    target = DrainPublisher(
        publisher,
        lambda entry: message_from_body(entry.body, exchange=exchange, received_at=entry.received_at),
    )
    async with background_task(link.run(publisher.session), name="publish") as publishing:
        await wait_while_running(link.up, publishing)
        await publisher.ready()
        with _used() as used:
            moved = await Mover(target).move_all(spool)
    return used, moved


async def measure(folder: Path, amqp_url: str, puts: int) -> dict[str, Any]:
    """Open the spool in this folder, put so many events, drain all of it."""
    settings = load_settings(
        overrides={
            "rabbitmq": {"urls": [amqp_url]},
            "spool": {"directory": str(folder), "max_bytes": 2**40, "min_free_bytes": 0},
        }
    )
    async with AsyncExitStack() as stack:
        with _used() as opened:
            spool = await stack.enter_async_context(Spool.open(settings.spool))
            while not spool.state.writable:  # noqa: ASYNC110 -- only the file's thread knows
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
        before = spool.state.entries
        with _used() as put:
            await _put(spool, puts)
        drained, moved = await _drained(settings, spool)
        if moved != before + puts or spool.state.entries:
            raise RuntimeError(
                f"{moved} of {before + puts} entries were drained, {spool.state.entries} are left"
            )
    return {"entries": before, "start": asdict(opened), "put": asdict(put), "drain": asdict(drained)}


def main() -> None:
    """Arguments: the folder, the URL of RabbitMQ, how many to put."""
    folder, amqp_url, puts = sys.argv[1:]
    logs.configure(sections.Logs(level="error"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(Path(folder), amqp_url, int(puts)))
    sys.stdout.buffer.write(RESULT + orjson.dumps(found) + b"\n")


if __name__ == "__main__":
    main()
