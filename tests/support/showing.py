"""Commands of the bridge on a terminal, one after the other in one process: what they write there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from bridge import settings as knobs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PATIENCE_SECONDS = 90
_END = "=== end of "

_ALL = f"""
import json, sys
from bridge.cli.main import app
for arguments in json.loads(sys.argv[1]):
    try:
        app(arguments, prog_name="bridge")
    except SystemExit as ended:
        code = ended.code
    sys.stdout.flush()
    sys.stderr.flush()
    print("{_END}" + json.dumps([" ".join(arguments), code]), flush=True)
"""


async def shown(
    commands: Sequence[Sequence[str]], *, directory: Path, terminal: bool, variables: Mapping[str, str]
) -> dict[str, tuple[int, str]]:
    """Each command's exit code, and all that it wrote.

    Args:
        commands: their arguments.
        directory: where they run.
        terminal: whether they write to a terminal, which has no colours; else to a pipe.
        variables: their settings; the environment has no others.
    """
    return await asyncio.to_thread(_shown, commands, directory, variables, terminal=terminal)


def _shown(
    commands: Sequence[Sequence[str]], directory: Path, variables: Mapping[str, str], *, terminal: bool
) -> dict[str, tuple[int, str]]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(knobs.ENVIRONMENT_PREFIX)
    }
    reading, writing = os.openpty() if terminal else os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", _ALL, json.dumps(commands)],
        stdin=subprocess.DEVNULL, stdout=writing, stderr=writing,
        cwd=directory, env=environment | {"TERM": "dumb", "COLUMNS": "300"} | dict(variables),
    ) as process:  # fmt: skip
        os.close(writing)
        written = _everything(reading)
        os.close(reading)
        assert process.wait(_PATIENCE_SECONDS) == 0, written
    return dict(_divided(written.replace("\r\n", "\n")))


def _everything(reading: int) -> str:
    chunks = []
    while True:
        try:
            chunk = os.read(reading, 65536)
        except OSError:  # how a terminal says that nobody writes to it any more
            break
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks).decode()


def _divided(written: str) -> list[tuple[str, tuple[int, str]]]:
    divided = []
    lines: list[str] = []
    for line in written.split("\n"):
        if line.startswith(_END):
            command, code = json.loads(line.removeprefix(_END))
            divided.append((command, (code, "\n".join(lines))))
            lines = []
        else:
            lines.append(line)
    assert not any(lines), lines
    return divided
