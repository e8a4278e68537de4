"""A command of the bridge, run as an operator runs it: a process, what it prints, its exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from bridge.settings.sources import ENVIRONMENT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PATIENCE_SECONDS = 30


class Outcome(NamedTuple):
    code: int
    stdout: str
    stderr: str


async def bridge(*arguments: str, directory: Path, through: Sequence[str] = (), **variables: str) -> Outcome:
    """`python -m bridge ARGUMENTS...` in this folder, with no settings in the environment but these.

    `through` is a program, and its first arguments, that starts it.
    """
    return await bridge_within(
        PATIENCE_SECONDS, *arguments, directory=directory, through=through, **variables
    )


async def bridge_within(
    patience: float, /, *arguments: str, directory: Path, through: Sequence[str] = (), **variables: str
) -> Outcome:
    """The same, with so many seconds to its end."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(ENVIRONMENT_PREFIX)
    }
    process = await asyncio.create_subprocess_exec(
        *through, sys.executable, "-m", "bridge", *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=directory, env=inherited | variables,
    )  # fmt: skip
    try:
        async with asyncio.timeout(patience):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return Outcome(await process.wait(), stdout.decode(), stderr.decode())
