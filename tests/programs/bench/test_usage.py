"""What processes have used is counted over all of them."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.programs.bench import usage

if TYPE_CHECKING:
    from collections.abc import Callable

PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], stdin=sys.stdin)"
CHILD = "held = b'x' * 64 * 1024**2; sum(range(5_000_000)); print('ready', flush=True); input()"
HELD = 64 * 1024**2


@pytest.mark.parametrize("of", [usage.of_tree, usage.of_group])
async def test_what_a_child_uses_counts(of: Callable[[int], usage.Usage]) -> None:
    """Its memory and its time are its parent's, as are those of a process group."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, CHILD,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    used = of(process.pid)
    assert used.resident > HELD
    assert used.peak >= used.resident
    assert used.cpu > 0
    await process.communicate(b"\n")


@pytest.mark.parametrize("of", [usage.of_tree, usage.of_group])
async def test_of_a_process_that_has_ended_nothing_is_measured(of: Callable[[int], usage.Usage]) -> None:
    """A contender that is gone is an error, and no zero."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await process.wait()
    with pytest.raises(ProcessLookupError, match="ended"):
        of(process.pid)
    assert of(os.getpgid(0) if of is usage.of_group else os.getpid()).resident > 0
