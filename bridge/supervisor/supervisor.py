"""The supervisor: holds the port, starts the receiver processes, replaces those that die, and stops them."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.roles.lifetime import Lifetime, Stop
from bridge.roles.receiver import RECEIVER_HEALTH_PORT
from bridge.settings.errors import InvalidSettingsError
from bridge.supervisor.child import Child, SupervisorError
from bridge.supervisor.child_config import ChildConfig
from bridge.supervisor.combined_health import CombinedHealth
from bridge.tasks import background_task, task_group
from bridge.telemetry import health, logs
from bridge.telemetry.health import PortTakenError
from bridge.telemetry.multiprocess import SharedMetrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from bridge.settings.sections import Receiver, Settings

log = logs.logger("supervisor")

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- we make a folder in it that no other user can open
"""Linux keeps these files in memory. The metrics are written to files, and must not wait for a disk."""


async def receivers(settings: Settings, stop: Stop) -> None:
    """Run `receiver.processes` receivers on one port until the stop event is set; then stop all of them in order.

    The combined health of all is served on the port that a single receiver would use.

    Raises:
        InvalidSettingsError: there is no token, or this system cannot share a port.
        PortTakenError: an address cannot be bound.
        SupervisorError: a receiver reports that it cannot work, for example because its address is taken; or one did not
            end in time.
    """
    with _reserve_port(settings.receiver) as port, _folder() as directory:
        metrics = SharedMetrics(directory)
        with_port = _with_port(settings, port)
        children = [
            Child(ChildConfig(number, with_port, directory, supervisor=os.getpid()), metrics)
            for number in range(1, settings.receiver.processes + 1)
        ]
        async with (
            _health(settings, children, metrics),
            background_task(_keep(children), name="supervisor") as keeping,
        ):
            log.info(
                "supervisor started", action="receiver.supervisor_started", port=port, processes=len(children)
            )
            await Lifetime(stop=stop).wait_until_stopped(keeping)
            log.info("supervisor stopping all receivers", action="receiver.supervisor_stopping")
    if late := [str(child.number) for child in children if child.ended_late]:
        raise SupervisorError(f"receiver processes that did not end in time: {', '.join(late)}")
    log.info("all receivers have stopped", action="receiver.supervisor_stopped")


async def _keep(children: Sequence[Child]) -> None:
    async with task_group() as keeping:
        for child in children:
            keeping.create_task(child.keep_running(), name=f"receiver-{child.number}")


@asynccontextmanager
async def _health(
    settings: Settings, children: Sequence[Child], metrics: SharedMetrics
) -> AsyncIterator[None]:
    async with (
        CombinedHealth.open(children, metrics) as observer,
        health.serve(
            settings.health,
            check=observer.readiness,
            exposition=observer.exposition,
            default_port=RECEIVER_HEALTH_PORT,
        ),
    ):
        yield


def _with_port(settings: Settings, port: int) -> Settings:
    return settings.picklable(receiver=settings.receiver.model_copy(update={"port": port}))


@contextmanager
def _folder() -> Iterator[Path]:
    """The supervisor's folder, which is removed at its end."""
    try:
        made = tempfile.TemporaryDirectory(
            prefix="bridge-",
            dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None,
            ignore_cleanup_errors=True,
        )
    except OSError as error:
        raise SupervisorError(
            f"no folder for temporary files can be made: {error}; set TMPDIR to one"
        ) from None
    with made as name:
        yield Path(name)


@contextmanager
def _reserve_port(settings: Receiver) -> Iterator[int]:
    """Reserve the port that the receivers share, also while none of them listens. The supervisor itself never listens."""
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
                # First without sharing, so that a second supervisor fails, as a second receiver does. With sharing it
                # would silently get half of the events.
                if port:
                    with _bound(family, (host, port, *rest), shared=False):
                        pass
                bound = reserved.enter_context(_bound(family, (host, port, *rest), shared=True))
                port = bound.getsockname()[1]
            kept = reserved.pop_all()
    except OSError as error:
        raise PortTakenError.of(
            "the receiver", f"{settings.host}:{settings.port}", error, setting="receiver.port"
        ) from None
    with kept:
        yield port


def _bound(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    """Bind a socket as asyncio does for a server."""
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
