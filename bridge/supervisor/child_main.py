"""The main function of a receiver process of a supervisor: it ends when the supervisor stops it, or is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from typing import TYPE_CHECKING, Final

import structlog

from bridge import fast_path
from bridge.roles.lifetime import Lifetime, Stop
from bridge.roles.receiver import receiver
from bridge.roles.shutdown import exit_if_threads_remain, run_until_signal
from bridge.settings.errors import InvalidSettingsError
from bridge.supervisor.child_config import EXIT_BAD_SETTINGS, EXIT_REFUSED, read_config
from bridge.telemetry import logs, multiprocess
from bridge.telemetry.health import PortTakenError

if TYPE_CHECKING:
    from bridge.supervisor.child_config import ChildConfig

_ENDING_SECONDS: Final = 3.0
"""How long its shutdown may take beyond `receiver.drain_timeout`. The supervisor kills it a little later."""


def main() -> None:
    """Run a receiver with the config from standard input. The exit codes are those of `bridge.supervisor.child_config`."""
    try:
        config = read_config(sys.stdin.buffer)
    except EOFError:
        return
    code = _serve(config)
    exit_if_threads_remain(code)
    sys.exit(code)


def _serve(config: ChildConfig) -> int:
    logs.configure_for(config.settings)
    fast_path.configure(config.settings.development.fast_path)
    structlog.contextvars.bind_contextvars(process=config.number)
    multiprocess.use_shared_files(config.directory, config.number)
    try:
        run_until_signal(
            lambda stop: _receive(config, stop),
            deadline_seconds=config.settings.receiver.drain_timeout + _ENDING_SECONDS,
            at_once=False,
            process_ends=True,
        )
    except InvalidSettingsError as error:
        return _report_error(error, EXIT_BAD_SETTINGS)
    except PortTakenError as error:
        return _report_error(error, EXIT_REFUSED)
    finally:
        if os.getppid() != config.supervisor:  # the supervisor was killed, and could not remove its folder
            shutil.rmtree(config.directory, ignore_errors=True)
    return os.EX_OK


async def _receive(config: ChildConfig, stop: Stop) -> None:
    """Run until standard input is closed, which also happens when the supervisor is killed, or until a signal."""
    loop = asyncio.get_running_loop()

    def supervisor_stops() -> None:
        loop.remove_reader(sys.stdin)
        stop.set()

    loop.add_reader(sys.stdin, supervisor_stops)
    await receiver(config.settings, Lifetime(stop=stop), health_socket=config.health_socket)


def _report_error(error: Exception, code: int) -> int:
    sys.stdout.write(str(error))
    sys.stdout.flush()
    return code
