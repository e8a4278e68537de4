"""One process of the crew: a receiver that ends when its supervisor says so, or is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from typing import TYPE_CHECKING, Final

import structlog

from bridge.roles.lifetime import Lifetime, Stop
from bridge.roles.receiver import receiver
from bridge.roles.shutdown import leave, until_signal
from bridge.settings.sections import InvalidSettingsError
from bridge.supervisor.child_config import BAD_SETTINGS, REFUSED, unpacked
from bridge.telemetry import logs, multiprocess
from bridge.telemetry.health import PortTakenError

if TYPE_CHECKING:
    from bridge.supervisor.child_config import Order

_ENDING_SECONDS: Final = 3.0
"""What its end may take beyond `receiver.drain_timeout`. The supervisor, which kills it a little later, has to end in
time itself, and whether a second signal ends all of them at once is for the supervisor to say."""


def main() -> None:
    """Do what the order on standard input says; the exit codes are those of `bridge.supervisor.child_config`."""
    try:
        order = unpacked(sys.stdin.buffer)
    except EOFError:
        return
    code = _serve(order)
    leave(code)
    sys.exit(code)


def _serve(order: Order) -> int:
    logs.configure_for(order.settings)
    structlog.contextvars.bind_contextvars(process=order.number)
    multiprocess.share(order.directory, order.number)
    try:
        until_signal(
            lambda stop: _receive(order, stop),
            patience=order.settings.receiver.drain_timeout + _ENDING_SECONDS,
            at_once=False,
            nothing_follows=True,
        )
    except InvalidSettingsError as error:
        return _refused(error, BAD_SETTINGS)
    except PortTakenError as error:
        return _refused(error, REFUSED)
    finally:
        if os.getppid() != order.supervisor:  # it was killed, and could not tidy up
            shutil.rmtree(order.directory, ignore_errors=True)
    return os.EX_OK


async def _receive(order: Order, stop: Stop) -> None:
    """A receiver until standard input ends, which it also does when the supervisor is killed; or a signal comes."""
    loop = asyncio.get_running_loop()

    def supervisor_stops() -> None:
        loop.remove_reader(sys.stdin)
        stop.set()

    loop.add_reader(sys.stdin, supervisor_stops)
    await receiver(order.settings, Lifetime(stop=stop), health_socket=order.health_socket)


def _refused(error: Exception, code: int) -> int:
    sys.stdout.write(str(error))
    sys.stdout.flush()
    return code
