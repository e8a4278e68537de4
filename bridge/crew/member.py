"""One process of the crew: a receiver that ends when its supervisor says so, or is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING

import structlog
import uvloop

from bridge.crew.order import BAD_SETTINGS, REFUSED, unpacked
from bridge.roles.lifetime import Lifetime
from bridge.roles.receiver import receiver
from bridge.settings import InvalidSettingsError
from bridge.telemetry import logs, shared
from bridge.telemetry.health import PortTakenError

if TYPE_CHECKING:
    from bridge.crew.order import Order


def main() -> None:
    """Do what the order on standard input says; the exit codes are those of `bridge.crew.order`."""
    try:
        order = unpacked(sys.stdin.buffer)
    except EOFError:
        return
    sys.exit(_serve(order))


def _serve(order: Order) -> int:
    logs.configure_for(order.settings)
    structlog.contextvars.bind_contextvars(process=order.number)
    shared.share(order.directory, order.number)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_receive(order))
    except InvalidSettingsError as error:
        return _refused(error, BAD_SETTINGS)
    except PortTakenError as error:
        return _refused(error, REFUSED)
    finally:
        if os.getppid() != order.supervisor:  # it was killed, and could not tidy up
            shutil.rmtree(order.directory, ignore_errors=True)
    return os.EX_OK


async def _receive(order: Order) -> None:
    """A receiver until standard input ends, which it also does when the supervisor is killed; or SIGTERM comes."""
    lifetime = Lifetime()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(sys.stdin)
        lifetime.stop.set()

    loop.add_reader(sys.stdin, stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lifetime.stop.set)
    await receiver(order.settings, lifetime, health_socket=order.health_socket)


def _refused(error: Exception, code: int) -> int:
    sys.stdout.write(str(error))
    sys.stdout.flush()
    return code
