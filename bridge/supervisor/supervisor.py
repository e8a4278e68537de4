"""The supervisor: it holds the port, starts the receivers, replaces those that die, and ends when all have ended."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.amqp.errors import task_group
from bridge.roles.lifetime import Lifetime, Stop, running
from bridge.roles.receiver import RECEIVER_HEALTH_PORT
from bridge.settings.sections import InvalidSettingsError, Settings
from bridge.supervisor.child import Child, CrewError
from bridge.supervisor.child_config import Order
from bridge.supervisor.combined_health import Observer
from bridge.telemetry import health, logs
from bridge.telemetry.health import PortTakenError
from bridge.telemetry.multiprocess import SharedMetrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from bridge.settings.sections import Receiver

log = logs.logger("crew")

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- a folder of our own is made in it, that no other user can open
"""Where Linux keeps files in memory. Counting writes to one, and must not wait for a disk."""


async def receivers(settings: Settings, stop: Stop) -> None:
    """Run `receiver.processes` receivers on one port until told to stop; then end all of them in order.

    Health is that of all of them, on the port that one receiver would have.

    Raises:
        InvalidSettingsError: there is no token, or this system cannot share a port.
        PortTakenError: an address cannot be bound.
        CrewError: a receiver says that it cannot work, such as where its address is taken; or one did not end in time,
            and was left or killed.
    """
    with _reserved(settings.receiver) as port, _folder() as directory:
        metrics = SharedMetrics(directory)
        told = _with_port(settings, port)
        children = [
            Child(Order(number, told, directory, supervisor=os.getpid()), metrics)
            for number in range(1, settings.receiver.processes + 1)
        ]
        async with _health(settings, children, metrics), running(_keep(children), name="crew") as crew:
            log.info("receivers start", action="receiver.crew_started", port=port, processes=len(children))
            await Lifetime(stop=stop).until_stopped(crew)
            log.info("stopping all receivers", action="receiver.crew_stopping")
    if late := [str(child.number) for child in children if child.was_late]:
        raise CrewError(f"of the receiver's processes {', '.join(late)} did not end in time")
    log.info("all receivers have stopped", action="receiver.crew_stopped")


async def _keep(children: Sequence[Child]) -> None:
    async with task_group() as keeping:
        for child in children:
            keeping.create_task(child.keep(), name=f"receiver-{child.number}")


@asynccontextmanager
async def _health(
    settings: Settings, children: Sequence[Child], metrics: SharedMetrics
) -> AsyncIterator[None]:
    async with (
        Observer.open(children, metrics) as observer,
        health.serve(
            settings.health,
            check=observer.readiness,
            exposition=observer.exposition,
            default_port=RECEIVER_HEALTH_PORT,
        ),
    ):
        yield


def _with_port(settings: Settings, port: int) -> Settings:
    return settings.plain(receiver=settings.receiver.model_copy(update={"port": port}))


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of the crew's own, that goes with it."""
    try:
        made = tempfile.TemporaryDirectory(
            prefix="bridge-",
            dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None,
            ignore_cleanup_errors=True,
        )
    except OSError as error:
        raise CrewError(f"no folder for temporary files can be made: {error}; set TMPDIR to one") from None
    with made as name:
        yield Path(name)


@contextmanager
def _reserved(settings: Receiver) -> Iterator[int]:
    """The port that the receivers are to share: ours, also while none of them listens; we never do."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise InvalidSettingsError("receiver.processes: this system cannot share a port; set it to 1")
    port = settings.port
    try:
        with ExitStack() as reserved:
            addresses = dict.fromkeys(
                (family, address)
                for family, *_, address in socket.getaddrinfo(
                    settings.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
            )
            for family, (host, _, *rest) in addresses:
                # Alone first: whoever starts a second crew is to be told, as it is with one process. Sharing, it would
                # get half of the events without a word.
                if port:
                    with _bound(family, (host, port, *rest), shared=False):
                        pass
                bound = reserved.enter_context(_bound(family, (host, port, *rest), shared=True))
                port = bound.getsockname()[1]
            kept = reserved.pop_all()
    except OSError as error:
        raise PortTakenError(
            f"the receiver cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "set receiver.port (BRIDGE_RECEIVER__PORT) to a free one"
        ) from None
    with kept:
        yield port


def _bound(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    """As asyncio binds a server's socket."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
