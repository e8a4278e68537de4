"""A process that the tests fork is what a process is that users start."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.support.commands import environment_without_settings
from tests.support.masks import signals
from tests.support.warm_starts import ForkedProcess, start_bridge

if TYPE_CHECKING:
    from asyncio.subprocess import Process


async def _simulator(directory: Path, *, fresh: bool) -> Process | ForkedProcess:
    """It has logged that it listens."""
    environment = environment_without_settings() | {"BRIDGE_LOGS__FORMAT": "json"}
    process = await start_bridge("simulator", "--port", "0", cwd=directory, env=environment, fresh=fresh)
    assert process.stderr is not None
    assert orjson.loads(await process.stderr.readline())["action"] == "simulator.started"
    return process


def _seen(pid: int) -> dict[str, Any]:
    """What the kernel says of a process."""
    return {
        "directory": Path(f"/proc/{pid}/cwd").readlink(),
        "descriptors": sorted(os.listdir(f"/proc/{pid}/fd"), key=int),  # noqa: PTH208 -- only the names
        "blocked": signals(pid, "SigBlk"),
        "ignored": signals(pid, "SigIgn"),
        "caught": signals(pid, "SigCgt"),
        "umask": [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "Umask" in line],
        "group": os.getpgid(pid),
        "session": os.getsid(pid),
    }


async def test_a_forked_process_has_what_a_started_one_has(tmp_path: Path) -> None:
    """Folder, files, signals, umask and group; and both end in order."""
    seen = []
    for fresh in (True, False):
        process = await _simulator(tmp_path, fresh=fresh)
        seen.append(_seen(process.pid))
        process.send_signal(signal.SIGTERM)
        _, said = await process.communicate()
        assert (process.returncode, orjson.loads(said)["action"]) == (0, "simulator.stopped")
    assert seen[0] == seen[1]


async def test_a_signal_that_kills_a_forked_process_is_its_exit_code(tmp_path: Path) -> None:
    """As asyncio has it: the number, below 0; and nobody is there any more."""
    process = await _simulator(tmp_path, fresh=False)
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    await process.communicate()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_a_forked_process_has_the_environment_that_is_given(tmp_path: Path) -> None:
    """Nothing of an earlier one is left: neither settings nor the width of the terminal."""
    for width, port in (("60", "1234"), ("120", "4321")):
        environment = environment_without_settings() | {"COLUMNS": width, "BRIDGE_RECEIVER__PORT": port}
        process = await start_bridge("config", "show", "--json", cwd=tmp_path, env=environment)
        printed, _ = await process.communicate()
        assert orjson.loads(printed)["receiver"]["port"] == int(port)
        process = await start_bridge("config", "--help", cwd=tmp_path, env=environment)
        printed, _ = await process.communicate()
        assert max(map(len, printed.decode().splitlines())) == int(width)


@pytest.mark.parametrize("variable", ["PYTHONIOENCODING", "LC_ALL", "TZ"])
async def test_what_only_the_start_of_python_reads_makes_it_a_real_start(
    tmp_path: Path, variable: str
) -> None:
    """A forked process could not have it."""
    environment = environment_without_settings() | {variable: "C"}
    if variable.startswith("PYTHON"):
        environment[variable] = sys.getdefaultencoding()
    process = await start_bridge("--version", cwd=tmp_path, env=environment)
    assert not isinstance(process, ForkedProcess)
    assert await process.communicate() != (b"", b"")
