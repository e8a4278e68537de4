"""What traces cost the receiver: the same receiver without them, with 1% of them recorded, and with all, in turn."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from aiohttp import web

from tests.programs.bench.entrants import bridge_receiver
from tests.programs.bench.throughput import WARM_UP_SECONDS
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tests.programs.bench.entrants import Running
    from tests.programs.bench.place import Place
    from tests.programs.bench.throughput import Say

OFF: Final = "off"
"""What the others are compared with: as shipped."""
AGAIN: Final = "off, another process"
"""How far two processes that do the same differ here: less than this cannot be measured."""
SAMPLED: Final = "1% of the traces"
ALL: Final = "all traces"
_SAMPLING: Final[Mapping[str, float | None]] = {OFF: None, AGAIN: None, SAMPLED: 0.01, ALL: 1.0}
SLICE_SECONDS: Final = 2
SLICES: Final = 8
"""In each round, of each of them."""


@dataclass(frozen=True, slots=True)
class TracingRow:
    """One receiver."""

    name: str
    cpu: float
    """Seconds for an event; the median of all slices, of all rounds."""
    ratio: float
    """Of that to the first one's in the same slice; the median, too."""
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Taken:
    cpu: float
    errors: tuple[str, ...]


async def measure(
    place: Place, *, rounds: int, say: Say, slices: int = SLICES, seconds: int = SLICE_SECONDS
) -> list[TracingRow]:
    """All receivers run at once in each round, and have the load in turn, in short slices: noise hits them alike.

    Raises:
        ContenderError: a receiver does not run.
        LoadError: the load could not be run.
    """
    taken: dict[str, list[_Taken]] = {name: [] for name in _SAMPLING}
    for turn in range(1, rounds + 1):
        await place.clean()
        async with _all(place) as receivers:
            for running in receivers.values():
                await place.load.closed(running.port, seconds=WARM_UP_SECONDS)
            for number in range(slices):
                # Each of them goes first as often as the others.
                names = [*receivers][number % len(receivers) :] + [*receivers][: number % len(receivers)]
                for name in names:
                    taken[name].append(await _slice(place, receivers[name], seconds))
        for name, found in taken.items():
            ratio = _ratio(found[-slices:], taken[OFF][-slices:])
            say(
                f"round {turn} of {rounds}: {name}: {median(_cpu(found)) * 1e6:.1f} us of CPU an event, ratio {ratio:.3f}"
            )
    return [
        TracingRow(
            name,
            median(_cpu(found)),
            _ratio(found, taken[OFF]),
            tuple(dict.fromkeys(error for one in found for error in one.errors)),
        )
        for name, found in taken.items()
    ]


def _cpu(taken: Sequence[_Taken]) -> list[float]:
    return [one.cpu for one in taken]


def _ratio(taken: Sequence[_Taken], yardstick: Sequence[_Taken]) -> float:
    return median(one.cpu / other.cpu for one, other in zip(taken, yardstick, strict=True))


async def _slice(place: Place, running: Running, seconds: int) -> _Taken:
    before = _nanoseconds(running.pid)
    load = await place.load.closed(running.port, seconds=seconds)
    after = _nanoseconds(running.pid)
    return _Taken(
        (after - before) / 1e9 / load.requests,
        tuple(f"{count:,} {what}" for what, count in load.wrong.items()),
    )


def _nanoseconds(pid: int) -> int:
    """CPU of all threads, exactly, and not in the kernel's ticks. The spans are sent by a thread of their own."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


@asynccontextmanager
async def _all(place: Place) -> AsyncIterator[dict[str, Running]]:
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(otlp_receiver())
        receivers = {}
        for name, sampling in _SAMPLING.items():
            tracing = {"enabled": sampling is not None, "sampling": sampling or 0.0, "endpoint": endpoint}
            receivers[name] = await stack.enter_async_context(bridge_receiver(tracing=tracing)(place))
        yield receivers


@asynccontextmanager
async def otlp_receiver() -> AsyncIterator[str]:
    """A receiver of OTLP at this URL, which takes everything, and looks at nothing."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(content_type="application/x-protobuf")

    application = web.Application(client_max_size=64 * 1024**2)
    application.router.add_post("/v1/traces", take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    port = free_port()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
