"""A command of the bridge, run as an operator runs it: a process, what it prints, its exit code."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, NamedTuple

from bridge.settings.sources import ENVIRONMENT_PREFIX
from tests.support.warm_starts import start_bridge

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from pathlib import Path

    from tests.support.warm_starts import ForkedProcess

PATIENCE_SECONDS = 90


class Outcome(NamedTuple):
    code: int
    stdout: str
    stderr: str


_PATIENT = {f"{ENVIRONMENT_PREFIX}RABBITMQ__CONNECT_TIMEOUT": "20"}
"""On a busy machine RabbitMQ, or its management API, may need longer than 3 s, and then a command says that it is away."""


async def bridge(*arguments: str, directory: Path, **variables: str) -> Outcome:
    """`python -m bridge ARGUMENTS...` in this folder, with no settings in the environment but these, and patience."""
    return await bridge_within(PATIENCE_SECONDS, *arguments, directory=directory, **variables)


async def bridge_within(patience: float, /, *arguments: str, directory: Path, **variables: str) -> Outcome:
    """The same, with so many seconds to its end."""
    environment = environment_without_settings() | _PATIENT | variables
    process = await start_bridge(*arguments, cwd=directory, env=environment)
    return await _outcome(process, patience)


async def unprivileged_bridge(*arguments: str, directory: Path, **variables: str) -> Outcome:
    """As `bridge`, and the permissions of files hold for it, even if the tests run as root."""
    environment = environment_without_settings() | _PATIENT | variables
    process = await start_bridge(*arguments, cwd=directory, env=environment, unprivileged=True)
    return await _outcome(process, PATIENCE_SECONDS)


async def _outcome(process: Process | ForkedProcess, patience: float) -> Outcome:
    try:
        async with asyncio.timeout(patience):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return Outcome(await process.wait(), stdout.decode(), stderr.decode())


def environment_without_settings() -> dict[str, str]:
    """The variables of this process that are no settings of a bridge."""
    return {
        name: value for name, value in os.environ.items() if not name.upper().startswith(ENVIRONMENT_PREFIX)
    }
